"""Single convolutions of a training step: the fused operator beside PyTorch's operators for the same result.

All are bfloat16 in channels_last, replayed from CUDA graphs, so that only GPU work is compared.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.bench.gpu.timing import Time, in_graph, time_calls


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


@dataclass(frozen=True, slots=True)
class LayerTime:
    """One direction of a layer: time of our operator, total time of PyTorch's operators, and what they compute."""

    layer: str
    direction: str
    batch: int
    hr: int
    gflop: float
    fused: Time
    stock: Time
    compared: str


def time_layers(batch: int, hr: int, device: torch.device) -> list[dict[str, Any]]:
    """Every layer in all directions, as `LayerTime` ready for JSON."""
    found = []
    for layer in LAYERS:
        for direction, fused, stock, compared in layer_calls(layer, batch, hr, device):
            side = hr // layer.divisor // layer.stride
            gflop = 2e-9 * batch * side**2 * layer.channels * layer.out * layer.side**2
            times = time_calls(in_graph(fused)), time_calls(in_graph(stock))
            found.append(asdict(LayerTime(layer.name, direction, batch, hr, gflop, *times, compared)))
    return found


Call = Callable[[], object]


def layer_calls(layer: LayerCase, batch: int, hr: int, device: torch.device) -> Iterator[tuple[str, Call, Call, str]]:
    """Calls of a layer on random maps: direction, our operator, PyTorch's, and what they compute."""
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
    prologue = (mean, scale, shift, slope, None) if layer.normalised else (None,) * 5
    behind = None if layer.normalised else layer.activation
    of_y = (y, noise(layer.out), noise(layer.out), noise(layer.out)) if layer.normalised else (
        y if behind is not None else None, None, None, None
    )  # fmt: skip

    def before() -> Tensor:
        if not layer.normalised:
            return x
        z = F.batch_norm(x, mean, var, scale, shift, training=True)
        return torch._prelu_kernel(z, slope16.view(1, 1, 1, 1))

    def stock_forward() -> Tensor:
        result = F.conv2d(before(), weight16, bias16, layer.stride, 1)
        return result if behind is None else F.leaky_relu(result, behind)

    def fused_forward() -> object:
        return ops.conv_forward(x, weight, bias, *prologue, layer.stride, False, layer.normalised, behind)

    told = "BatchNorm, PReLU, convolution" if layer.normalised else "convolution"
    yield "forward", fused_forward, stock_forward, told + ("" if behind is None else ", activation")

    def arrives() -> Tensor:
        return g if behind is None else torch.ops.aten.leaky_relu_backward(g, y, behind, True)

    def backward(mask: list[bool]) -> Call:
        return lambda: torch.ops.aten.convolution_backward(
            arrives(), x, weight16, [layer.out], [layer.stride] * 2, [1, 1], [1, 1], False, [0, 0], 1, mask
        )

    told = "of the convolution alone against BatchNorm's, PReLU's and the convolution's" if layer.normalised else (
        "of the convolution" + ("" if behind is None else " and the activation")
    )  # fmt: skip
    yield (
        "data gradient",
        lambda: ops.conv_dgrad(g, *of_y, None, x, weight, *prologue, layer.stride, False, behind),
        backward([True, False, False]),
        told,
    )
    yield (
        "weight gradient",
        lambda: ops.conv_wgrad(g, *of_y, x, weight, *prologue, layer.stride, False, behind, True),
        backward([False, True, True]),
        told,
    )
