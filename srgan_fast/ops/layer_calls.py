"""Single convolutions of a training step in bfloat16 and channels_last: the fused operator, and PyTorch's."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.ops.prologue import Pending


@dataclass(frozen=True, slots=True)
class LayerCase:
    """A convolution with the operations before and after it.

    Channels of input and output; side of the high-resolution crop divided by that of the input; kernel side; stride;
    whether BatchNorm and PReLU precede it and another BatchNorm follows; slope of an activation after it.
    """

    name: str
    channels: int
    out: int
    divisor: int
    side: int = 3
    stride: int = 1
    normalised: bool = False
    activation: float | None = None


LAYERS = (
    LayerCase("G trunk", 64, 64, 4, normalised=True),
    LayerCase("G upsampler", 64, 256, 2),
    LayerCase("D first", 3, 64, 1, activation=0.2),
    LayerCase("D 64, stride 2", 64, 64, 1, stride=2),
    LayerCase("D 128", 64, 128, 2, normalised=True),
    LayerCase("D 256", 128, 256, 4, normalised=True),
    LayerCase("D 512", 256, 512, 8, normalised=True),
    LayerCase("VGG 64", 64, 64, 1, activation=0.0),
    LayerCase("VGG 128", 128, 128, 2, activation=0.0),
    LayerCase("VGG 256", 256, 256, 4, activation=0.0),
)


DIRECTIONS = ("forward", "data gradient", "weight gradient")


Call = Callable[[], object]


def layer_call(what: str, batch: int, hr: int, device: torch.device) -> tuple[Call, Call]:
    """Our operator and PyTorch's for a layer and direction, such as `G trunk, forward`, on random maps.

    Args:
        what: name of one of `LAYERS`, comma, one of `DIRECTIONS`.
        batch: batch size.
        hr: side of the high-resolution crops.
        device: of the maps.
    """
    name, _, direction = what.rpartition(", ")
    layer = next(layer for layer in LAYERS if layer.name == name)
    return next((fused, stock) for found, fused, stock in layer_calls(layer, batch, hr, device) if found == direction)


def layer_calls(layer: LayerCase, batch: int, hr: int, device: torch.device) -> Iterator[tuple[str, Call, Call]]:
    """Calls of a layer on random maps: direction, our operator, and PyTorch's for the same result.

    Of BatchNorm and PReLU before the convolution, our gradients include the gradient; PyTorch's are the convolution's
    and the activation's alone.
    """
    side = hr // layer.divisor

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    def new_map(channels: int, side: int) -> Tensor:
        return noise(batch, channels, side, side).bfloat16().contiguous(memory_format=torch.channels_last)

    x, weight, bias = new_map(layer.channels, side), 0.05 * noise(layer.out, layer.channels, 3, 3), noise(layer.out)
    weight16 = weight.bfloat16().contiguous(memory_format=torch.channels_last)
    bias16 = bias.bfloat16()
    out_side = -(-side // layer.stride)
    g, y = new_map(layer.out, out_side), new_map(layer.out, out_side)
    mean, var = noise(layer.channels), noise(layer.channels).abs() + 1
    scale, shift, slope = noise(layer.channels), noise(layer.channels), torch.full((1,), 0.25, device=device)
    slope16 = slope.bfloat16()
    ops: Any = torch.ops.srgan_fast
    source = Pending(x, mean, scale, shift, slope) if layer.normalised else Pending(x)
    weights = (weight, layer.stride, None)
    behind = None if layer.normalised else layer.activation
    moments = (noise(layer.out), noise(layer.out), noise(layer.out)) if layer.normalised else (None,) * 3
    result = (g, y if layer.normalised or behind is not None else None, *moments, behind)

    def before() -> Tensor:
        if not layer.normalised:
            return x
        z = F.batch_norm(x, mean, var, scale, shift, training=True)
        return torch._prelu_kernel(z, slope16.view(1, 1, 1, 1))

    def stock_forward() -> Tensor:
        result = F.conv2d(before(), weight16, bias16, layer.stride, 1)
        return result if behind is None else F.leaky_relu(result, behind)

    def fused_forward() -> object:
        return ops.conv_forward(*source, *weights, bias, layer.normalised, behind, None)

    yield "forward", fused_forward, stock_forward

    def arrives() -> Tensor:
        return g if behind is None else torch.ops.aten.leaky_relu_backward(g, y, behind, True)

    def backward(mask: list[bool]) -> Call:
        return lambda: torch.ops.aten.convolution_backward(
            arrives(), x, weight16, [layer.out], [layer.stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, mask
        )

    yield (
        "data gradient",
        lambda: ops.conv_dgrad(*source, *weights, *result, None),
        backward([True, False, False]),
    )
    yield (
        "weight gradient",
        lambda: ops.conv_wgrad(*source, *weights, *result, True),
        backward([False, True, True]),
    )
