"""What a runtime has to offer; everything else about pictures happens outside it."""

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from srgan_fast.models import GeneratorFile

Precision = Literal["fp32", "bf16"]
FloatImages = NDArray[np.float32]


class Backend(Protocol):
    """A generator, loaded and ready.

    Attributes:
        name: as in the registry.
        device: where it computes, in words.
    """

    name: str
    device: str

    def run(self, lr: FloatImages) -> FloatImages:
        """Upscales a batch.

        Args:
            lr: N, 3, H, W in 0..1, C-contiguous, checked by the caller.

        Returns:
            N, 3, scale * H, scale * W, not clamped.
        """
        ...


class BackendFactory(Protocol):
    """Builds a backend from a generator file."""

    def __call__(self, file: GeneratorFile, precision: Precision, threads: int) -> Backend:
        """Loads the generator.

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
    """

    name: str
    modules: tuple[str, ...]
    extra: str
    precisions: tuple[Precision, ...]
    load: str
