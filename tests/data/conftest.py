"""Folders of images to be read."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from srgan_fast.data.images import Image, write_image

MakeFolder = Callable[..., Path]


@pytest.fixture
def noise() -> Callable[..., NDArray[Any]]:
    """Noise of a given shape and dtype, the same for the same seed."""

    def make(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
        return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)

    return make


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """Writes images under the names they are given by into a folder of the test's own."""

    def make(**pictures: NDArray[Any] | Image) -> Path:
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        for name, picture in pictures.items():
            write_image(folder / f"{name}.png", picture if isinstance(picture, Image) else Image(picture))
        return folder

    return make
