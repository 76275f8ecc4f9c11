"""2x2 max pooling as in VGG; it stores no indices, and reads and writes whole vectors."""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.ops.direct import below_autograd, with_gradient, without_gradient
from srgan_fast.ops.native import available, on_cuda, refuse_several_devices, why_not_on_cuda
from srgan_fast.ops.prologue import MOST_CHANNELS, UNIT

_TYPES = {
    "cpu": (torch.bfloat16, torch.float32, torch.float64),
    "cuda": (torch.bfloat16, torch.float16, torch.float32),
}


def max_pool(x: Tensor) -> Tensor:
    """2x2 max pooling with stride 2.

    Of equal values the first gets the gradient, as in PyTorch. An odd last row or column is ignored.

    Args:
        x: N, C, H, W, bfloat16, float32 or float64, H and W 2 or more; on CUDA bfloat16, float16 or float32, C in
            multiples of 8 up to 2048, even H and W.

    Returns:
        N, C, H // 2, W // 2.

    Raises:
        RuntimeError: unsupported map.
    """
    return cast(Tensor, _max_pool(x))


def max_pool_of_two(x: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    """`max_pool` of a batch of which only the last images, `x`, have a gradient; see `conv.conv_of_two`."""
    y, all_of_them = _max_pool_of_two(x, batch)
    return y, all_of_them


def max_pool_reference(x: Tensor) -> Tensor:
    """`max_pool` in plain PyTorch."""
    return F.max_pool2d(x, 2)


def pools(layer: nn.Module, x: Tensor) -> bool:
    """Whether `max_pool` can replace a layer for a map."""
    return (
        isinstance(layer, nn.MaxPool2d)
        and (layer.kernel_size, layer.stride, layer.padding, layer.dilation) == (2, 2, 0, 1)
        and not layer.ceil_mode
        and not layer.return_indices
        and x.dtype in _TYPES.get(x.device.type, ())
        and (_fits_cuda(x) if on_cuda(x) else available())
    )


def _fits_cuda(x: Tensor) -> bool:
    in_units = x.shape[1] % UNIT == 0 and x.shape[1] <= MOST_CHANNELS
    return why_not_on_cuda() is None and in_units and x.shape[2] % 2 == x.shape[3] % 2 == 0


def _fake(x: Tensor) -> Tensor:
    if x.dim() != 4 or min(x.shape[2:]) < 2:
        raise RuntimeError(f"srgan_fast::max_pool takes N, C, H, W maps of two rows and columns, not {tuple(x.shape)}")
    n, channels, height, width = x.shape
    shape = (n, channels, height // 2, width // 2)
    return torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)


def _fake_backward(g: Tensor, x: Tensor) -> Tensor:
    refuse_several_devices("max_pool_backward", g, x)
    return torch.empty_like(x, memory_format=torch.channels_last)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(inputs[0])


def _backward(ctx: Any, g: Tensor) -> Tensor:
    return cast(Tensor, below_autograd(torch.ops.srgan_fast.max_pool_backward, g, ctx.saved_tensors[0]))


def _call_of_two(x: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    y = torch.ops.srgan_fast.max_pool(batch)
    return y[-x.shape[0] :], y


def _save_of_two(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(inputs[0])
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward_of_two(ctx: Any, g: Tensor, _all: Tensor | None) -> tuple[Tensor, None]:
    return _backward(ctx, g), None


_max_pool_of_two = with_gradient("max_pool_of_two", _backward_of_two, _save_of_two, _call_of_two)
_max_pool = with_gradient("max_pool", _backward, _save)
if available():
    torch.library.register_fake("srgan_fast::max_pool", _fake)
    torch.library.register_fake("srgan_fast::max_pool_backward", _fake_backward)
    without_gradient("max_pool_backward")
