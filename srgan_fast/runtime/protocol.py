"""Interfaces of backends; all other processing of images happens outside them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from srgan_fast.models import ModelFile

if TYPE_CHECKING:
    from srgan_fast.data.images import Pixels

Pixel = TypeVar("Pixel", bound=np.uint8 | np.uint16)
Precision = Literal["fp32", "bf16", "fp16"]
RequestedPrecision = Literal["auto", "fp32", "bf16", "fp16"]
FloatImages = NDArray[np.float32]

OnBuild = Callable[[str, int, int], None]
"""Called with the progress of building a backend: phase, finished steps, and total number of steps."""


class Backend(Protocol):
    """A loaded network.

    Attributes:
        name: name in the registry.
        device: description of the device that it computes on.
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
    """A backend that accepts integer images of any size, without tiling."""

    def upscale(self, image: NDArray[Pixel], on_rows: Callable[[int], None] | None = None) -> NDArray[Pixel]:
        """Upscales an image.

        Args:
            image: H, W, C, uint8 or uint16, full range; H and W are multiples of the network's pixel-unshuffle.
            on_rows: called from time to time with the number of finished rows of the result.

        Returns:
            scale * H, scale * W, C of the same dtype; rounded and clamped.
        """
        ...

    def working_memory(self, height: int, width: int) -> int:
        """Bytes needed for an image of that size, in addition to the image and its result."""
        ...


@runtime_checkable
class TilingBackend(Backend, Protocol):
    """A backend that splits images into tiles itself when necessary.

    Attributes:
        halo: pixels of context around a tile; callers may change it.
    """

    halo: int


@runtime_checkable
class RowsBackend(Backend, Protocol):
    """A backend that can upscale images by rows, with only some of them in memory at a time."""

    def upscale_rows(
        self,
        height: int,
        width: int,
        dtype: np.dtype[np.uint8 | np.uint16],
        read: "Callable[[int, int], Pixels]",
        write: "Callable[[int, Pixels], None]",
    ) -> None:
        """Upscales an image, with the same result as `PixelBackend.upscale`, bit for bit.

        Exceptions raised by the callbacks end the computation.

        Args:
            height: number of rows of the image, a multiple of the network's pixel-unshuffle.
            width: number of columns of the image, likewise.
            dtype: uint8 or uint16, full range.
            read: called with the index of the first requested row and the number of rows; returns them as rows, W, C.
                Every row is requested once, from top to bottom.
            write: called with the index of the first row of a part of the result and its rows, scale * W, C pixels;
                from top to bottom.
        """
        ...

    def rows_memory(self, height: int, width: int, dtype: np.dtype[np.uint8 | np.uint16]) -> int:
        """Bytes needed for an image of that size, in addition to the rows that are passed."""
        ...


@runtime_checkable
class SharingBackend(Backend, Protocol):
    """A backend of which several instances can compute in parallel with one copy of the weights."""

    @property
    def threads(self) -> int:
        """Number of CPU threads."""
        ...

    def sibling(self, threads: int) -> "SharingBackend":
        """Another instance for the same network with separate threads; its results are the same, bit for bit."""
        ...


@runtime_checkable
class LimitedBackend(Backend, Protocol):
    """A backend that accepts images up to a certain size.

    Attributes:
        largest_side: largest width and height of an image in pixels.
    """

    largest_side: int


class BackendFactory(Protocol):
    """Builds a backend from a model."""

    def __call__(self, file: ModelFile, precision: Precision, threads: int) -> Backend:
        """Loads the network.

        Raises:
            BackendError: the runtime cannot be imported or rejects the model.
        """
        ...


@dataclass(frozen=True, slots=True)
class BackendEntry:
    """An entry of the registry.

    Attributes:
        name: name of the backend, as given by users.
        modules: required modules.
        extra: extra of this package that installs them.
        precisions: supported precisions.
        load: module and attribute of its factory, imported on first use.
        computes: module and attribute of a function that returns whether this machine supports a precision; empty if
            every machine does.
        why_not: module and attribute of a function that returns why an installed backend cannot be used on this
            machine, as the end of a sentence that starts with its name, or None if it can; empty if it always can.
        chosen_by_auto: whether `auto` may select it without a CUDA device.
        builds: whether its factory accepts `on_build`, since loading may take minutes.
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
