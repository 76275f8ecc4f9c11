"""Residual networks without BatchNorm: EDSR, in its own names and BasicSR's, and BasicSR's MSRResNet.

EDSR: Lim et al. 2017, "Enhanced Deep Residual Networks for Single Image Super-Resolution". MSRResNet is the
generator that BasicSR trains in the place of SRResNet: no BatchNorm, LeakyReLU, a bilinear skip.
"""

import numpy as np

from srgan_fast.architectures.base import (
    Architecture,
    Builder,
    Facts,
    Recognised,
    State,
    Tensors,
    count_numbered,
    renamed,
    square_root,
)
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import IMAGE, Array, ColourMap, Network, Residual
from srgan_fast.network.lowering import Exact, fold_output_map

_RELU = np.zeros(1, np.float32)
_LEAKY = np.array([0.1], np.float32)  # MSRResNet's
_DIV2K_MEAN = (0.4488, 0.4371, 0.4040)
_WHITE = 255.0
# The published EDSR of 256 channels damps its residuals by 0.1, all others do not; no state dict shows it.
_DAMPED_WIDTH, _DAMPING = 256, 0.1


class _Builder(Builder):
    """The parts that both networks have."""

    def blocks(self, count: int, channels: int, x: int, damping: float = 1.0) -> int:
        """Convolution, ReLU, convolution, added to what they began with."""
        for i in range(count):
            name = f"body.{i}.conv"
            y = self.add(f"{name}1", self.tensors.conv(f"{name}1", channels, channels), x, slope=_RELU)
            weight, bias = self.tensors.conv(f"{name}2", channels, channels)
            x = self.add(f"{name}2", (weight * damping, bias * damping), y, residuals=(Residual(x),))
        return x

    def upsample(self, name: str, channels: int, x: int, slope: Array | None = None) -> int:
        """A convolution and a pixel shuffle of as much as it has channels for."""
        weight, bias = self.tensors.conv(name, channels)
        if weight.shape[0] % channels:
            raise ModelError(f"{name} gives {weight.shape[0]} channels, no multiple of {channels}")
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
    build = _Builder(tensors)
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
    return Recognised(network, f"MSRResNet, {blocks} blocks of {channels} channels")


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
    build = _Builder(tensors)
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
        x = build.upsample(f"upsample.{2 * i}", channels, x)  # shuffles have the odd numbers
    last = fold_output_map(*tensors.conv("conv_last", channels, colours), output_map)
    build.add("conv_last", last, x)
    tensors.finish()
    network = Network(tuple(build.convs), channels=colours, input_map=input_map)
    damped = "" if damping == 1 else f", residuals times {damping:g}"
    return Recognised(network, f"EDSR, {blocks} blocks of {channels} channels{damped}")


def _damping(channels: int, facts: Facts) -> float:
    recorded = facts.get("res_scale")
    if recorded is None:
        return _DAMPING if channels >= _DAMPED_WIDTH else 1.0
    try:
        return float(recorded)
    except ValueError:
        raise ModelError(f"its res_scale is recorded as {recorded!r:.40}, which is no number") from None


def _colours(tensors: Tensors, colours: int) -> tuple[ColourMap, ColourMap]:
    """From images in 0..1 to what the network takes, whose mean is 0, and back.

    EDSR's own files hold both maps as 1x1 convolutions on its range of values, 255 or 1; BasicSR's hold neither.
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


EDSR = Architecture("EDSR", _matches_edsr, _build_edsr)
MSR_RESNET = Architecture("MSRResNet", _matches_msr, _build_msr)
