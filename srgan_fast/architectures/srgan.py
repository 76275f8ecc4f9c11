"""The SRGAN generator: Ledig et al. 2017, figure 4, and its common variants.

Sizes are inferred from the state dict. Conventions (value ranges, epsilons) are stored beside it, or known for the
code base that wrote it: see `srgan_layouts`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from srgan_fast.architectures.base import State
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import IMAGE, Array, ColourMap, Conv, Network, Residual, value_of
from srgan_fast.network.lowering import Exact, fold_batchnorm, fold_output_map, rounded, slopes_before_shuffle

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_KERNEL_SIZES = {"head": 9, "tail": 9, "trunk": 3}

IDENTITY = ColourMap.identity(3)
# From 0..1 to -1..1, the paper's range of high-resolution images.
SIGNED = ColourMap((2.0, 2.0, 2.0), (-1.0, -1.0, -1.0))
# (x - mean) / std, with ImageNet's statistics.
IMAGENET_NORMALISED = ColourMap(
    (1 / IMAGENET_STD[0], 1 / IMAGENET_STD[1], 1 / IMAGENET_STD[2]),
    (
        -IMAGENET_MEAN[0] / IMAGENET_STD[0],
        -IMAGENET_MEAN[1] / IMAGENET_STD[1],
        -IMAGENET_MEAN[2] / IMAGENET_STD[2],
    ),
)


@dataclass(frozen=True, slots=True)
class Conventions:
    """Properties of a generator that its state dict does not show.

    Attributes:
        block_eps: BatchNorm eps in the residual blocks and after the convolution that follows them.
        upsample_eps: BatchNorm eps in the upsampling blocks, if they have BatchNorm.
        output: activation after the last convolution.
        lr_map: map from images in 0..1 to the network's input range.
        hr_map: map from images in 0..1 to the network's output range; its inverse is applied after the network.
    """

    block_eps: float = 1e-5
    upsample_eps: float = 1e-5
    output: Literal["linear", "tanh"] = "linear"
    lr_map: ColourMap = IDENTITY
    hr_map: ColourMap = IDENTITY


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    """Architecture of an SRGAN generator (Ledig et al. 2017, figure 4, and its common variants).

    Attributes:
        scale: upscaling factor; 2, 4 or 8.
        channels: feature channels of the trunk.
        blocks: number of residual blocks.
        block_bias: whether the trunk's 3x3 convolutions have a bias besides BatchNorm's.
        upsample_bn: whether there is a BatchNorm between an upsampling convolution and its pixel shuffle.
        prelu: one slope per layer, or one per channel.
        conventions: properties that the state dict does not show.

    Raises:
        ModelError: a value is out of range.
    """

    scale: int = 4
    channels: int = 64
    blocks: int = 16
    block_bias: bool = False
    upsample_bn: bool = False
    prelu: Literal["shared", "channel"] = "shared"
    conventions: Conventions = Conventions()

    def __post_init__(self) -> None:
        if self.scale not in (2, 4, 8):
            raise ModelError(f"scale is {self.scale}; a generator upscales by 2, 4 or 8")
        if self.channels < 1 or self.blocks < 0:
            raise ModelError(f"a generator needs channels >= 1 and blocks >= 0, got {self.channels} and {self.blocks}")

    @property
    def stages(self) -> int:
        """Number of x2 upsampling blocks."""
        return int(math.log2(self.scale))


def infer_config(weights: Mapping[str, NDArray[Any]], conventions: Conventions, source: str) -> GeneratorConfig:
    """Infers the architecture from a state dict.

    Args:
        weights: arrays by the names of `Generator.state_dict()`.
        conventions: stored beside them.
        source: named in errors.

    Raises:
        ModelError: tensors are missing, unexpected, or have the wrong shape.
    """
    head = weights.get("head.conv.weight")
    if head is None or head.ndim != 4:
        found = ", ".join(sorted(weights)[:4]) or "nothing"
        raise ModelError(f"{source}: not an SRGAN generator (no head.conv.weight; found {found}, ...)")
    channels = int(head.shape[0])
    stages = _count(weights, r"upsample\.(\d+)\.")
    slopes = weights.get("head.act.weight")
    prelu: Literal["shared", "channel"] = "channel" if slopes is not None and slopes.size > 1 else "shared"
    try:
        config = GeneratorConfig(
            scale=2**stages,
            channels=channels,
            blocks=_count(weights, r"blocks\.(\d+)\."),
            block_bias="fuse.conv.bias" in weights,
            upsample_bn="upsample.0.bn.weight" in weights,
            prelu=prelu,
            conventions=conventions,
        )
    except ModelError as error:
        raise ModelError(f"{source}: {error}") from None
    expected = expected_shapes(config)
    missing, surplus = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or surplus:
        parts = [
            f"lacks {', '.join(missing[:3])}" if missing else "",
            f"has {', '.join(surplus[:3])}" if surplus else "",
        ]
        raise ModelError(f"{source}: not a complete SRGAN generator; it {' and '.join(p for p in parts if p)}")
    for name, shape in expected.items():
        if tuple(weights[name].shape) != shape:
            raise ModelError(f"{source}: {name} has shape {tuple(weights[name].shape)}, expected {shape}")
    return config


def _count(weights: Mapping[str, Any], pattern: str) -> int:
    # The number, not the highest index: a corrupt name must not request a billion blocks. Gaps are reported as missing.
    return len({match[1] for name in weights if (match := re.match(pattern, name))})


def expected_shapes(config: GeneratorConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a generator's state dict, without BatchNorm's batch counters."""
    c, slopes = config.channels, config.channels if config.prelu == "channel" else 1
    shapes: dict[str, tuple[int, ...]] = {}

    def conv(name: str, out_channels: int, in_channels: int, size: int, bias: bool) -> None:
        shapes[f"{name}.weight"] = (out_channels, in_channels, size, size)
        if bias:
            shapes[f"{name}.bias"] = (out_channels,)

    def bn(name: str, width: int) -> None:
        shapes.update({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})

    conv("head.conv", c, 3, _KERNEL_SIZES["head"], True)
    shapes["head.act.weight"] = (slopes,)
    for i in range(config.blocks):
        for k in (1, 2):
            conv(f"blocks.{i}.conv{k}", c, c, _KERNEL_SIZES["trunk"], config.block_bias)
            bn(f"blocks.{i}.bn{k}", c)
        shapes[f"blocks.{i}.act.weight"] = (slopes,)
    conv("fuse.conv", c, c, _KERNEL_SIZES["trunk"], config.block_bias)
    bn("fuse.bn", c)
    for i in range(config.stages):
        conv(f"upsample.{i}.conv", 4 * c, c, _KERNEL_SIZES["trunk"], True)
        if config.upsample_bn:
            bn(f"upsample.{i}.bn", 4 * c)
        shapes[f"upsample.{i}.act.weight"] = (slopes,)
    conv("tail", 3, c, _KERNEL_SIZES["tail"], True)
    return shapes


def network_of(config: GeneratorConfig, weights: State) -> Network:
    """The generator as a list of convolutions with BatchNorm folded.

    Args:
        config: sizes and conventions.
        weights: arrays by the names of `Generator.state_dict()`, complete and with the shapes that `infer_config`
            checks.

    Raises:
        ModelError: folded values exceed float32's range, e.g. if variance and epsilon are both 0.
    """
    conventions = config.conventions
    convs: list[Conv] = []

    def add(
        name: str,
        x: int,
        *residuals: Residual,
        bn: str | None = None,
        act: str | None = None,
        eps: float = conventions.block_eps,
        shuffle: int = 1,
        output_map: ColourMap | None = None,
    ) -> int:
        weight, bias = _arrays(weights, name, bn, eps)
        if output_map is not None:
            weight, bias = fold_output_map(weight, bias, output_map)
        slope = None if act is None else slopes_before_shuffle(weights[f"{act}.weight"], shuffle)
        convs.append(Conv(name, (x,), rounded(weight, name), rounded(bias, name), slope, residuals, shuffle))
        return value_of(len(convs) - 1)

    x = first = add("head.conv", IMAGE, act="head.act")
    for i in range(config.blocks):
        name = f"blocks.{i}"
        inner = add(f"{name}.conv1", x, bn=f"{name}.bn1", act=f"{name}.act")
        x = add(f"{name}.conv2", inner, Residual(x), bn=f"{name}.bn2")
    x = add("fuse.conv", x, Residual(first), bn="fuse.bn")
    for i in range(config.stages):
        name = f"upsample.{i}"
        bn = f"{name}.bn" if config.upsample_bn else None
        x = add(f"{name}.conv", x, bn=bn, act=f"{name}.act", eps=conventions.upsample_eps, shuffle=2)
    linear, hr_map = conventions.output == "linear", conventions.hr_map.inverse()
    add("tail", x, output_map=hr_map if linear else None)
    return Network(
        tuple(convs), input_map=conventions.lr_map, tanh=not linear, output_map=IDENTITY if linear else hr_map
    )


def describe(config: GeneratorConfig) -> str:
    """Architecture and sizes, in words."""
    return f"SRGAN generator, {config.blocks} blocks of {config.channels} channels"


def _arrays(weights: State, name: str, bn: str | None, eps: float) -> tuple[Exact, Exact]:
    """Weights and bias of a convolution with the BatchNorm after it folded in."""
    weight = weights[f"{name}.weight"].astype(np.float64)
    bias: Exact = np.zeros(weight.shape[0])
    if f"{name}.bias" in weights:
        bias = weights[f"{name}.bias"].astype(np.float64)
    if bn is None:
        return weight, bias
    parts: dict[str, Array] = {
        ours: weights[f"{bn}.{part}"]
        for ours, part in (
            ("gamma", "weight"), ("beta", "bias"), ("mean", "running_mean"), ("variance", "running_var"),
        )
    }  # fmt: skip
    return fold_batchnorm(weight, bias, **parts, eps=eps)
