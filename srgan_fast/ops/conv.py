"""The fused convolution: prologue, convolution, epilogue; with schema, reference, fake kernels and gradients.

The input is a raw map and its prologue, whose result `z` is computed on the fly and never stored (`ops.prologue`). (On
CUDA it may be materialised for the duration of a call.) It is padded with zeros. The result is
`y = conv(z, weight) + bias`, either with an activation of a single slope, or with the mean and biased variance of each
channel, which the next BatchNorm needs. In the backward pass the gradients of mean and variance are added to the
gradient of `y` as it is read. Autograd therefore sees BatchNorm as arithmetic on per-channel vectors and stores no
normalised or activated map. Weight gradients are rounded to the maps' dtype where cuDNN computes them, as under
autocast; otherwise they are float32 sums.

Maps are N, C, H, W in channels_last memory (others are copied). On CPUs they are float32, float64 or bfloat16. The
latter is computed in float32, or with bfloat16 inputs and float32 accumulation on AMX tiles, and for stride 2 with the
bfloat16 dot products of AVX-512. On CUDA maps are bfloat16 or float16, multiplied on tensor cores with float32
accumulation, or float32, which cuDNN multiplies, in TF32 if `torch.backends.cudnn.allow_tf32`. Float32 maps with a
prologue or epilogue need channels in multiples of 8, unless `ops.cuda.gemm` requests our own TF32 GEMMs. With 16-bit
maps the weights are float32. All other tensors have the weights' dtype.

The CPU kernels use Winograd's algorithm (csrc/kernels/cpu/conv.h), those for bfloat16 direct convolution. On CUDA they
are implicit GEMMs, or passes around cuDNN's convolutions, as csrc/kernels/cuda/plan.h chooses. Double backward is not
supported: `create_graph=True` works, but the second backward pass raises.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.errors import TrainingError
from srgan_fast.ops import conv_fakes
from srgan_fast.ops.direct import below_autograd, with_gradient
from srgan_fast.ops.native import available, on_cuda
from srgan_fast.ops.prologue import (
    ARGUMENTS,
    MOST_CHANNELS,
    UNIT,
    Maybe,
    Pending,
    prologue,
    save_source,
    saved_source,
    source_gradients,
)

_ops: Any = torch.ops.srgan_fast

_WEIGHT, _BIAS = ARGUMENTS, ARGUMENTS + 3  # indices of the operator's arguments
_NOT_RUNNING = (None, None, None, 0.0)
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


def conv_reference(
    source: Pending,
    weight: Tensor,
    bias: Maybe = None,
    *,
    stride: int = 1,
    moments: bool = False,
    activation: float | None = None,
) -> ConvResult:
    """The fused convolution in plain PyTorch, the reference of the kernels; same arguments and result as `conv`."""
    z = prologue(source)
    y = F.conv2d(z, weight, bias, stride, padding=weight.shape[-1] // 2)
    if activation is not None:
        y = torch.where(y > 0, y, y * activation)
    none = y.new_empty(0)
    mean, var = (y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)) if moments else (none, none)
    x = source.raw
    return ConvResult(y.to(x.dtype), mean, var, x.new_empty(0) if source.residual is None else z.to(x.dtype))


def conv(
    source: Pending,
    weight: Tensor,
    bias: Maybe = None,
    *,
    stride: int = 1,
    moments: bool = False,
    activation: float | None = None,
    packed: Maybe = None,
    packed_backward: Maybe = None,
) -> ConvResult:
    """The fused convolution; see the module docstring.

    Args:
        source: input and prologue. A residual requires k = 3 and stride 1.
        weight: O, C, k, k: k = 3 with `stride` 1 or 2, or k = 5 with stride 1, on CUDA also 9; padding k // 2.
        bias: O values.
        stride: 1 or 2.
        moments: whether to compute mean and variance of `y`; cannot be combined with `activation`.
        activation: slope of the activation after the convolution, 0 for ReLU, not negative; None for none.
        packed: these weights as packed by `conv_pack`, to avoid packing them again; on CUDA the weights in the maps'
            dtype.
        packed_backward: the same for the data gradient.

    Raises:
        RuntimeError: unsupported shapes, dtypes, devices or combinations; the message says which.
    """
    if activation is not None and not activation >= 0:
        raise TrainingError(f"a fused convolution's activation has a slope of at least 0, not {activation}")
    with _in_type_of(source.raw):
        return ConvResult(*_conv_forward(*source, weight, stride, packed, bias, moments, activation, packed_backward))


def _in_type_of(x: Tensor) -> AbstractContextManager[object]:
    """On CUDA the convolution may be PyTorch's, which autocast would convert to another dtype than the maps'."""
    other = on_cuda(x) and torch.is_autocast_enabled("cuda") and torch.get_autocast_dtype("cuda") != x.dtype
    return torch.autocast("cuda", enabled=False) if other else nullcontext()


def conv_with_bn(
    source: Pending,
    weight: Tensor,
    bias: Maybe,
    *,
    stride: int,
    gamma: Maybe,
    eps: float,
    running: Running | None,
    packed: Maybe = None,
    packed_backward: Maybe = None,
) -> tuple[ConvResult, Tensor]:
    """A fused convolution with moments and its BatchNorm's vectors: scale and running statistics in the same call.

    Not for torch.compile, since it changes the running statistics.

    Args:
        source: as the following, see `conv`.
        weight: see `conv`.
        bias: see `conv`.
        stride: see `conv`.
        gamma: the BatchNorm's O factors; None for 1.
        eps: the BatchNorm's epsilon.
        running: its running statistics; None for none.
        packed: see `conv`.
        packed_backward: see `conv`.

    Returns:
        The convolution's result, and the BatchNorm's scale, O factors. The latter has no gradient: it continues from
        the convolution that reads the map, by the variance of its source.

    Raises:
        RuntimeError: see `conv`; or there is one value per channel.
    """
    with _in_type_of(source.raw):
        *result, bn_scale = _conv_bn_forward(
            *source, weight, stride, packed, bias, True, None, packed_backward,
            gamma, eps, *(running or _NOT_RUNNING),
        )  # fmt: skip
    if running is not None:  # as PyTorch's in-place operators do
        torch.autograd.graph.increment_version(running[:3])
    return ConvResult(*result), bn_scale


def conv_of_two(
    source: Pending,
    batch: Tensor,
    weight: Tensor,
    bias: Maybe,
    *,
    activation: float | None,
    packed: Maybe = None,
    packed_backward: Maybe = None,
) -> tuple[Tensor, Tensor]:
    """A 3x3 convolution of a batch of which only the last images have a gradient; backward is theirs alone.

    Args:
        source: its raw map has the last N images of `batch`, with their gradient; without a residual.
        batch: M, C, H, W with M > N, raw and without gradient; the prologue is applied to all of it.
        weight: see `conv`.
        bias: see `conv`.
        activation: see `conv`.
        packed: see `conv`.
        packed_backward: see `conv`.

    Returns:
        The last N results, and all M of them without gradient, in the same memory.

    Raises:
        RuntimeError: see `conv`.
    """
    with _in_type_of(source.raw):
        y, all_of_them = _conv_of_two(*source, weight, 1, packed, bias, False, activation, packed_backward, batch)
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
    source, weight = Pending(*inputs[:ARGUMENTS]), inputs[_WEIGHT]
    _, ctx.stride, _, _, moments, ctx.activation, packed_backward = inputs[_WEIGHT : _WEIGHT + 7]
    y, mean = output[:2]
    ctx.set_materialize_grads(False)
    needs_y = moments or ctx.activation is not None
    save_source(ctx, source, weight, y if needs_y else None, mean if moments else None)
    ctx.packed = packed_backward  # owned by the cache, which outlives the graph
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


def _backward(
    ctx: Any, g: Maybe, mean_gradient: Maybe, var_gradient: Maybe, sum_gradient: Maybe, _scale_gradient: Maybe = None
) -> tuple[Maybe, ...]:
    source, (weight, y, mean) = saved_source(ctx)
    assert weight is not None
    if g is None:  # only the moments or the sum were used
        x = source.raw
        rows, columns = (side * (2 if source.shuffled else 1) for side in x.shape[2:])
        size = x.shape[0], weight.shape[0], -(-rows // ctx.stride), -(-columns // ctx.stride)
        g = torch.zeros(size, dtype=x.dtype, device=x.device)
    if mean is not None and mean_gradient is None and var_gradient is None:
        mean = y = None  # the moments were not used
    if source.residual is None:
        sum_gradient = None  # there is no sum
    gradients: list[Maybe] = [None] * ctx.count
    result = (g, y, mean, mean_gradient, var_gradient, ctx.activation)
    wants_source = any(_wanted(ctx, i) for i in range(ARGUMENTS))
    wants_weight, wants_bias = _wanted(ctx, _WEIGHT), _wanted(ctx, _BIAS)
    if wants_source and wants_weight and y is not None and _makes_dy(g):
        # Both gradient kernels read it.
        g, d_bias = below_autograd(_ops.conv_dy, *result, weight, wants_bias)
        gradients[_BIAS] = d_bias if wants_bias else None
        result = (g, None, None, None, None, None)
        wants_bias = False
    if wants_source:
        found = below_autograd(_ops.conv_dgrad, *source, weight, ctx.stride, ctx.packed, *result, sum_gradient)
        gradients[:ARGUMENTS] = source_gradients(source, found)
    if wants_weight or wants_bias:
        d_weight, d_bias = below_autograd(_ops.conv_wgrad, *source, weight, ctx.stride, None, *result, wants_bias)
        gradients[_WEIGHT] = d_weight
        if wants_bias:
            gradients[_BIAS] = d_bias
    return tuple(gradients)


def _makes_dy(g: Tensor) -> bool:
    """Whether a separate pass computes `dy`, which both gradients of a convolution then read."""
    return on_cuda(g) and g.shape[1] % UNIT == 0 and g.shape[1] <= MOST_CHANNELS


def _call_bn(*arguments: Any) -> Any:
    """Calls the operator with those of `conv_with_bn`'s arguments that its forward pass needs."""
    return _ops.conv_bn_forward(*arguments[: _BIAS + 1], *arguments[_WEIGHT + 7 :])


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
if available():
    conv_fakes.register()
