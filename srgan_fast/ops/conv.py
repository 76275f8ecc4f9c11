"""The fused convolution: a prologue, a convolution, an epilogue; schema, reference, shapes and gradients.

The convolution's input `z` is computed from the raw result `x` of an earlier one while it is read, and never stored:

    z = a(scale * (x - center) + shift)               BatchNorm and activation of what came before; or
    z = scale * (x - center) + shift + residual       the end of a residual block; or
    z = pixel_shuffle(a(scale * (x - center) + shift))

with `a(u) = u if u > 0 else slope * u` and zero padding behind all that. (On CUDA it may be made for the time of a
call.) The result is `y = conv(z, weight) + bias`, with an activation of one slope if wanted, or with the mean and the
biased variance of each channel, which is what a BatchNorm behind it needs. Backward, the gradients of mean and variance
are spread over the gradient of `y` where that is read. So autograd sees BatchNorm as arithmetic on vectors of channels,
and keeps no normalised or activated map. Gradients of weights are rounded to the maps' type where torch's library
computes them on CUDA, as under autocast, else they are sums in float32.

Maps are N, C, H, W in channels_last memory (others are copied into it). On a CPU they are float32, float64, or
bfloat16, which is computed in float32; or on processors with AMX in its tiles, and with stride 2 where AVX-512 has dot
products of bfloat16: there z, weights and gradients are rounded to it for the products, which are added in float32. On
CUDA they are bfloat16 or float16, which tensor cores multiply as they are and add in float32, or float32, which torch's
library multiplies, in TF32 if `torch.backends.cudnn.allow_tf32`; floats have channels in multiples of 8 wherever
something stands before or behind, unless `ops.cuda.products` asks for our own products in TF32. With 16-bit maps the
weights are float32. All other tensors have the weights' type. `shuffle` takes the channels of `x` phase by phase:
channel `(2 * dy + dx) * C + c` becomes channel `c` of pixel `(2y + dy, 2x + dx)`; see `phase_major`.

The kernels are Winograd's on a CPU (csrc/kernels/cpu/conv.h), of bfloat16's products the direct form. On CUDA they are
implicit products of matrices, or passes around the products of torch's library, as csrc/kernels/cuda/plan.h chooses.
Gradients of gradients are refused: `create_graph=True` works, and the second backward pass raises.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.errors import TrainingError
from srgan_fast.ops.direct import below_autograd, with_gradient, without_gradient
from srgan_fast.ops.native import available, refuse_several_devices, why_not_on_cuda

Maybe = Tensor | None
_ops: Any = torch.ops.srgan_fast

_WEIGHT, _BIAS = 1, 2  # places among the operator's arguments
UNIT, MOST_CHANNELS = 8, 2048  # of maps that CUDA's passes take: in multiples of the one, up to the other
_data_only: ContextVar[bool] = ContextVar("data_gradients_only", default=False)
# Private in torch, though used by its own checkpointing; without it gradients are computed that nobody asked for.
_will_execute: Callable[[Any], bool] | None = getattr(torch._C, "_will_engine_execute_node", None)


class ConvResult(NamedTuple):
    """What a fused convolution gives.

    Attributes:
        y: N, O, H', W'.
        mean: O means over N, H', W' of `y`, or no elements where moments were not asked for.
        var: O biased variances, or no elements.
        sum: `z` where there was a residual, N, C, H, W, else no elements.
    """

    y: Tensor
    mean: Tensor
    var: Tensor
    sum: Tensor


def phase_major(values: Tensor, phases: int = 4) -> Tensor:
    """Reorders the first axis from PyTorch's pixel shuffle, `phases * c + phase`, to ours, `phase * C + c`."""
    return values.view(-1, phases, *values.shape[1:]).transpose(0, 1).reshape(values.shape)


def phase_minor(values: Tensor, phases: int = 4) -> Tensor:
    """Undoes `phase_major`."""
    return values.view(phases, -1, *values.shape[1:]).transpose(0, 1).reshape(values.shape)


def tail_weight(weight: Tensor) -> Tensor:
    """The 5x5 form of a 9x9 convolution behind a pixel shuffle, on the map before the shuffle.

    Tap `j` of the 5x5 kernel looks from the shuffled pixel `2Y + o` at the shuffled pixel `2(Y + j - 2) + i`, which is
    tap `2j + i - o` of the 9x9 one; where that is no tap there is a zero.

    Args:
        weight: O, C, 9, 9.

    Returns:
        4 O, 4 C, 5, 5: output channels in PyTorch's order for its pixel shuffle, input channels phase by phase.
    """
    out, channels = weight.shape[:2]
    phases = [F.pad(weight, (ox, 1 - ox, oy, 1 - oy)) for oy in (0, 1) for ox in (0, 1)]
    grid = torch.stack(phases, 1).view(out, 4, channels, 5, 2, 5, 2)
    return grid.permute(0, 1, 4, 6, 2, 3, 5).reshape(4 * out, 4 * channels, 5, 5)


def prologue(
    x: Tensor, center: Maybe, scale: Maybe, shift: Maybe, slope: Maybe, residual: Maybe, shuffle: bool
) -> Tensor:
    """`z` of a fused convolution in plain torch; see the head of this file.

    Args:
        x: N, C, H, W; with `shuffle` N, 4C, H, W.
        center: as many values as `x` has channels, or one; None for 0. So, too, `scale` (1), `shift` (0), `slope` (1).
        scale: factor.
        shift: what is added.
        slope: of the activation below 0.
        residual: shape of `x`; excludes `slope` and `shuffle`.
        shuffle: whether the pixels are shuffled at last.

    Returns:
        N, C, H, W, or N, C, 2H, 2W; bfloat16 maps give float32.
    """

    def per_channel(values: Tensor) -> Tensor:
        return values[:, None, None]

    z = x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
    if center is not None:
        z = z - per_channel(center)
    if scale is not None:
        z = z * per_channel(scale)
    if shift is not None:
        z = z + per_channel(shift)
    if residual is not None:
        z = z + residual
    if slope is not None:
        z = F.prelu(z, slope)
    if shuffle:
        phases = z.reshape(z.shape[0], 4, -1, *z.shape[2:])
        z = F.pixel_shuffle(phases.transpose(1, 2).reshape(z.shape), 2)
    return z


def conv_reference(
    x: Tensor,
    weight: Tensor,
    bias: Maybe = None,
    center: Maybe = None,
    scale: Maybe = None,
    shift: Maybe = None,
    slope: Maybe = None,
    residual: Maybe = None,
    stride: int = 1,
    shuffle: bool = False,
    moments: bool = False,
    activation: float | None = None,
) -> ConvResult:
    """The fused convolution in plain torch, the yardstick of the kernels; arguments and result as of `conv`."""
    z = prologue(x, center, scale, shift, slope, residual, shuffle)
    y = F.conv2d(z, weight, bias, stride, padding=weight.shape[-1] // 2)
    if activation is not None:
        y = torch.where(y > 0, y, y * activation)
    none = y.new_empty(0)
    mean, var = (y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)) if moments else (none, none)
    return ConvResult(y.to(x.dtype), mean, var, x.new_empty(0) if residual is None else z.to(x.dtype))


def conv(
    x: Tensor,
    weight: Tensor,
    bias: Maybe = None,
    center: Maybe = None,
    scale: Maybe = None,
    shift: Maybe = None,
    slope: Maybe = None,
    residual: Maybe = None,
    stride: int = 1,
    shuffle: bool = False,
    moments: bool = False,
    activation: float | None = None,
    packed: Maybe = None,
    packed_backward: Maybe = None,
) -> ConvResult:
    """The fused convolution; see the head of this file.

    Args:
        x: N, C, H, W; with `shuffle` N, 4C, H, W.
        weight: O, C, k, k: k = 3 with `stride` 1 or 2, or k = 5 with stride 1, on CUDA also 9; padding k // 2.
        bias: O values.
        center: of the prologue, like the next four; see `prologue`. A residual goes with k = 3 and stride 1.
        scale: factor.
        shift: what is added.
        slope: of the activation below 0.
        residual: what is added to `z`.
        stride: 1 or 2.
        shuffle: whether the prologue ends with a pixel shuffle.
        moments: whether mean and variance of `y` are wanted; excludes `activation`.
        activation: slope of an activation behind the convolution, 0 for ReLU, not negative; None for none.
        packed: what `conv_pack` made of these weights, so that they need not be transformed again; on CUDA the weights
            in the map's type.
        packed_backward: the same for the data gradient.

    Raises:
        RuntimeError: shapes, types, devices or combinations that it does not do; the message says which.
    """
    if activation is not None and not activation >= 0:
        raise TrainingError(f"a fused convolution's activation has a slope of at least 0, not {activation}")
    # On CUDA the products may be an operator of torch's, which autocast would give another type than the maps'.
    other = x.is_cuda and torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") != x.dtype
    with torch.autocast("cuda", enabled=False) if other else nullcontext():
        return ConvResult(
            *_conv_forward(
                x, weight, bias, center, scale, shift, slope, residual, stride, shuffle, moments, activation,
                packed, packed_backward,
            )
        )  # fmt: skip


def conv_pack(weight: Tensor, stride: int, backward: bool, dtype: torch.dtype | None = None) -> Tensor:
    """Weights as the kernels read them, in a form that belongs to the processor: Winograd's domain, or tiles.

    Args:
        weight: O, C, k, k, float32 or float64; see `conv`.
        stride: of the convolution.
        backward: for the data gradient.
        dtype: of the maps that they will be used with; None for that of the weights. Others are refused there, or not,
            as the processor has one form or several.

    Returns:
        A vector, without gradient.
    """
    return cast(Tensor, torch.ops.srgan_fast.conv_pack(weight.detach(), stride, backward, dtype == torch.bfloat16))


def _empty_like_map(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _check_fake(x: Tensor, weight: Tensor, shuffle: bool, *others: Maybe) -> None:
    """What the operators check where they compute, so that tracing refuses it, too."""
    refuse_several_devices("conv", x, weight, *others)
    if x.dim() != 4 or weight.dim() != 4 or x.shape[1] != weight.shape[1] * (4 if shuffle else 1):
        raise RuntimeError(
            f"srgan_fast::conv: weights {tuple(weight.shape)} do not fit a map {tuple(x.shape)}"
            + (" that is shuffled" if shuffle else "")
        )


def _fake_forward(
    x: Tensor,
    weight: Tensor,
    bias: Maybe,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    stride: int,
    shuffle: bool,
    moments: bool,
    activation: float | None,
    packed: Maybe = None,
    packed_backward: Maybe = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _check_fake(x, weight, shuffle, bias, center, scale, shift, slope, residual, packed, packed_backward)
    factor = 2 if shuffle else 1
    n, height, width = x.shape[0], x.shape[2] * factor, x.shape[3] * factor
    out, channels = weight.shape[:2]
    y = _empty_like_map(x, n, out, (height + stride - 1) // stride, (width + stride - 1) // stride)
    size = out if moments else 0
    sums = x.new_empty(0) if residual is None else _empty_like_map(x, n, channels, height, width)
    return y, weight.new_empty(size), weight.new_empty(size), sums


def _fake_dgrad(
    g: Tensor,
    y: Maybe,
    mean: Maybe,
    mean_gradient: Maybe,
    var_gradient: Maybe,
    sum_gradient: Maybe,
    x: Tensor,
    weight: Tensor,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    stride: int,
    shuffle: bool,
    activation: float | None,
    packed: Maybe = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    vectors_of_y = (mean, mean_gradient, var_gradient)
    _check_fake(x, weight, shuffle, g, y, *vectors_of_y, sum_gradient, center, scale, shift, slope, residual, packed)
    affine = any(t is not None for t in (center, scale, shift, slope, residual))
    center_gradient, *vectors = (weight.new_empty(x.shape[1] if affine else 0) for _ in range(4))
    residual_gradient = x.new_empty(0) if residual is None else _empty_like_map(x, *x.shape)
    return _empty_like_map(x, *x.shape), residual_gradient, center_gradient, vectors[0], vectors[1], vectors[2]


def _fake_wgrad(
    g: Tensor,
    y: Maybe,
    mean: Maybe,
    mean_gradient: Maybe,
    var_gradient: Maybe,
    x: Tensor,
    weight: Tensor,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    stride: int,
    shuffle: bool,
    activation: float | None,
    bias: bool,
) -> tuple[Tensor, Tensor]:
    vectors_of_y = (mean, mean_gradient, var_gradient)
    _check_fake(x, weight, shuffle, g, y, *vectors_of_y, center, scale, shift, slope, residual)
    last = weight.stride(1) == 1 and weight.shape[1] > 1
    order = torch.channels_last if last else torch.contiguous_format
    gradient = torch.empty(weight.shape, dtype=weight.dtype, device=weight.device, memory_format=order)
    return gradient, weight.new_empty(weight.shape[0] if bias else 0)


def _fake_dy(
    g: Tensor,
    y: Maybe,
    mean: Maybe,
    mean_gradient: Maybe,
    var_gradient: Maybe,
    weight: Tensor,
    activation: float | None,
    bias: bool,
) -> tuple[Tensor, Tensor]:
    refuse_several_devices("conv_dy", g, y, mean, mean_gradient, var_gradient, weight)
    return _empty_like_map(g, *g.shape), weight.new_empty(weight.shape[0] if bias else 0)


def _fake_pack(weight: Tensor, stride: int, backward: bool, bf16: bool = False) -> Tensor:
    out, channels, side, _ = weight.shape
    size = torch.ops.srgan_fast.conv_packed_size(out, channels, side, stride, backward, bf16)
    return weight.new_empty(size)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _bias, center, scale, shift, slope, residual, stride, shuffle, moments, activation, _, packed = inputs
    y, mean, _var, _sum = output
    ctx.set_materialize_grads(False)
    needs_y = moments or activation is not None
    ctx.save_for_backward(
        x, weight, center, scale, shift, slope, residual, y if needs_y else None, mean if moments else None
    )
    ctx.stride, ctx.shuffle, ctx.activation = stride, shuffle, activation
    ctx.packed = packed  # belongs to whoever keeps it, and outlives the graph
    # The engine counts tensors only.
    tensors = [i for i, value in enumerate(inputs) if isinstance(value, Tensor)]
    ctx.places = {i: place for place, i in enumerate(tensors)}


def _wanted(ctx: Any, i: int) -> bool:
    """Whether this backward pass asks for the gradient of an input.

    `needs_input_grad` says what might be asked for. A step that wants gradients of weights only would otherwise compute
    those of its images each time; torch's own operators ask the engine, too. Of leaves the engine gives no answer.
    """
    if not ctx.needs_input_grad[i] or i not in ctx.places:
        return False
    node = ctx.next_functions[ctx.places[i]][0]
    if node is None or (i in (_WEIGHT, _BIAS) and _data_only.get()):
        return False
    if _will_execute is None:
        return True
    try:
        return _will_execute(node)
    except RuntimeError:
        return True


@contextmanager
def data_gradients_only() -> Iterator[None]:
    """Backward passes inside ask for no gradients of weights and biases, so fused convolutions compute none.

    For a pass that goes through a network only to reach its input, whose weights have gradients in another pass over
    the same graph.
    """
    token = _data_only.set(True)
    try:
        yield
    finally:
        _data_only.reset(token)


def _reduced(gradient: Tensor, like: Maybe) -> Maybe:
    """The gradient of a vector, which may have been one value for all channels."""
    if like is None:
        return None
    if gradient.shape == like.shape:
        return gradient
    return gradient.sum().reshape(like.shape) if like.numel() == 1 != gradient.numel() else gradient.view(like.shape)


def _backward(ctx: Any, g: Maybe, mean_gradient: Maybe, var_gradient: Maybe, sum_gradient: Maybe) -> tuple[Maybe, ...]:
    x, weight, center, scale, shift, slope, residual, y, mean = ctx.saved_tensors
    if g is None:  # nothing but the moments or the sum was used
        out = weight.shape[0]
        rows, columns = (side * (2 if ctx.shuffle else 1) for side in x.shape[2:])
        g = torch.zeros(
            (x.shape[0], out, -(-rows // ctx.stride), -(-columns // ctx.stride)), dtype=x.dtype, device=x.device
        )
    if mean is not None and mean_gradient is None and var_gradient is None:
        mean = y = None  # of a BatchNorm's moments nothing was used
    if residual is None:
        sum_gradient = None  # of nothing
    gradients: list[Maybe] = [None] * 14
    prologue_tensors = (center, scale, shift, slope, residual)
    wants_source = any(_wanted(ctx, i) for i in (0, 3, 4, 5, 6, 7))
    wants_weight, wants_bias = _wanted(ctx, 1), _wanted(ctx, 2)
    activation = ctx.activation
    if wants_source and wants_weight and y is not None and _makes_dy(g):
        # Both gradients read it.
        g, d_bias = below_autograd(
            _ops.conv_dy, g, y, mean, mean_gradient, var_gradient, weight, activation, wants_bias
        )
        gradients[2] = d_bias if wants_bias else None
        y = mean = mean_gradient = var_gradient = activation = None
        wants_bias = False
    if wants_source:
        dx, d_residual, d_center, d_scale, d_shift, d_slope = below_autograd(
            _ops.conv_dgrad,
            g, y, mean, mean_gradient, var_gradient, sum_gradient, x, weight, *prologue_tensors,
            ctx.stride, ctx.shuffle, activation, ctx.packed,
        )  # fmt: skip
        gradients[0] = dx
        gradients[3], gradients[4] = _reduced(d_center, center), _reduced(d_scale, scale)
        gradients[5] = _reduced(d_shift, shift)
        gradients[6] = _reduced(d_slope, slope)
        if residual is not None:
            gradients[7] = d_residual
    if wants_weight or wants_bias:
        d_weight, d_bias = below_autograd(
            _ops.conv_wgrad,
            g, y, mean, mean_gradient, var_gradient, x, weight, *prologue_tensors,
            ctx.stride, ctx.shuffle, activation, wants_bias,
        )  # fmt: skip
        gradients[1] = d_weight
        if wants_bias:
            gradients[2] = d_bias
    return tuple(gradients)


def _makes_dy(g: Tensor) -> bool:
    """Whether there is a pass that makes `dy` of a gradient, for both gradients of a convolution."""
    return g.is_cuda and g.shape[1] % UNIT == 0 and g.shape[1] <= MOST_CHANNELS


def _register() -> None:
    torch.library.register_fake("srgan_fast::conv_forward", _fake_forward)
    torch.library.register_fake("srgan_fast::conv_dgrad", _fake_dgrad)
    torch.library.register_fake("srgan_fast::conv_wgrad", _fake_wgrad)
    torch.library.register_fake("srgan_fast::conv_pack", _fake_pack)
    without_gradient("conv_dgrad")
    without_gradient("conv_wgrad")
    if why_not_on_cuda() is None:
        torch.library.register_fake("srgan_fast::conv_dy", _fake_dy)
        without_gradient("conv_dy")


_conv_forward = with_gradient("conv_forward", _backward, _save)
if available():
    _register()
