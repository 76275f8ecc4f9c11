from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Pixel = TypeVar("Pixel", bound=np.uint8 | np.uint16 | np.float32)

def resize_region(
    image: NDArray[Pixel], top: int, left: int, height: int, width: int, rows: int, columns: int, edges: str
) -> NDArray[Pixel]: ...
