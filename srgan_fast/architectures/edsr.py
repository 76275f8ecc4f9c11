"""Residual networks without BatchNorm: EDSR, with its own or BasicSR's names, and BasicSR's MSRResNet.

EDSR: Lim et al. 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution". MSRResNet is BasicSR's
replacement for SRResNet: no BatchNorm, LeakyReLU, a bilinear skip connection.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from srgan_fast.architectures.base import (
    Architecture,
    Builder,
    Facts,
    Recognised,
    Settings,
    Shapes,
    State,
    Tensors,
    conv_shapes,
    count_numbered,
    renamed,
    shuffle_factors,
    square_root,
)
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import IMAGE, Array, ColourMap, Network, Residual
from srgan_fast.network.lowering import Exact

_RELU = np.zeros(1, np.float32)
_LEAKY = np.array([0.1], np.float32)  # LeakyReLU slope of MSRResNet
_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
_WHITE = 255.0
# The published 256-channel EDSR scales its residuals by 0.1, all others by 1; the state dict does not show it.
_DAMPED_WIDTH, _DAMPING = 256, 0.1


class _ResidualBuilder(Builder):
    """Building blocks shared by both networks."""

    def blocks(self, count: int, channels: int, x: int, damping: float = 1.0) -> int:
        """Residual blocks: convolution, ReLU, convolution, plus the block's input."""
        for i in range(count):
            name = f"body.{i}.conv"
            y = self.add(f"{name}1", self.tensors.conv(f"{name}1", channels, channels), x, slope=_RELU)
            arrays = self.tensors.conv(f"{name}2", channels, channels)
            x = self.add(f"{name}2", arrays, y, residuals=(Residual(x),), gain=(damping,))
        return x

    def upsample(self, name: str, channels: int, x: int, slope: Array | None = None) -> int:
        """A convolution and a pixel shuffle by the factor that its output channels allow."""
        weight, bias = self.tensors.conv(name, channels)
        if weight.shape[0] % channels:
            raise ModelError(f"{name} has {weight.shape[0]} output channels, not a multiple of {channels}")
        factor = square_root(weight.shape[0] // channels, name)
        return self.add(name, (weight, bias), x, slope=slope, shuffle=factor)


_MSR_RENAMES = (
    (r"recon_trunk\.(\d+)\.(.+)", r"body.\1.\2"),
    (r"HRconv\.(\w+)", r"conv_hr.\1"),
)


def _matches_msr(state: State) -> bool:
    return "upconv1.weight" in state and bool({"body.0.conv1.weight", "recon_trunk.0.conv1.weight"} & set(state))


def _build_msr(state: State, facts: Facts) -> Recognised:
    state = renamed(state, _MSR_RENAMES)
    tensors = Tensors(state)
    build = _ResidualBuilder(tensors)
    first = tensors.conv("conv_first")
    channels, colours = first[0].shape[:2]
    blocks = count_numbered(state, "body.")
    x = build.add("conv_first", first, IMAGE, slope=_LEAKY)
    x = build.blocks(blocks, channels, x)
    for i in range(count_numbered({name[6:]: a for name, a in state.items() if name.startswith("upconv")}, "")):
        x = build.upsample(f"upconv{i + 1}", channels, x, _LEAKY)
    x = build.add("conv_hr", tensors.conv("conv_hr", channels, channels), x, slope=_LEAKY)
    build.add("conv_last", tensors.conv("conv_last", channels, colours), x)
    tensors.finish()
    network = Network(tuple(build.convs), channels=colours, skip="bilinear")
    return build.finish(network, f"MSRResNet, {blocks} blocks of {channels} channels")


_EDSR_RENAMES = (
    (r"head\.0\.(\w+)", r"conv_first.\1"),
    (r"body\.(\d+)\.body\.0\.(\w+)", r"body.\1.conv1.\2"),
    (r"body\.(\d+)\.body\.2\.(\w+)", r"body.\1.conv2.\2"),
    (r"body\.\d+\.(weight|bias)", r"conv_after_body.\1"),
    (r"tail\.0\.(\d+)\.(\w+)", r"upsample.\1.\2"),
    (r"tail\.1\.(\w+)", r"conv_last.\1"),
)


def _matches_edsr(state: State) -> bool:
    own = "body.0.body.0.weight" in state and "tail.1.weight" in state and "head.0.weight" in state
    return own or ("body.0.conv1.weight" in state and "conv_after_body.weight" in state)


def _build_edsr(state: State, facts: Facts) -> Recognised:
    state = renamed(state, _EDSR_RENAMES)
    tensors = Tensors(state)
    build = _ResidualBuilder(tensors)
    first = tensors.conv("conv_first")
    channels, colours = first[0].shape[:2]
    input_map, output_map = _colours(tensors, colours)
    blocks, damping = count_numbered(state, "body."), _damping(channels, facts)
    head = x = build.add("conv_first", first, IMAGE)
    x = build.blocks(blocks, channels, x, damping)
    x = build.add(
        "conv_after_body", tensors.conv("conv_after_body", channels, channels), x, residuals=(Residual(head),)
    )
    for i in range(count_numbered(state, "upsample.")):
        x = build.upsample(f"upsample.{2 * i}", channels, x)  # odd indices are pixel shuffles
    last = tensors.conv("conv_last", channels, colours)
    build.add("conv_last", last, x, gain=output_map.gain, offset=output_map.offset)
    tensors.finish()
    network = Network(tuple(build.convs), channels=colours, input_map=input_map)
    damped = "" if damping == 1 else f", residuals times {damping:g}"
    words = f"EDSR, {blocks} blocks of {channels} channels{damped}"
    return build.finish(network, words, {"res_scale": repr(damping)})


def _damping(channels: int, facts: Facts) -> float:
    recorded = facts.get("res_scale")
    if recorded is None:
        return _DAMPING if channels >= _DAMPED_WIDTH else 1.0
    try:
        return float(recorded)
    except ValueError:
        raise ModelError(f"res_scale in its metadata is {recorded!r:.40}, not a number") from None


def _colours(tensors: Tensors, colours: int) -> tuple[ColourMap, ColourMap]:
    """Maps from images in 0..1 to the network's zero-mean input range, and back.

    EDSR's own files store both maps as 1x1 convolutions for images in 0..255 or 0..1; BasicSR's store neither.
    """
    mean = np.array(_DIV2K_MEAN if colours == 3 else (0.0,) * colours)
    if "sub_mean.weight" not in tensors:
        return _map(_WHITE, -_WHITE * mean), _map(1 / _WHITE, mean)
    gain, offset = _diagonal(tensors, "sub_mean", colours)
    white = _WHITE if np.abs(offset).max() > 1 else 1.0
    back, shift = _diagonal(tensors, "add_mean", colours)
    return _map(gain * white, offset), _map(back / white, shift / white)


def _diagonal(tensors: Tensors, name: str, colours: int) -> tuple[Exact, Exact]:
    weight, bias = tensors.conv(name, colours, colours, 1)
    matrix = weight[:, :, 0, 0]
    if np.any(matrix != np.diag(np.diag(matrix))):
        raise ModelError(f"{name} mixes colours")
    return np.diag(matrix), bias


def _map(gain: float | Exact, offset: Exact) -> ColourMap:
    gains = np.broadcast_to(gain, offset.shape)
    return ColourMap(tuple(map(float, gains)), tuple(map(float, offset)))


def _block_shapes(blocks: int, channels: int) -> Shapes:
    shapes = conv_shapes("conv_first", 3, channels)
    for name in (f"body.{i}.conv{k}" for i in range(blocks) for k in (1, 2)):
        shapes |= conv_shapes(name, channels, channels)
    return shapes


@dataclass(frozen=True, slots=True)
class EDSRSettings(Settings):
    """Sizes of an EDSR with BasicSR's names; the defaults are those of the paper's baseline.

    Attributes:
        blocks: number of residual blocks.
        res_scale: scale of each block's residual branch; the paper's large network (256 channels, 32 blocks) uses 0.1.
    """

    SCALES: ClassVar[tuple[int, ...]] = (2, 3, 4)

    blocks: int = 16
    res_scale: float = 1.0

    def shapes(self) -> Shapes:
        """See `Settings`."""
        c = self.channels
        shapes = _block_shapes(self.blocks, c) | conv_shapes("conv_after_body", c, c)
        for i, factor in enumerate(shuffle_factors(self.scale)):
            shapes |= conv_shapes(f"upsample.{2 * i}", c, c * factor**2)
        return shapes | conv_shapes("conv_last", c, 3)

    def facts(self) -> Facts:
        """See `Settings`."""
        return {"res_scale": repr(self.res_scale)}


@dataclass(frozen=True, slots=True)
class MSRResNetSettings(Settings):
    """Sizes of an MSRResNet; the defaults are BasicSR's.

    Attributes:
        blocks: number of residual blocks.
    """

    SCALES: ClassVar[tuple[int, ...]] = (2, 3, 4)

    blocks: int = 16

    def he_factor(self, name: str) -> float:
        """See `Settings`; as in BasicSR."""
        return 0.1

    def shapes(self) -> Shapes:
        """See `Settings`."""
        c = self.channels
        shapes = _block_shapes(self.blocks, c)
        for i, factor in enumerate(shuffle_factors(self.scale)):
            shapes |= conv_shapes(f"upconv{i + 1}", c, c * factor**2)
        return shapes | conv_shapes("conv_hr", c, c) | conv_shapes("conv_last", c, 3)


EDSR = Architecture("EDSR", _matches_edsr, _build_edsr, "edsr", EDSRSettings)
MSR_RESNET = Architecture("MSRResNet", _matches_msr, _build_msr, "msrresnet", MSRResNetSettings)
