"""The native CPU engine; csrc/engine/python.cpp."""

from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

_Layer = tuple[NDArray[Any], NDArray[Any], NDArray[Any] | None]
_Colours = tuple[float, float, float]

class Engine:
    def __init__(
        self,
        *,
        head: _Layer,
        trunk: Sequence[_Layer],
        upsample: Sequence[_Layer],
        tail: _Layer,
        input_map: tuple[_Colours, _Colours],
        output_map: tuple[_Colours, _Colours],
        tanh: bool,
        precision: str,
        threads: int,
    ) -> None: ...
    @property
    def isa(self) -> str: ...
    @property
    def scale(self) -> int: ...
    @property
    def threads(self) -> int: ...
    def working_memory(self, height: int, width: int) -> int: ...
    def peak(self) -> float: ...
    def layer_times(self) -> list[tuple[str, float, float]]: ...
    def run(self, image: NDArray[Any], progress: Callable[[int], None] | None = None) -> NDArray[Any]: ...

def isas() -> list[str]: ...
def isa() -> str: ...
