"""RRDBNet: ESRGAN, Real-ESRGAN, BSRGAN, RealSR and most community models.

Wang et al. 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", section 3.1; the pixel-unshuffle
for scales 1 and 2 follows Wang et al. 2021, "Real-ESRGAN".
"""

import re
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
    square_root,
)
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import IMAGE, Network, Residual

_SLOPE = np.array([0.2], np.float32)  # of every LeakyReLU
_DAMPING = 0.2  # residual scale of dense blocks and of RRDB blocks

# Renames the layouts of 2018 (`model.0`) and of BSRGAN to BasicSR's. Indices after the trunk depend on the number of
# upsamplers: see `_flat_tail`.
_RENAMES = (
    (r"model\.0\.(\w+)", r"conv_first.\1"),
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\w+?)(?:\.0)?\.(weight|bias)", r"body.\1.rdb\2.conv\3.\4"),
    (r"model\.1\.sub\.\d+\.(weight|bias)", r"conv_body.\1"),
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\w+)\.(weight|bias)", r"body.\1.rdb\2.conv\3.\4"),
    (r"trunk_conv\.(\w+)", r"conv_body.\1"),
    (r"upconv(\d)\.(\w+)", r"conv_up\1.\2"),
    (r"HRconv\.(\w+)", r"conv_hr.\1"),
)
_FIRST_BLOCKS = (
    "body.0.rdb1.conv1.weight",
    "RRDB_trunk.0.RDB1.conv1.weight",
    "model.1.sub.0.RDB1.conv1.0.weight",
    "model.1.sub.0.RDB1.conv1.weight",
)


def _matches(state: State) -> bool:
    return any(name in state for name in _FIRST_BLOCKS)


def _flat_tail(state: State) -> dict[str, str]:
    """Names of the flat indices after the trunk: upsampler, convolution, activation per stage; then two convolutions.

    With n upsamplers their convolutions have indices 3, 6, ..., 3 n; the last two are 3 n + 2 and 3 n + 4.
    """
    found = (re.fullmatch(r"model\.(\d{1,3})\.weight", name) for name in state)
    numbers = sorted(int(match[1]) for match in found if match and int(match[1]) > 1)
    if len(numbers) < 2:
        raise ModelError("the convolutions after the trunk are missing")
    names = [*(f"conv_up{i + 1}" for i in range(len(numbers) - 2)), "conv_hr", "conv_last"]
    wanted = [*(3 * (i + 1) for i in range(len(numbers) - 2)), 3 * len(numbers) - 4, 3 * len(numbers) - 2]
    if numbers != wanted:
        raise ModelError(f"the convolutions after the trunk have indices {numbers}, expected {wanted}")
    return {f"model.{number}": name for number, name in zip(numbers, names, strict=True)}


def _in_basicsr_names(state: State) -> State:
    if "model.0.weight" in state:
        numbers = _flat_tail(state).items()
        state = renamed(state, ((rf"{re.escape(number)}\.(\w+)", rf"{name}.\1") for number, name in numbers))
    return renamed(state, _RENAMES)


class _RRDBBuilder(Builder):
    """Building blocks of an RRDB network."""

    def dense(self, name: str, x: int, *residuals: Residual, damping: float) -> int:
        """Five densely connected convolutions; returns `damping * fifth + residuals`."""
        first = self.tensors.conv(f"{name}.conv1")
        growth, channels = first[0].shape[:2]
        beside = None
        if f"{name}.conv1x1.weight" in self.tensors:  # ESRGAN+ (Rakotonirina and Rasoanaivo 2020)
            beside = self.add(f"{name}.conv1x1", self.tensors.conv(f"{name}.conv1x1", channels, growth, 1), x)
        values = [x, self.add(f"{name}.conv1", first, x, slope=_SLOPE)]
        for i in (2, 3, 4):
            arrays = self.tensors.conv(f"{name}.conv{i}", channels + (i - 1) * growth, growth)
            extra = () if beside is None or i == 3 else (Residual(beside if i == 2 else values[2]),)
            values.append(self.add(f"{name}.conv{i}", arrays, *values, residuals=extra, slope=_SLOPE))
        arrays = self.tensors.conv(f"{name}.conv5", channels + 4 * growth, channels)
        return self.add(f"{name}.conv5", arrays, *values, residuals=residuals, gain=(damping,))

    def block(self, name: str, x: int) -> int:
        """Three dense blocks; their damped result is added to the block's input."""
        y = self.dense(f"{name}.rdb1", x, Residual(x), damping=_DAMPING)
        y = self.dense(f"{name}.rdb2", y, Residual(y), damping=_DAMPING)
        return self.dense(f"{name}.rdb3", y, Residual(y, _DAMPING), Residual(x), damping=_DAMPING**2)


def _build(state: State, facts: Facts) -> Recognised:
    state = _in_basicsr_names(state)
    tensors = Tensors(state)
    build = _RRDBBuilder(tensors)
    first = tensors.conv("conv_first")
    channels, given = first[0].shape[:2]
    feature = x = build.add("conv_first", first, IMAGE)
    blocks, stages = count_numbered(state, "body."), _count_upsamplers(state)
    growth = state["body.0.rdb1.conv1.weight"].shape[0]
    for i in range(blocks):
        x = build.block(f"body.{i}", x)
    x = build.add("conv_body", tensors.conv("conv_body", channels, channels), x, residuals=(Residual(feature),))
    for i in range(stages):
        arrays = tensors.conv(f"conv_up{i + 1}", channels, channels)
        x = build.add(f"conv_up{i + 1}", arrays, x, slope=_SLOPE, nearest=2, shuffle=2)
    x = build.add("conv_hr", tensors.conv("conv_hr", channels, channels), x, slope=_SLOPE)
    last = tensors.conv("conv_last", channels)
    build.add("conv_last", last, x)
    tensors.finish()
    colours = last[0].shape[0]
    if given % colours:
        raise ModelError(f"the input has {given} channels, the output {colours}")
    unshuffle = square_root(given // colours, "conv_first: input channels per output channel")
    if 2**stages % unshuffle:
        raise ModelError(f"it enlarges by {2**stages} after a pixel-unshuffle by {unshuffle}")
    network = Network(tuple(build.convs), channels=colours, unshuffle=unshuffle)
    words = f"RRDB (ESRGAN), {blocks} blocks, {channels} channels, growth {growth}"
    return build.finish(network, f"{words}, pixel-unshuffle {unshuffle}" if unshuffle > 1 else words)


def _count_upsamplers(state: State) -> int:
    return len({name for name in state if re.fullmatch(r"conv_up\d\.weight", name)})


@dataclass(frozen=True, slots=True)
class RRDBSettings(Settings):
    """Sizes of an RRDB network; the defaults are those of ESRGAN and of RealESRGAN_x4plus.

    Scales 1 and 2 are the x4 network after a pixel-unshuffle by 4 or 2, as in Real-ESRGAN.

    Attributes:
        blocks: number of RRDB blocks, three dense blocks each.
        growth: channels that each convolution of a dense block adds.
    """

    SCALES: ClassVar[tuple[int, ...]] = (1, 2, 4)

    blocks: int = 23
    growth: int = 32

    def he_factor(self, name: str) -> float | None:
        """See `Settings`.

        ESRGAN, section 3.1, "smaller initialization"; in BasicSR it applies to the dense blocks' convolutions only.
        """
        return 0.1 if name.startswith("body.") else None

    @property
    def unshuffle(self) -> int:
        """See `Settings`."""
        return 4 // self.scale

    def shapes(self) -> Shapes:
        """See `Settings`."""
        c, growth = self.channels, self.growth
        shapes = conv_shapes("conv_first", 3 * self.unshuffle**2, c)
        for dense in (f"body.{i}.rdb{k}" for i in range(self.blocks) for k in (1, 2, 3)):
            for k in range(1, 6):
                shapes |= conv_shapes(f"{dense}.conv{k}", c + (k - 1) * growth, c if k == 5 else growth)
        for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
            shapes |= conv_shapes(name, c, c)
        return shapes | conv_shapes("conv_last", c, 3)


RRDB = Architecture("RRDB (ESRGAN)", _matches, _build, "rrdb", RRDBSettings)
