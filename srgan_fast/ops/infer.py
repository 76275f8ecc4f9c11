"""CUDA inference layers: operators, weight packing, references.

    head: images to features,       prelu(conv(gain * image + offset)), up to 9x9
    conv: features to features,     prelu(conv(x)) + scaled residuals, or pixel_shuffle(prelu(conv(x)))
    block: features to features,    conv3x3(prelu(conv3x3(x))) + x, of 64 channels
    picture: features to images,    pixel_shuffle(prelu(conv(x)))
    tail: features to images,       conv9x9(pixel_shuffle(x))

Each is one kernel with zero-padded convolutions (`block` takes two where the device has too little shared memory; the
head takes another one that unfolds the image). Features are N, C, H, W in channels_last memory, bfloat16 or float16, C
a multiple of 8; those of `conv` and `picture` may be channel slices of wider maps that start at a multiple of 8.
Accumulation is in float32. Vectors are float32; `slope` has one value per output channel of the convolution.

Before a pixel shuffle by r, channels of features are phase-major: channel `(r * dy + dx) * C + c` becomes channel `c`
of pixel `(r * y + dy, r * x + dx)`; see `conv.phase_major`. Channels that become images are in PyTorch's order,
`(c * r + dy) * r + dx`.

The kernels (csrc/kernels/cuda/infer_mma.cuh, infer_block.cuh) are part of the CUDA library; `native.why_not_on_cuda`
says whether it is available. They have no gradients.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.ops.conv import tail_weight
from srgan_fast.ops.native import refuse_several_devices, why_not_on_cuda
from srgan_fast.ops.prologue import phase_minor

UNIT = 8  # channels of features are multiples of it
ENDS_SIDE = 9  # largest kernel side of `head` and `tail`
UNFOLDED_CHANNELS = 64  # channels of the unfolded image
RESIDUALS = 2  # most residuals of `conv`
BLOCK_CHANNELS = 64  # channels of `block`
_ROWS, _COLUMNS = 128, 64  # packed weights are padded to multiples of these: kInferRows and kInferColumns of plan.h
_HEAD_ROWS = 2  # pixel rows that the unfolded head reads together


def _packed(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """Pads taps, O, I with zeros to whole blocks of O and I."""
    _, rows, columns = weights.shape
    return F.pad(weights, (0, -columns % _COLUMNS, 0, -rows % _ROWS)).to(dtype).contiguous()


def _of_ends(weight: Tensor) -> Tensor:
    """Embeds kernels in the centre of 9x9 ones that compute the same."""
    margin = (ENDS_SIDE - weight.shape[3]) // 2
    return F.pad(weight, (margin,) * 4)


def pack_conv(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Packs weights for `conv` and `picture`.

    Args:
        weight: O, C, k, k with k odd, at most 9; with `conv`'s shuffle the channels O are phase-major.
        dtype: of the features.

    Returns:
        k * k, O padded to multiples of 128, C padded to multiples of 64.
    """
    return _packed(weight.permute(2, 3, 0, 1).flatten(0, 1), dtype)


def pack_head(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Packs weights for `head`: two rows of taps become one convolution's channels, `27 * row + 3 * column + colour`.

    Args:
        weight: O, 3, k, k with k odd, at most 9.
        dtype: of the features.

    Returns:
        5, O padded to a multiple of 128, 64.
    """
    rows = F.pad(_of_ends(weight), (0, 0, 0, 1)).permute(2, 0, 3, 1).flatten(2)  # 10, O, 27
    pairs = rows.view(-1, _HEAD_ROWS, *rows.shape[1:]).transpose(1, 2).flatten(2)
    return _packed(pairs, dtype)


def pack_tail(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Packs weights for `tail`: the 5x5 form of `conv.tail_weight`, one tap per row.

    Args:
        weight: 3, C, k, k with k odd, at most 9.
        dtype: of the features.

    Returns:
        5, 60 padded to 128 (column of taps, colour, phase), 4 C padded to a multiple of 64.
    """
    return _packed(tail_weight(_of_ends(weight)).permute(2, 3, 0, 1).flatten(1, 2), dtype)


def head(
    images: Tensor,
    gain: Sequence[float],
    offset: Sequence[float],
    weights: Tensor,
    bias: Tensor,
    slope: Tensor,
    weights_are_constant: bool = False,
) -> Tensor:
    """Images to features: `prelu(conv(gain * image + offset) + bias)`.

    Args:
        images: N, 3, H, W, float32, on a CUDA device.
        gain: factor per colour.
        offset: offset per colour.
        weights: see `pack_head`; the features have their dtype.
        bias: O, a multiple of 8.
        slope: O.
        weights_are_constant: see `conv`.

    Returns:
        N, O, H, W.

    Raises:
        RuntimeError: unsupported shapes, dtypes or devices; the message says which.
    """
    return cast(
        Tensor,
        torch.ops.srgan_fast.infer_head(images, list(gain), list(offset), weights, bias, slope, weights_are_constant),
    )


def conv(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    slope: Tensor | None = None,
    residuals: Sequence[Tensor] = (),
    scales: Sequence[float] = (),
    shuffle: int = 1,
    weights_are_constant: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Features to features: `prelu(conv(x) + bias) + sum_k scale_k * residual_k`, optionally pixel-shuffled.

    Args:
        x: N, C, H, W.
        weights: see `pack_conv`.
        bias: O.
        slope: O, or None for no activation.
        residuals: at most two of N, O, H, W; none with a shuffle.
        scales: factor per residual.
        shuffle: factor of the pixel shuffle of the phase-major O channels; 1 for none.
        weights_are_constant: weights, bias and slope are not written by the preceding kernel, so they may be prefetched
            before it has finished.
        out: output, which may be a channel slice of a wider map and must not overlap any input; a new map if None.

    Returns:
        N, O / shuffle^2, shuffle * H, shuffle * W.

    Raises:
        RuntimeError: unsupported shapes, dtypes or devices; the message says which.
    """
    given = (x, weights, bias, slope, list(residuals), list(scales), shuffle, weights_are_constant)
    if out is None:
        return cast(Tensor, torch.ops.srgan_fast.infer_conv(*given))
    torch.ops.srgan_fast.infer_conv_into(*given, out)
    return out


def picture(
    x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor | None = None, colours: int = 3, shuffle: int = 1
) -> Tensor:
    """Features to images: `pixel_shuffle(prelu(conv(x) + bias))`.

    Args:
        x: N, C, H, W.
        weights: see `pack_conv`; O is colours * shuffle^2, in PyTorch's order.
        bias: O.
        slope: O, or None for no activation.
        colours: channels of the images.
        shuffle: factor of the pixel shuffle.

    Returns:
        N, colours, shuffle * H, shuffle * W, float32, contiguous.

    Raises:
        RuntimeError: unsupported shapes, dtypes or devices; the message says which.
    """
    return cast(Tensor, torch.ops.srgan_fast.infer_picture(x, weights, bias, slope, colours, shuffle))


def block(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    slope: Tensor,
    outer_weights: Tensor,
    outer_bias: Tensor,
    weights_are_constant: bool = False,
    way: int = -1,
) -> Tensor:
    """A residual block: `conv3x3(prelu(conv3x3(x) + bias)) + outer_bias + x`.

    Args:
        x: N, 64, H, W.
        weights: of the first convolution; see `pack_conv`.
        bias: 64.
        slope: 64.
        outer_weights: of the second convolution.
        outer_bias: 64.
        weights_are_constant: see `conv`.
        way: index of the kernel in `kBlockSizes` of plan.h; negative for the fastest.

    Returns:
        N, 64, H, W.

    Raises:
        RuntimeError: unsupported shapes, dtypes or devices; the message says which.
    """
    return cast(
        Tensor,
        torch.ops.srgan_fast.infer_block(x, weights, bias, slope, outer_weights, outer_bias, weights_are_constant, way),
    )


def tail(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Features to images: `conv9x9(pixel_shuffle(x)) + bias`.

    Args:
        x: N, 4 C, H, W, phase-major.
        weights: see `pack_tail`.
        bias: 3.

    Returns:
        N, 3, 2H, 2W, float32, contiguous.

    Raises:
        RuntimeError: unsupported shapes, dtypes or devices; the message says which.
    """
    return cast(Tensor, torch.ops.srgan_fast.infer_tail(x, weights, bias))


def head_reference(
    images: Tensor, gain: Sequence[float], offset: Sequence[float], weight: Tensor, bias: Tensor, slope: Tensor
) -> Tensor:
    """`head` in plain PyTorch, with unpacked weights: O, 3, k, k."""
    factors, offsets = (images.new_tensor(values).view(1, 3, 1, 1) for values in (gain, offset))
    y = F.conv2d(images * factors + offsets, weight, bias, padding=weight.shape[3] // 2)
    return torch.where(y > 0, y, y * slope[:, None, None])


def conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    slope: Tensor | None = None,
    residuals: Sequence[Tensor] = (),
    scales: Sequence[float] = (),
    shuffle: int = 1,
) -> Tensor:
    """`conv` in plain PyTorch, with unpacked weights: O, C, k, k."""
    y = F.conv2d(x, weight, bias, padding=weight.shape[3] // 2)
    if slope is not None:
        y = torch.where(y > 0, y, y * slope[:, None, None])
    for residual, scale in zip(residuals, scales, strict=True):
        y = y + scale * residual
    return _shuffled(y, shuffle)


def picture_reference(
    x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor | None = None, colours: int = 3, shuffle: int = 1
) -> Tensor:
    """`picture` in plain PyTorch, with unpacked weights: O, C, k, k."""
    return F.pixel_shuffle(conv_reference(x, weight, bias, slope), shuffle)


def block_reference(
    x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, outer_weight: Tensor, outer_bias: Tensor
) -> Tensor:
    """`block` in plain PyTorch, with unpacked weights: 64, 64, 3, 3."""
    return conv_reference(conv_reference(x, weight, bias, slope), outer_weight, outer_bias, residuals=[x], scales=[1.0])


def tail_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`tail` in plain PyTorch, with unpacked weights: 3, C, 9, 9."""
    return F.conv2d(_shuffled(x, 2), weight, bias, padding=4)


def _shuffled(x: Tensor, factor: int) -> Tensor:
    return F.pixel_shuffle(phase_minor(x.transpose(0, 1), factor**2).transpose(0, 1), factor)


def _fake_head(
    images: Tensor,
    gain: Sequence[float],
    offset: Sequence[float],
    weights: Tensor,
    bias: Tensor,
    slope: Tensor,
    weights_are_constant: bool = False,
) -> Tensor:
    refuse_several_devices("infer_head", images, weights, bias, slope)
    n, _, height, width = images.shape
    return _features(weights, n, bias.shape[0], height, width)


def _fake_conv(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    slope: Tensor | None,
    residuals: Sequence[Tensor],
    scales: Sequence[float],
    shuffle: int,
    weights_are_constant: bool = False,
) -> Tensor:
    refuse_several_devices("infer_conv", x, weights, bias, slope, *residuals)
    n, _, height, width = x.shape
    return _features(x, n, bias.shape[0] // shuffle**2, height * shuffle, width * shuffle)


def _fake_conv_into(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    slope: Tensor | None,
    residuals: Sequence[Tensor],
    scales: Sequence[float],
    shuffle: int,
    weights_are_constant: bool,
    y: Tensor,
) -> None:
    refuse_several_devices("infer_conv_into", x, weights, bias, slope, *residuals, y)


def _fake_picture(x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor | None, colours: int, shuffle: int) -> Tensor:
    refuse_several_devices("infer_picture", x, weights, bias, slope)
    n, _, height, width = x.shape
    return x.new_empty((n, colours, height * shuffle, width * shuffle), dtype=torch.float32)


def _fake_block(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    slope: Tensor,
    outer_weights: Tensor,
    outer_bias: Tensor,
    weights_are_constant: bool = False,
    way: int = -1,
) -> Tensor:
    refuse_several_devices("infer_block", x, weights, bias, slope, outer_weights, outer_bias)
    return _features(x, *x.shape)


def _fake_tail(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    refuse_several_devices("infer_tail", x, weights, bias)
    return x.new_empty((x.shape[0], 3, 2 * x.shape[2], 2 * x.shape[3]), dtype=torch.float32)


def _features(like: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


if why_not_on_cuda() is None:
    torch.library.register_fake("srgan_fast::infer_head", _fake_head)
    torch.library.register_fake("srgan_fast::infer_conv", _fake_conv)
    torch.library.register_fake("srgan_fast::infer_conv_into", _fake_conv_into)
    torch.library.register_fake("srgan_fast::infer_picture", _fake_picture)
    torch.library.register_fake("srgan_fast::infer_block", _fake_block)
    torch.library.register_fake("srgan_fast::infer_tail", _fake_tail)
