"""The layers of `ops.infer` in plain torch, from packed weights, as the CUDA kernels go through them."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def product(x: Tensor, weights: Tensor, out: int, rows: int, columns: int) -> Tensor:
    """A convolution with packed weights, one tap after the other, as the kernels go through them.

    In float64, since torch may add up in another order where an image has another size, and rounding its maps to 16
    bits would magnify that.
    """
    height, width = x.shape[2:]
    padded = F.pad(x.double(), (columns // 2, columns // 2, rows // 2, rows // 2))
    total = torch.zeros(x.shape[0], out, height, width, dtype=torch.float64)
    for tap in range(rows * columns):
        window = padded[:, :, tap // columns :, tap % columns :][:, :, :height, :width]
        total += torch.einsum("nchw,oc->nohw", window, weights[tap, :out, : x.shape[1]].double())
    return total.float()


def emulated_conv(
    x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor | None = None, residuals: Sequence[Tensor] = (),
    scales: Sequence[float] = (), shuffle: int = 1, weights_are_constant: bool = False, out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    assert x.stride(1) == 1
    assert x.shape[1] % 8 == len(bias) % (8 * shuffle**2) == 0
    assert len(residuals) <= 2
    assert not (residuals and shuffle > 1)
    side = math.isqrt(weights.shape[0])
    y = product(x, weights, len(bias), side, side) + bias[:, None, None]
    if slope is not None:
        y = torch.where(y > 0, y, y * slope[:, None, None])
    if residuals:
        y = y.to(x.dtype).float()
    for residual, scale in zip(residuals, scales, strict=True):
        assert residual.stride(1) == 1
        y = y + scale * residual.float()
    if shuffle > 1:
        y = y.unflatten(1, (shuffle**2, -1)).transpose(1, 2).flatten(1, 2)  # type: ignore[no-untyped-call]
        y = F.pixel_shuffle(y, shuffle)
    if out is None:
        return y.to(x.dtype, memory_format=torch.channels_last)
    assert out.stride(1) == 1
    return out.copy_(y)


def emulated_block(
    x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor, outer_weights: Tensor, outer_bias: Tensor,
    weights_are_constant: bool = False,
) -> Tensor:  # fmt: skip
    assert x.is_contiguous(memory_format=torch.channels_last)
    inner = emulated_conv(x, weights, bias, slope)
    return emulated_conv(inner, outer_weights, outer_bias, residuals=[x], scales=[1.0])


def emulated_picture(
    x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor | None = None, colours: int = 3, shuffle: int = 1
) -> Tensor:
    assert x.stride(1) == 1
    side = math.isqrt(weights.shape[0])
    y = product(x, weights, len(bias), side, side) + bias[:, None, None]
    if slope is not None:
        y = torch.where(y > 0, y, y * slope[:, None, None])
    assert len(bias) == colours * shuffle**2
    return F.pixel_shuffle(y, shuffle)


def emulated_head(
    pictures: Tensor, gain: Sequence[float], offset: Sequence[float], weights: Tensor, bias: Tensor, slope: Tensor,
    weights_are_constant: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of pixels by twos, from one above the image on."""
    mapped = torch.stack([pictures[:, c] * gain[c] + offset[c] for c in range(3)], 1)
    height, width = pictures.shape[2:]
    padded = F.pad(mapped, (4, 4, 4, 5)).double()
    y = bias[:, None, None].double().expand(len(pictures), -1, height, width)
    for tap in range(5):
        rows = [padded[:, :, 2 * tap + r :, a:][:, :, :height, :width] for r in range(2) for a in range(9)]
        y = y + torch.einsum("nchw,oc->nohw", torch.cat(rows, 1), weights[tap, : len(bias), :54].double())
    y = torch.where(y > 0, y, y * slope[:, None, None])
    return y.to(weights.dtype, memory_format=torch.channels_last)


def emulated_tail(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Products of columns of taps, added up along rows of pixels."""
    width = x.shape[3]
    products = product(F.pad(x, (2, 2)), weights, 60, 5, 1).view(x.shape[0], 5, 12, x.shape[2], -1)
    total = torch.stack([products[:, tap, :, :, tap : tap + width] for tap in range(5)]).sum(0)
    return F.pixel_shuffle(total, 2) + bias[:, None, None]
