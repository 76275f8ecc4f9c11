"""ST-LPIPS, the shift-tolerant perceptual distance (Ghildyal and Liu 2022), computed by its authors' package.

PSNR prefers blurred images. This distance compares features of an AlexNet trained on human judgements, and tolerates
texture that is shifted by a pixel. The package, `stlpips_pytorch`, is optional and includes the weights.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import DataError

if TYPE_CHECKING:
    import torch

PACKAGE = "stlpips_pytorch"
MIN_SIDE = 21  # in smaller images the deepest feature maps are too small for reflection padding
# The package imports these modules without using them or declaring them as dependencies; missing ones are replaced by
# empty modules during its import.
_UNUSED = {"IPython": "embed", "torchsummary": "summary"}


def available() -> bool:
    """Whether the package and its dependencies are installed."""
    return all(find_spec(name) is not None for name in (PACKAGE, "torch", "torchvision"))


def st_lpips(a: NDArray[np.uint8], b: NDArray[np.uint8], device: str = "cpu") -> float:
    """Distance of two images; 0 for equal images, lower is better.

    Uses AlexNet, variant `shift_tolerant`, on the whole image with values scaled to -1..1.

    Args:
        a: H, W, 3 or H, W, 1 (gray, which is repeated), 8 bits, with sides of at least `MIN_SIDE` pixels.
        b: image of the same shape.
        device: torch device for the computation.

    Raises:
        DataError: different shapes, or images that are too small.
        ImportError: the package is not installed; see `available`.
    """
    if a.shape != b.shape:
        raise DataError(f"ST-LPIPS compares images of one shape, got {a.shape} and {b.shape}")
    if min(a.shape[:2]) < MIN_SIDE:
        raise DataError(f"ST-LPIPS needs images of {MIN_SIDE} pixels a side, got {a.shape[1]}x{a.shape[0]}")
    import torch  # noqa: PLC0415 (evaluation works without it)

    def batch(image: NDArray[np.uint8]) -> "torch.Tensor":
        pixels = torch.from_numpy(np.ascontiguousarray(image)).to(device)
        return pixels.permute(2, 0, 1)[None].expand(1, 3, -1, -1).float() / 127.5 - 1

    with torch.inference_mode(), torch.autocast(torch.device(device).type, enabled=False):
        return float(_network(device)(batch(a), batch(b)))


@cache
def _network(device: str) -> "torch.nn.Module":
    with _stand_ins():
        from stlpips_pytorch.stlpips import LPIPS  # noqa: PLC0415 (an extra)
    network: torch.nn.Module = LPIPS(net="alex", variant="shift_tolerant", verbose=False).to(device)
    return network.eval().requires_grad_(False)


@contextmanager
def _stand_ins() -> Iterator[None]:
    missing = [name for name in _UNUSED if name not in sys.modules and find_spec(name) is None]
    for name in missing:
        module = ModuleType(name)
        setattr(module, _UNUSED[name], None)
        sys.modules[name] = module
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
