"""The fused convolution: prologue, convolution, epilogue; with schema, reference, fake kernels and gradients.

The input `z` of the convolution is computed on the fly from the raw result `x` of an earlier one and never stored:

    z = a(scale * (x - center) + shift)               the preceding BatchNorm and activation; or
    z = scale * (x - center) + shift + residual       the end of a residual block; or
    z = pixel_shuffle(a(scale * (x - center) + shift))

with `a(u) = u if u > 0 else slope * u`, followed by zero padding. (On CUDA it may be materialised for the duration of a
call.) The result is `y = conv(z, weight) + bias`, either with an activation of a single slope, or with the mean and
biased variance of each channel, which the next BatchNorm needs. In the backward pass the gradients of mean and variance
are added to the gradient of `y` as it is read. Autograd therefore sees BatchNorm as arithmetic on per-channel vectors
and stores no normalised or activated map. Weight gradients are rounded to the maps' dtype where cuDNN computes them, as
under autocast; otherwise they are float32 sums.

Maps are N, C, H, W in channels_last memory (others are copied). On CPUs they are float32, float64 or bfloat16. The
latter is computed in float32, or with bfloat16 inputs and float32 accumulation on AMX tiles, and for stride 2 with the
bfloat16 dot products of AVX-512. On CUDA maps are bfloat16 or float16, multiplied on tensor cores with float32
accumulation, or float32, which cuDNN multiplies, in TF32 if `torch.backends.cudnn.allow_tf32`. Float32 maps with a
prologue or epilogue need channels in multiples of 8, unless `ops.cuda.gemm` requests our own TF32 GEMMs. With 16-bit
maps the weights are float32. All other tensors have the weights' dtype. `shuffle` expects the channels of `x` in
phase-major order: channel `(2 * dy + dx) * C + c` becomes channel `c` of pixel `(2y + dy, 2x + dx)`; see `phase_major`.

The CPU kernels use Winograd's algorithm (csrc/kernels/cpu/conv.h), those for bfloat16 direct convolution. On CUDA they
are implicit GEMMs, or passes around cuDNN's convolutions, as csrc/kernels/cuda/plan.h chooses. Double backward is not
supported: `create_graph=True` works, but the second backward pass raises.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.errors import TrainingError
from srgan_fast.ops import conv_fakes
from srgan_fast.ops.direct import below_autograd, with_gradient
from srgan_fast.ops.native import available, on_cuda, why_not_on_cuda

Maybe = Tensor | None
_ops: Any = torch.ops.srgan_fast

_WEIGHT, _BIAS, _VAR, _GAMMA = 1, 2, 14, 15  # indices of the operator's arguments
_NO_NORM, _NOT_RUNNING = (None, None, 0.0), (None, None, None, 0.0)
UNIT, MOST_CHANNELS = 8, 2048  # channels that the CUDA passes support: multiples of the first up to the second
_data_only: ContextVar[bool] = ContextVar("data_gradients_only", default=False)
# Private, though PyTorch's checkpointing uses it; without it, gradients that nobody requested would be computed.
_will_execute: Callable[[Any], bool] | None = getattr(torch._C, "_will_engine_execute_node", None)


class ConvResult(NamedTuple):
    """Results of a fused convolution.

    Attributes:
        y: N, O, H', W'.
        mean: O means of `y` over N, H', W'; empty if moments were not requested.
        var: O biased variances; empty likewise.
        sum: `z`, N, C, H, W, if there is a residual, else empty.
    """

    y: Tensor
    mean: Tensor
    var: Tensor
    sum: Tensor


class Norm(NamedTuple):
    """The BatchNorm from whose batch moments a prologue's `scale` was computed, `gamma / sqrt(var + eps)`.

    Attributes:
        var: C biased variances.
        gamma: C factors; None for 1.
        eps: added to the variances.
    """

    var: Tensor
    gamma: Maybe
    eps: float


class Running(NamedTuple):
    """Running statistics that a convolution's BatchNorm updates in place; see `ops.bn`.

    Attributes:
        mean: O values.
        var: O values.
        batches: number of batches, one int64.
        momentum: share of the new values.
    """

    mean: Tensor
    var: Tensor
    batches: Tensor
    momentum: float


def phase_major(values: Tensor, phases: int = 4) -> Tensor:
    """Reorders the first axis from PyTorch's pixel-shuffle order, `phases * c + phase`, to ours, `phase * C + c`."""
    return values.view(-1, phases, *values.shape[1:]).transpose(0, 1).reshape(values.shape)


def phase_minor(values: Tensor, phases: int = 4) -> Tensor:
    """Inverse of `phase_major`."""
    return values.view(phases, -1, *values.shape[1:]).transpose(0, 1).reshape(values.shape)


def tail_weight(weight: Tensor) -> Tensor:
    """Converts a 9x9 convolution after a pixel shuffle to a 5x5 convolution before it.

    For output `2Y + o`, tap `j` of the 5x5 kernel reads the shuffled pixel `2(Y + j - 2) + i`, i.e. tap `2j + i - o` of
    the 9x9 kernel, or zero if there is no such tap.

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
    """Computes `z` of a fused convolution in plain PyTorch; see the module docstring.

    Args:
        x: N, C, H, W; with `shuffle` N, 4C, H, W.
        center: one value, or one per channel of `x`; None for 0. Likewise `scale` (1), `shift` (0), `slope` (1).
        scale: factor.
        shift: offset.
        slope: of the activation, for negative values.
        residual: shape of `x`; cannot be combined with `slope` or `shuffle`.
        shuffle: whether it ends with a pixel shuffle.

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


def fused_prologue(
    x: Tensor,
    center: Maybe,
    scale: Maybe,
    shift: Maybe,
    slope: Maybe,
    residual: Maybe,
    shuffle: bool,
    norm: Norm | None = None,
) -> Tensor:
    """`prologue` in one kernel, and its gradients in two; on CUDA only.

    Args:
        x: as the following, see `prologue`; channels in multiples of 8 up to 2048.
        center: see `prologue`; at least one of the vectors must be there. Likewise the next three.
        scale: see `prologue`.
        shift: see `prologue`.
        slope: see `prologue`.
        residual: see `prologue`.
        shuffle: see `prologue`.
        norm: see `conv`.

    Returns:
        As `prologue`, in the dtype of `x`.

    Raises:
        RuntimeError: unsupported shapes, dtypes, devices or combinations.
    """
    return cast(Tensor, _prologue(x, center, scale, shift, slope, residual, shuffle, *(norm or _NO_NORM)))


def prologue_is_fused(x: Tensor, vectors: tuple[Maybe, ...], residual: Maybe, shuffle: bool, slope: Maybe) -> bool:
    """Whether `fused_prologue` can compute a prologue; `vectors` are all of its vectors."""
    present = [t for t in vectors if t is not None]
    channels = x.shape[1] // (4 if shuffle else 1)
    return (
        on_cuda(x)
        and not torch.compiler.is_compiling()
        and why_not_on_cuda() is None
        and x.dtype in (torch.bfloat16, torch.float16, torch.float32)
        and bool(present)
        and all(t.dtype == torch.float32 for t in present)
        and not (residual is not None and (shuffle or slope is not None))
        and channels % UNIT == 0
        and x.shape[1] <= MOST_CHANNELS
        and x.numel() > 0
    )


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
    """The fused convolution in plain PyTorch, the reference of the kernels; same arguments and result as `conv`."""
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
    norm: Norm | None = None,
) -> ConvResult:
    """The fused convolution; see the module docstring.

    Args:
        x: N, C, H, W; with `shuffle` N, 4C, H, W.
        weight: O, C, k, k: k = 3 with `stride` 1 or 2, or k = 5 with stride 1, on CUDA also 9; padding k // 2.
        bias: O values.
        center: of the prologue, as the next four; see `prologue`. A residual requires k = 3 and stride 1.
        scale: factor.
        shift: offset.
        slope: of the prologue's activation.
        residual: added to `z`.
        stride: 1 or 2.
        shuffle: whether the prologue ends with a pixel shuffle.
        moments: whether to compute mean and variance of `y`; cannot be combined with `activation`.
        activation: slope of the activation after the convolution, 0 for ReLU, not negative; None for none.
        packed: these weights as packed by `conv_pack`, to avoid packing them again; on CUDA the weights in the maps'
            dtype.
        packed_backward: the same for the data gradient.
        norm: where `scale` comes from; then its gradient is computed for variance and `gamma`, and none for `scale`.

    Raises:
        RuntimeError: unsupported shapes, dtypes, devices or combinations; the message says which.
    """
    if activation is not None and not activation >= 0:
        raise TrainingError(f"a fused convolution's activation has a slope of at least 0, not {activation}")
    # On CUDA the convolution may be PyTorch's, which autocast would convert to another dtype than the maps'.
    other = on_cuda(x) and torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") != x.dtype
    with torch.autocast("cuda", enabled=False) if other else nullcontext():
        return ConvResult(
            *_conv_forward(
                x, weight, bias, center, scale, shift, slope, residual, stride, shuffle, moments, activation,
                packed, packed_backward, *(norm or _NO_NORM),
            )
        )  # fmt: skip


def conv_with_bn(
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
    packed: Maybe,
    packed_backward: Maybe,
    norm: Norm | None,
    gamma: Maybe,
    eps: float,
    running: Running | None,
) -> tuple[ConvResult, Tensor]:
    """A fused convolution with moments and its BatchNorm's vectors: scale and running statistics in the same call.

    Not for torch.compile, since it changes the running statistics.

    Args:
        x: as the following, see `conv`.
        weight: see `conv`.
        bias: see `conv`.
        center: see `conv`.
        scale: see `conv`.
        shift: see `conv`.
        slope: see `conv`.
        residual: see `conv`.
        stride: see `conv`.
        shuffle: see `conv`.
        packed: see `conv`.
        packed_backward: see `conv`.
        norm: see `conv`.
        gamma: the BatchNorm's O factors; None for 1.
        eps: the BatchNorm's epsilon.
        running: its running statistics; None for none.

    Returns:
        The convolution's result, and the BatchNorm's scale, O factors. The latter has no gradient: it continues from
        the convolution that reads the map, by its `norm`.

    Raises:
        RuntimeError: see `conv`; or there is one value per channel.
    """
    other = on_cuda(x) and torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") != x.dtype
    with torch.autocast("cuda", enabled=False) if other else nullcontext():
        *result, bn_scale = _conv_bn_forward(
            x, weight, bias, center, scale, shift, slope, residual, stride, shuffle, True, None,
            packed, packed_backward, *(norm or _NO_NORM), gamma, eps, *(running or _NOT_RUNNING),
        )  # fmt: skip
    if running is not None:  # as PyTorch's in-place operators do
        torch.autograd.graph.increment_version(running[:3])
    return ConvResult(*result), bn_scale


def conv_of_two(
    x: Tensor, batch: Tensor, weight: Tensor, bias: Maybe, slope: Maybe, activation: float | None,
    packed: Maybe, packed_backward: Maybe,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A 3x3 convolution of a batch of which only the last images have a gradient; backward is theirs alone.

    Args:
        x: N, C, H, W; the last N images of `batch`, with their gradient.
        batch: M, C, H, W with M > N, without gradient.
        weight: see `conv`.
        bias: see `conv`.
        slope: of the prologue's activation; see `conv`.
        activation: see `conv`.
        packed: see `conv`.
        packed_backward: see `conv`.

    Returns:
        The last N results, and all M of them without gradient, in the same memory.

    Raises:
        RuntimeError: see `conv`.
    """
    other = on_cuda(x) and torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") != x.dtype
    with torch.autocast("cuda", enabled=False) if other else nullcontext():
        y, all_of_them = _conv_of_two(
            x, weight, bias, None, None, None, slope, None, 1, False, False, activation,
            packed, packed_backward, *_NO_NORM, batch,
        )  # fmt: skip
    return y, all_of_them


def conv_pack(weight: Tensor, stride: int, backward: bool, dtype: torch.dtype | None = None) -> Tensor:
    """Packs weights into the processor's layout: Winograd's domain, or tiles.

    Args:
        weight: O, C, k, k, float32 or float64; see `conv`.
        stride: of the convolution.
        backward: for the data gradient.
        dtype: of the maps that the convolution reads; None for that of the weights. Maps of another dtype are rejected
            by the convolution if the processor has a different layout for them.

    Returns:
        A vector, without gradient.
    """
    return cast(Tensor, torch.ops.srgan_fast.conv_pack(weight.detach(), stride, backward, dtype == torch.bfloat16))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    x, weight, _bias, center, scale, shift, slope, residual, stride, shuffle, moments, activation, _, packed = inputs[
        :14
    ]
    var, gamma, eps = inputs[_VAR : _VAR + 3]
    y, mean = output[:2]
    ctx.set_materialize_grads(False)
    needs_y = moments or activation is not None
    ctx.save_for_backward(
        x, weight, center, scale, shift, slope, residual, y if needs_y else None, mean if moments else None, var, gamma
    )
    ctx.stride, ctx.shuffle, ctx.activation, ctx.eps = stride, shuffle, activation, eps
    ctx.packed = packed  # owned by the cache, which outlives the graph
    ctx.count = len(inputs)
    # The engine's input indices count tensors only.
    tensors = [i for i, value in enumerate(inputs) if isinstance(value, Tensor)]
    ctx.places = {i: place for place, i in enumerate(tensors)}


def _save_bn(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, inputs, output)
    ctx.mark_non_differentiable(output[4])


def _wanted(ctx: Any, i: int) -> bool:
    """Whether this backward pass needs the gradient of an input.

    `needs_input_grad` only says what might be needed: a step that differentiates weights only would still compute the
    gradient of its images. PyTorch's own operators ask the engine as well. The engine has no answer for leaves.
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
    """Backward passes inside compute no gradients of fused convolutions' weights and biases.

    For passes that go through a network only to reach its input, while its weight gradients come from another pass
    over the same graph.
    """
    token = _data_only.set(True)
    try:
        yield
    finally:
        _data_only.reset(token)


def _reduced(gradient: Tensor, like: Maybe) -> Maybe:
    """Gradient of a vector that may have been broadcast from one value to all channels."""
    if like is None:
        return None
    if gradient.shape == like.shape:
        return gradient
    return gradient.sum().reshape(like.shape) if like.numel() == 1 != gradient.numel() else gradient.view(like.shape)


def _backward(
    ctx: Any, g: Maybe, mean_gradient: Maybe, var_gradient: Maybe, sum_gradient: Maybe, _scale_gradient: Maybe = None
) -> tuple[Maybe, ...]:
    x, weight, center, scale, shift, slope, residual, y, mean, var, gamma = ctx.saved_tensors
    if g is None:  # only the moments or the sum were used
        out = weight.shape[0]
        rows, columns = (side * (2 if ctx.shuffle else 1) for side in x.shape[2:])
        g = torch.zeros(
            (x.shape[0], out, -(-rows // ctx.stride), -(-columns // ctx.stride)), dtype=x.dtype, device=x.device
        )
    if mean is not None and mean_gradient is None and var_gradient is None:
        mean = y = None  # the moments were not used
    if residual is None:
        sum_gradient = None  # there is no sum
    gradients: list[Maybe] = [None] * ctx.count
    prologue_tensors = (center, scale, shift, slope, residual)
    wants_source = any(_wanted(ctx, i) for i in (0, 3, 4, 5, 6, 7, _VAR, _GAMMA))
    wants_weight, wants_bias = _wanted(ctx, 1), _wanted(ctx, 2)
    activation = ctx.activation
    if wants_source and wants_weight and y is not None and _makes_dy(g):
        # Both gradient kernels read it.
        g, d_bias = below_autograd(
            _ops.conv_dy, g, y, mean, mean_gradient, var_gradient, weight, activation, wants_bias
        )
        gradients[2] = d_bias if wants_bias else None
        y = mean = mean_gradient = var_gradient = activation = None
        wants_bias = False
    if wants_source:
        dx, d_residual, d_center, d_scale, d_shift, d_slope, d_var, d_gamma = below_autograd(
            _ops.conv_dgrad,
            g, y, mean, mean_gradient, var_gradient, sum_gradient, x, weight, *prologue_tensors,
            ctx.stride, ctx.shuffle, activation, ctx.packed, var, gamma, ctx.eps,
        )  # fmt: skip
        gradients[0] = dx
        gradients[3], gradients[4] = _reduced(d_center, center), None if var is not None else _reduced(d_scale, scale)
        gradients[_VAR] = None if var is None else d_var
        gradients[_GAMMA] = None if gamma is None else d_gamma
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


def _save_prologue(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, center, scale, shift, slope, residual, ctx.shuffle, var, gamma, ctx.eps = inputs
    ctx.save_for_backward(x, center, scale, shift, slope, residual, var, gamma)


def _prologue_backward(ctx: Any, g: Tensor) -> tuple[Maybe, ...]:
    x, center, scale, shift, slope, residual, var, gamma = ctx.saved_tensors
    dx, d_residual, d_center, d_scale, d_shift, d_slope, d_var, d_gamma = below_autograd(
        _ops.prologue_backward, g, x, center, scale, shift, slope, residual, ctx.shuffle, var, gamma, ctx.eps
    )
    return (
        dx,
        _reduced(d_center, center),
        None if var is not None else _reduced(d_scale, scale),
        _reduced(d_shift, shift),
        _reduced(d_slope, slope),
        None if residual is None else d_residual,
        None,
        None if var is None else d_var,
        None if gamma is None else d_gamma,
        None,
    )


def _makes_dy(g: Tensor) -> bool:
    """Whether a separate pass computes `dy`, which both gradients of a convolution then read."""
    return on_cuda(g) and g.shape[1] % UNIT == 0 and g.shape[1] <= MOST_CHANNELS


def _call_bn(*arguments: Any) -> Any:
    """Calls the operator with those of `conv_with_bn`'s arguments that its forward pass needs."""
    return _ops.conv_bn_forward(*arguments[:10], arguments[12], *arguments[17:])


def _call_of_two(x: Tensor, *arguments: Any) -> tuple[Tensor, Tensor]:
    *others, batch = arguments
    y = _ops.conv_forward(batch, *others)[0]
    return y[-x.shape[0] :], y


def _save_of_two(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _save(ctx, inputs, output)
    ctx.mark_non_differentiable(output[1])


def _backward_of_two(ctx: Any, g: Maybe, _all: Maybe) -> tuple[Maybe, ...]:
    return _backward(ctx, g, None, None, None)


_conv_forward = with_gradient("conv_forward", _backward, _save)
_conv_of_two = with_gradient("conv_of_two", _backward_of_two, _save_of_two, _call_of_two)
_conv_bn_forward = with_gradient("conv_bn_forward", _backward, _save_bn, _call_bn)
_prologue = with_gradient("prologue", _prologue_backward, _save_prologue, on_cuda_only=True)
if available():
    conv_fakes.register()
