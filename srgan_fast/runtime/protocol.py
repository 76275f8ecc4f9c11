"""What a runtime has to offer; everything else about pictures happens outside it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from srgan_fast.models import ModelFile

Precision = Literal["fp32", "bf16", "fp16"]
AskedPrecision = Literal["auto", "fp32", "bf16", "fp16"]
FloatImages = NDArray[np.float32]

OnBuild = Callable[[str, int, int], None]
"""Told how far a backend is that has to be built first: the phase, steps done, and steps in all."""


class Backend(Protocol):
    """A network, loaded and ready.

    Attributes:
        name: as in the registry.
        device: where it computes, in words.
    """

    name: str
    device: str

    def run(self, lr: FloatImages) -> FloatImages:
        """Upscales a batch.

        Args:
            lr: N, C, H, W in 0..1, C-contiguous, checked by the caller; H and W are multiples of the network's
                pixel-unshuffle.

        Returns:
            N, C, scale * H, scale * W, not clamped.
        """
        ...


@runtime_checkable
class PixelBackend(Backend, Protocol):
    """A backend that takes pictures as they are, in one piece, whatever their size."""

    def upscale(self, image: NDArray[Any], on_rows: Callable[[int], None] | None = None) -> NDArray[Any]:
        """Upscales a picture.

        Args:
            image: H, W, C, uint8 or uint16, full range; H and W are multiples of the network's pixel-unshuffle.
            on_rows: called now and then with the number of finished rows of the result.

        Returns:
            scale * H, scale * W, C of the same dtype; rounded and clamped.
        """
        ...

    def working_memory(self, height: int, width: int) -> int:
        """Bytes that it needs for a picture of that size, besides the picture and its result."""
        ...


@runtime_checkable
class TilingBackend(Backend, Protocol):
    """A backend that cuts pictures into tiles itself where it has to.

    Attributes:
        halo: pixels of context around a tile; its user may set another.
    """

    halo: int


@runtime_checkable
class RowsBackend(Backend, Protocol):
    """A backend that takes pictures of which only some rows are there at a time."""

    def upscale_rows(
        self,
        height: int,
        width: int,
        dtype: np.dtype[Any],
        read: Callable[[int, int], NDArray[Any]],
        write: Callable[[int, NDArray[Any]], None],
    ) -> None:
        """Upscales a picture to the bits of `PixelBackend.upscale`; what the functions raise ends it.

        Args:
            height: of the picture, a multiple of the network's pixel-unshuffle.
            width: likewise.
            dtype: uint8 or uint16, full range.
            read: given the first of some rows and how many, returns them as rows, W, C. Each row is asked for once,
                from top to bottom.
            write: given the first of some rows of the result and these, as rows, scale * W, C. From top to bottom.
        """
        ...

    def rows_memory(self, height: int, width: int, dtype: np.dtype[Any]) -> int:
        """Bytes that it needs for a picture of that size, besides the rows that it is given."""
        ...


@runtime_checkable
class SharingBackend(Backend, Protocol):
    """A backend of which several can compute side by side with one copy of the weights."""

    @property
    def threads(self) -> int:
        """CPU threads that it computes with."""
        ...

    def sibling(self, threads: int) -> "SharingBackend":
        """Another one for the same network, with threads of its own; its results are the same bits."""
        ...


@runtime_checkable
class LimitedBackend(Backend, Protocol):
    """A backend that takes pictures up to a size.

    Attributes:
        largest_side: of a picture, in pixels.
    """

    largest_side: int


class BackendFactory(Protocol):
    """Builds a backend from a model."""

    def __call__(self, file: ModelFile, precision: Precision, threads: int) -> Backend:
        """Loads the network.

        Raises:
            BackendError: the runtime cannot be imported or refuses the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """A line of the registry.

    Attributes:
        name: what the user types.
        modules: what must be importable.
        extra: of this package, which installs them.
        precisions: those it can compute in.
        load: module and attribute of its factory, imported on first use.
        computes: module and attribute of a function that says whether this machine can compute in a precision; empty
            where every machine can.
        why_not: module and attribute of a function that says why it cannot be used here though it is installed, behind
            its name in a sentence; None from it, or empty, where it can.
        chosen_by_auto: whether `auto` may take it.
        builds: whether its factory takes `on_build`, since loading may take minutes.
    """

    name: str
    modules: tuple[str, ...]
    extra: str
    precisions: tuple[Precision, ...]
    load: str
    computes: str = ""
    why_not: str = ""
    chosen_by_auto: bool = True
    builds: bool = False
