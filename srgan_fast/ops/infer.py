"""A network's layers in inference on CUDA: operators, packing of their weights, references.

    head: images to features,       prelu(conv(gain * image + offset)), up to 9x9
    conv: features to features,     prelu(conv(x)) + scaled residuals, or pixel_shuffle(prelu(conv(x)))
    block: features to features,    conv3x3(prelu(conv3x3(x))) + x, of 64 channels
    picture: features to images,    pixel_shuffle(prelu(conv(x)))
    tail: features to images,       conv9x9(pixel_shuffle(x))

each one kernel (a block two, where the device has too little shared memory), with zero padding in front of the
convolution; the head takes another one that unfolds the image. Features are N, C, H, W in channels_last memory,
bfloat16 or float16, C a multiple of 8; those of `conv` and `picture` may be channels of wider maps, from a multiple of
8 on. Products are added up in float32. Vectors are float32; `slope` has a value for each channel of the convolution's
result.

Before a pixel shuffle by r, features of r^2 pixels stand beside each other phase by phase: channel
`(r * dy + dx) * C + c` belongs to channel `c` of pixel `(r * y + dy, r * x + dx)`; see `conv.phase_major`. Those of
images are in PyTorch's order, `(c * r + dy) * r + dx`.

The kernels (csrc/kernels/cuda/infer_mma.cuh, infer_block.cuh) are in the library that is built with nvcc;
`native.why_not_on_cuda` says whether it is there. They have no gradients.
"""

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.ops.conv import phase_minor, tail_weight
from srgan_fast.ops.native import refuse_several_devices, why_not_on_cuda

UNIT = 8  # what channels of features are multiples of
ENDS_SIDE = 9  # of the filters of `head` and `tail`, at most
UNFOLDED_CHANNELS = 64  # of the map that the head's kernel reads
RESIDUALS = 2  # that `conv` adds, at most
BLOCK_CHANNELS = 64  # of the features that `block` takes
_ROWS, _COLUMNS = 128, 64  # what packed weights are rounded up to: kInferRows and kInferColumns of plan.h
_HEAD_ROWS = 2  # of pixels that the head's convolution reads together


def _packed(weights: Tensor, dtype: torch.dtype) -> Tensor:
    """taps, O, I to taps, O and I up to whole blocks, the rest zeros."""
    _, rows, columns = weights.shape
    return F.pad(weights, (0, -columns % _COLUMNS, 0, -rows % _ROWS)).to(dtype).contiguous()


def _of_ends(weight: Tensor) -> Tensor:
    """Filters in the middle of 9x9 ones that compute the same."""
    margin = (ENDS_SIDE - weight.shape[3]) // 2
    return F.pad(weight, (margin,) * 4)


def pack_conv(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights as `conv` and `picture` take them.

    Args:
        weight: O, C, k, k with k odd and at most 9; with `conv`'s shuffle O is all pixels' channels, phase by phase.
        dtype: of the features.

    Returns:
        k * k, O up to 128s, C up to 64s.
    """
    return _packed(weight.permute(2, 3, 0, 1).flatten(0, 1), dtype)


def pack_head(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights as `head` takes them: two rows of taps are one convolution's channels, `27 * row + 3 * column + colour`.

    Args:
        weight: O, 3, k, k with k odd and at most 9.
        dtype: of the features.

    Returns:
        5, O up to 128s, 64.
    """
    rows = F.pad(_of_ends(weight), (0, 0, 0, 1)).permute(2, 0, 3, 1).flatten(2)  # 10, O, 27
    pairs = rows.view(-1, _HEAD_ROWS, *rows.shape[1:]).transpose(1, 2).flatten(2)
    return _packed(pairs, dtype)


def pack_tail(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """Weights as `tail` takes them: in the 5x5 form of `conv.tail_weight`, a tap for each row.

    Args:
        weight: 3, C, k, k with k odd and at most 9.
        dtype: of the features.

    Returns:
        5, 60 up to 128 (column of taps, colour, phase), 4 C up to 64s.
    """
    return _packed(tail_weight(_of_ends(weight)).permute(2, 3, 0, 1).flatten(1, 2), dtype)


def head(
    images: Tensor,
    gain: Sequence[float],
    offset: Sequence[float],
    weights: Tensor,
    bias: Tensor,
    slope: Tensor,
    settled: bool = False,
) -> Tensor:
    """Images to features: `prelu(conv(gain * image + offset) + bias)`.

    Args:
        images: N, 3, H, W, float32, on a CUDA device.
        gain: of each colour.
        offset: of each colour.
        weights: see `pack_head`; their type is that of the features.
        bias: O, a multiple of 8.
        slope: O.
        settled: see `conv`.

    Returns:
        N, O, H, W.

    Raises:
        RuntimeError: shapes, types or devices that it does not do; the message says which.
    """
    return cast(
        Tensor, torch.ops.srgan_fast.infer_head(images, list(gain), list(offset), weights, bias, slope, settled)
    )


def conv(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    slope: Tensor | None = None,
    residuals: Sequence[Tensor] = (),
    scales: Sequence[float] = (),
    shuffle: int = 1,
    settled: bool = False,
    out: Tensor | None = None,
) -> Tensor:
    """Features to features: `prelu(conv(x) + bias) + sum_k scale_k * residual_k`, or with a shuffle that of its pixels.

    Args:
        x: N, C, H, W.
        weights: see `pack_conv`.
        bias: O.
        slope: O, or None for no activation.
        residuals: at most two of N, O, H, W; none with a shuffle.
        scales: a factor for each residual.
        shuffle: the O channels are those of shuffle^2 pixels, phase by phase.
        settled: weights, bias and slope were written before the kernel that comes before this one began, so that they
            may be read before that one has ended.
        out: to write to, which may be channels of a wider map but overlaps nothing that is read; a new map if None.

    Returns:
        N, O / shuffle^2, shuffle * H, shuffle * W.

    Raises:
        RuntimeError: shapes, types or devices that it does not do; the message says which.
    """
    given = (x, weights, bias, slope, list(residuals), list(scales), shuffle, settled)
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
        colours: of the images.
        shuffle: factor of the pixel shuffle.

    Returns:
        N, colours, shuffle * H, shuffle * W, float32, contiguous.

    Raises:
        RuntimeError: shapes, types or devices that it does not do; the message says which.
    """
    return cast(Tensor, torch.ops.srgan_fast.infer_picture(x, weights, bias, slope, colours, shuffle))


def block(
    x: Tensor,
    weights: Tensor,
    bias: Tensor,
    slope: Tensor,
    outer_weights: Tensor,
    outer_bias: Tensor,
    settled: bool = False,
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
        settled: see `conv`.
        way: which of the kernels, `kBlockSizes` of plan.h; the fastest one if it is negative.

    Returns:
        N, 64, H, W.

    Raises:
        RuntimeError: shapes, types or devices that it does not do; the message says which.
    """
    return cast(
        Tensor,
        torch.ops.srgan_fast.infer_block(x, weights, bias, slope, outer_weights, outer_bias, settled, way),
    )


def tail(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Features to images: `conv9x9(pixel_shuffle(x)) + bias`.

    Args:
        x: N, 4 C, H, W, phase by phase.
        weights: see `pack_tail`.
        bias: 3.

    Returns:
        N, 3, 2H, 2W, float32, contiguous.

    Raises:
        RuntimeError: shapes, types or devices that it does not do; the message says which.
    """
    return cast(Tensor, torch.ops.srgan_fast.infer_tail(x, weights, bias))


def head_reference(
    images: Tensor, gain: Sequence[float], offset: Sequence[float], weight: Tensor, bias: Tensor, slope: Tensor
) -> Tensor:
    """`head` in plain torch, with weights as they are: O, 3, k, k."""
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
    """`conv` in plain torch, with weights as they are: O, C, k, k."""
    y = F.conv2d(x, weight, bias, padding=weight.shape[3] // 2)
    if slope is not None:
        y = torch.where(y > 0, y, y * slope[:, None, None])
    for residual, scale in zip(residuals, scales, strict=True):
        y = y + scale * residual
    return _shuffled(y, shuffle)


def picture_reference(
    x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor | None = None, colours: int = 3, shuffle: int = 1
) -> Tensor:
    """`picture` in plain torch, with weights as they are: O, C, k, k."""
    return F.pixel_shuffle(conv_reference(x, weight, bias, slope), shuffle)


def block_reference(
    x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor, outer_weight: Tensor, outer_bias: Tensor
) -> Tensor:
    """`block` in plain torch, with weights as they are: 64, 64, 3, 3."""
    return conv_reference(conv_reference(x, weight, bias, slope), outer_weight, outer_bias, residuals=[x], scales=[1.0])


def tail_reference(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """`tail` in plain torch, with weights as they are: 3, C, 9, 9."""
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
    settled: bool = False,
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
    settled: bool = False,
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
    settled: bool,
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
    settled: bool = False,
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
