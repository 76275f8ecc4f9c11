"""Trainable generators defined by their list of convolutions: Compact, RRDB, EDSR, MSRResNet.

They execute the same list as the backends (`network.graph`). Parameters have the names of the architecture's state
dict, `Origin` defines how they become the list's weights (residual scales, phases of enlarged images), and gradients
flow back through that. So no architecture is implemented twice, and every recognised model of these can be fine-tuned.

The list is executed in plain PyTorch or with fused kernels. In the latter case a residual with factor 1, PReLU slopes
and a pixel shuffle by 2 are deferred to the convolution that reads them (`ops.pending`); constant slopes are an
epilogue. Values that are read together are concatenated by torch.cat: fused convolutions read whole maps, so slices of
a wide map would be copied as well, and one convolution per value plus a sum took 7 % longer (a dense block of 64
channels and growth 32, two maps of 48x48, forward and backward, one thread of a virtual AMD EPYC).
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from srgan_fast.architectures import TRAINED_BY_LIST, Origin, Recognised, Settings
from srgan_fast.architectures.base import NOTHING, UNCHANGED
from srgan_fast.errors import ModelError
from srgan_fast.models.checkpoint import resolve_model
from srgan_fast.models.model_file import read_state_file
from srgan_fast.models.safetensors_file import write_safetensors
from srgan_fast.models.state_dicts import as_float32
from srgan_fast.network.analysis import last_readers
from srgan_fast.network.graph import IMAGE, Conv, Residual, value_of
from srgan_fast.network.interpreter import pad_to_multiple
from srgan_fast.network.lowering import nearest_as_phases
from srgan_fast.network.torch_module import NetworkEnds
from srgan_fast.ops.modules import start
from srgan_fast.ops.pending import convolve
from srgan_fast.ops.prologue import Pending, phase_major
from srgan_fast.ops.switch import Switched

_BLOCK = re.compile(r"(body\.\d+)\..+")

Values = dict[int, Pending]
_Compute = Callable[[int, Values], Pending]


@dataclass(frozen=True, slots=True)
class _Step:
    """A convolution of the list without its weights.

    Attributes:
        inputs: see `Conv`, as for `residuals` and `shuffle`.
        residuals: added values.
        shuffle: factor of the pixel shuffle.
        size: side of the kernel.
        slope: slope of a constant activation; None for none or a trained one.
    """

    inputs: tuple[int, ...]
    residuals: tuple[Residual, ...]
    shuffle: int
    size: int
    slope: float | None

    @staticmethod
    def of(conv: Conv, origin: Origin) -> "_Step":
        constant = None if conv.slope is None or origin.slope else float(conv.slope[0])
        return _Step(conv.inputs, conv.residuals, conv.shuffle, conv.size, constant)


class _Lowering(nn.Module):
    """`Origin.lower` in PyTorch, with gradients; constants, so nothing is saved."""

    gains: Tensor | None
    offsets: Tensor | None
    phases: Tensor | None

    def __init__(self, origin: Origin, size: int) -> None:
        super().__init__()
        self.origin, self.size = origin, size

        def keep(name: str, values: Tensor | None) -> None:
            self.register_buffer(name, values, persistent=False)

        keep("gains", None if origin.gain == UNCHANGED else torch.tensor(origin.gain, dtype=torch.float64))
        keep("offsets", None if origin.offset == NOTHING else torch.tensor(origin.offset, dtype=torch.float64))
        keep("phases", None if origin.nearest == 1 else torch.from_numpy(_phases(size, origin.nearest)))

    def forward(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        if self.gains is not None:
            gains = self.gains.to(weight.dtype)
            weight, bias = weight * gains.view(-1, 1, 1, 1), None if bias is None else bias * gains
        if self.offsets is not None:
            offsets = self.offsets.to(weight.dtype)
            bias = offsets if bias is None else bias + offsets
        if (margin := (self.size - weight.shape[-1]) // 2) > 0:
            weight = F.pad(weight, (margin,) * 4)
        if self.phases is not None:
            out, channels = weight.shape[:2]
            taps, phases = weight.reshape(out, channels, -1), self.phases.to(weight.dtype)
            weight = torch.einsum("oct,tpj->opcj", taps, phases).reshape(-1, channels, 3, 3)
            bias = None if bias is None else bias.repeat_interleave(phases.shape[1])
        return weight, bias


def _phases(size: int, factor: int) -> NDArray[np.float64]:
    """Contribution of each tap of a kernel to each tap of each phase: size^2, factor^2, 9; see `nearest_as_phases`."""
    taps = size**2
    weight, _ = nearest_as_phases(np.eye(taps).reshape(taps, 1, size, size), np.zeros(taps), factor)
    return weight.reshape(taps, factor**2, 9)


class NetworkGenerator(Switched):
    """A generator that executes its network's list: images in 0..1 to images in 0..1, not clamped.

    Parameters are initialised as in PyTorch's modules; `load_state_dict` accepts `recognised.tensors`.

    Args:
        recognised: with `origins`; all convolutions must be 3x3.

    Attributes:
        description: architecture and sizes, in words.
        facts: metadata that must be stored with the weights.
        recompute: recompute each block of the body in the backward pass instead of storing its activations.
        blocks: number of such blocks.
    """

    def __init__(self, recognised: Recognised) -> None:
        super().__init__()
        network = recognised.network
        self.description, self.facts, self.recompute = recognised.description, dict(recognised.facts), False
        self.channels = network.channels
        self.ends = NetworkEnds(network)
        self._steps = [_Step.of(*pair) for pair in zip(network.convs, recognised.origins, strict=True)]
        self._last = last_readers(network)
        self._runs = _runs([conv.name for conv in network.convs])
        self.blocks = sum(is_block for _, is_block in self._runs)
        self.lowerings = nn.ModuleList(
            _Lowering(origin, conv.size) for conv, origin in zip(network.convs, recognised.origins, strict=True)
        )
        self._convs: list[nn.Conv2d] = []
        self._slopes: list[nn.PReLU | None] = []
        left = dict(recognised.tensors)
        for origin in recognised.origins:
            c_out, c_in, size = left.pop(f"{origin.name}.weight").shape[:3]
            bias = left.pop(f"{origin.name}.bias", None) is not None
            conv = nn.Conv2d(c_in, c_out, size, padding=size // 2, bias=bias)
            self._convs.append(conv)
            self._put(origin.name, conv)
            slopes = None if origin.slope is None else nn.PReLU(left.pop(origin.slope).size)
            self._slopes.append(slopes)
            if origin.slope is not None and slopes is not None:
                self._put(origin.slope.removesuffix(".weight"), slopes)
        for name, array in left.items():  # colour maps are not trained
            folder, _, last = name.rpartition(".")
            self._folder(folder).register_buffer(last, torch.from_numpy(array.copy()))

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.ends.scale

    def _folder(self, path: str) -> nn.Module:
        """The submodule of that name, created if necessary."""
        found: nn.Module = self
        for name in path.split(".") if path else ():
            if name not in dict(found.named_children()):
                found.add_module(name, nn.Module())
            found = found.get_submodule(name)
        return found

    def _put(self, path: str, module: nn.Module) -> None:
        folder, _, name = path.rpartition(".")
        self._folder(folder).add_module(name, module)

    def initialise(self, he_factor: Callable[[str], float | None]) -> None:
        """Initialises convolutions by a factor on He's standard deviation and zero biases; see `Settings.he_factor`."""
        for lowering, conv in zip(self.lowerings, self._convs, strict=True):
            assert isinstance(lowering, _Lowering)
            factor = he_factor(lowering.origin.name)
            if factor is not None:
                nn.init.kaiming_normal_(conv.weight)
                with torch.no_grad():
                    conv.weight.mul_(factor)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def computes_like(self, other: "NetworkGenerator") -> bool:
        """Whether two generators differ only in the values of their parameters."""
        return self._structure() == other._structure()

    def _structure(self) -> object:
        ends = self.ends
        maps = [values.tolist() for values in ends.buffers()]
        shapes = {name: tensor.shape for name, tensor in self.state_dict().items()}
        origins = [lowering.origin for lowering in self.lowerings]
        return shapes, self._steps, origins, maps, (ends.scale, ends.unshuffle, ends.skip, ends.tanh)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscales a batch.

        Args:
            lr: N, C, H, W in 0..1, any H, W >= 1; mirrored to multiples of the pixel-unshuffle factor.

        Returns:
            N, C, scale * H, scale * W, nominally in 0..1, not clamped.

        Raises:
            ModelError: wrong rank or number of channels.
        """
        if lr.dim() != 4 or lr.shape[1] != self.channels:
            raise ModelError(
                f"this generator takes N, {self.channels}, H, W images, got a tensor of shape {tuple(lr.shape)}"
            )
        image, first = self.ends.enter(_padded(lr, self.ends.unshuffle))
        fused = self._fuses(lr)
        values = {IMAGE: start(first) if fused else Pending(first)}
        compute = self._fused if fused else self._plain
        begin = 0
        for end, is_block in self._runs:
            if is_block and self.recompute and self.training and torch.is_grad_enabled():
                self._compute_again(begin, end, values, compute)
            else:
                self._compute(begin, end, values, compute)
            begin = end
        height, width = (side * self.scale for side in lr.shape[2:])
        return self.ends.leave(values[begin].finish(), image)[:, :, :height, :width]

    def _compute(self, begin: int, end: int, values: Values, compute: _Compute) -> None:
        """Executes a part of the list; drops values after their last use."""
        for index in range(begin, end):
            values[value_of(index)] = compute(index, values)
            for value in _read_by(self._steps[index]):
                if self._last[value] == index:
                    del values[value]

    def _compute_again(self, begin: int, end: int, values: Values, compute: _Compute) -> None:
        """The same with activation checkpointing: only inputs and outputs are stored for the backward pass."""
        read = {value for step in self._steps[begin:end] for value in _read_by(step)}
        given = sorted(value for value in read if value <= begin)
        kept = [value for value in range(begin + 1, end + 1) if self._last[value] >= end]

        def block(*maps: Tensor) -> tuple[Tensor, ...]:
            inside = {value: Pending(part) for value, part in zip(given, maps, strict=True)}
            self._compute(begin, end, inside, compute)
            return tuple(inside[value].finish() for value in kept)

        results = checkpoint(block, *(_finished(values, value) for value in given), use_reentrant=False)
        values.update({value: Pending(part) for value, part in zip(kept, results, strict=True)})
        for value in given:
            if self._last[value] < end:
                del values[value]

    def _lowered(self, index: int) -> tuple[Tensor, Tensor | None]:
        conv = self._convs[index]
        weight, bias = self.lowerings[index](conv.weight, conv.bias)
        return weight, bias

    def _plain(self, index: int, values: Values) -> Pending:
        """A convolution with its epilogue in plain PyTorch."""
        step, slopes = self._steps[index], self._slopes[index]
        y = F.conv2d(_concatenated(step, values).finish(), *self._lowered(index), padding=step.size // 2)
        if slopes is not None:
            y = slopes(y)
        elif step.slope is not None:
            y = F.leaky_relu(y, step.slope) if step.slope else F.relu(y)
        for residual in step.residuals:
            y = torch.add(y, values[residual.value].finish(), alpha=residual.scale)
        return Pending(F.pixel_shuffle(y, step.shuffle) if step.shuffle > 1 else y)

    def _fused(self, index: int, values: Values) -> Pending:
        """The same with fused kernels; deferrable operations are left to the next convolution."""
        step, slopes = self._steps[index], self._slopes[index]
        weight, bias = self._lowered(index)
        slope: Tensor | None = None if slopes is None else slopes.weight
        # The last convolution's shuffle cannot be deferred.
        waits = step.shuffle == 2 and not step.residuals and value_of(index) != len(self._steps)
        if waits:
            weight, bias = phase_major(weight), None if bias is None else phase_major(bias)
            slope = None if slope is None else phase_major(slope)
        source = _concatenated(step, values)
        result = convolve(source, weight, bias, activation=step.slope)
        if source.residual is not None:
            values[step.inputs[0]] = Pending(result.sum)
        y = Pending(result.y, slope=slope, shuffled=waits)
        for number, residual in enumerate(step.residuals, start=1):
            added = _finished(values, residual.value)
            if y.done and residual.scale == 1 and step.shuffle == 1 and number == len(step.residuals):
                y = y._replace(residual=added)
            else:
                y = Pending(torch.add(y.finish(), added, alpha=residual.scale))
        return y if waits or step.shuffle == 1 else Pending(F.pixel_shuffle(y.finish(), step.shuffle))


def _runs(names: list[str]) -> list[tuple[int, bool]]:
    """Splits the list into blocks of the body and parts between them: end of each, and whether it is a block."""
    blocks = [match[1] if (match := _BLOCK.fullmatch(name)) else "" for name in names]
    ends = [i for i in range(1, len(names)) if blocks[i] != blocks[i - 1]]
    return [(end, blocks[end - 1] != "") for end in (*ends, len(names))]


def _read_by(step: _Step) -> set[int]:
    return {*step.inputs, *(residual.value for residual in step.residuals)}


def _concatenated(step: _Step, values: Values) -> Pending:
    """Input of a convolution; a single value may have deferred operations."""
    if len(step.inputs) == 1:
        return values[step.inputs[0]]
    return Pending(torch.cat([_finished(values, value) for value in step.inputs], 1))


def _finished(values: Values, value: int) -> Tensor:
    """Applies a value's deferred operations; stores and returns the tensor."""
    values[value] = Pending(values[value].finish())
    return values[value].raw


def _padded(lr: Tensor, factor: int) -> Tensor:
    """`pad_to_multiple` for tensors."""
    for axis in (2, 3):
        side = lr.shape[axis]
        if side % factor:
            places = pad_to_multiple(np.arange(side)[None].repeat(factor, 0), factor)[0]
            lr = lr.index_select(axis, torch.from_numpy(places).to(lr.device))
    return lr


def fresh_generator(architecture: str, settings: Settings) -> NetworkGenerator:
    """A new generator for RGB images.

    Args:
        architecture: a key of `TRAINED_BY_LIST`.
        settings: instance of that architecture's settings class.

    Raises:
        ModelError: invalid sizes.
    """
    zeros = {name: np.zeros(shape, np.float32) for name, shape in settings.shapes().items()}
    generator = NetworkGenerator(TRAINED_BY_LIST[architecture].build(zeros, settings.facts()))
    generator.initialise(settings.he_factor)
    return generator


def load_network_generator(name_or_path: str | Path, key: str | None = None) -> NetworkGenerator:
    """Loads a generator from any supported model file, for training; in eval mode.

    Args:
        name_or_path: model file with a state dict; see `read_model`.
        key: which of several state dicts in it.

    Raises:
        ModelError: see `read_model`; or the file has no state dict, or its architecture cannot be trained from its
            list.
    """
    path = resolve_model(name_or_path)
    recognised = read_state_file(path, key).recognised
    if not recognised.origins:
        raise ModelError(f"{path}: is {recognised.description}, which cannot be trained from its list of convolutions")
    generator = NetworkGenerator(recognised)
    generator.load_state_dict({name: torch.from_numpy(array) for name, array in recognised.tensors.items()})
    return generator.eval()


def save_network_generator(generator: NetworkGenerator, path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a generator to a file that `read_model` and `load_network_generator` read.

    Args:
        generator: the generator; its architecture's own names are used.
        path: target, `.safetensors`.
        metadata: provenance, licence and other metadata.

    Raises:
        ModelError: weights that are not finite, or a target that cannot be written.
    """
    arrays = {
        name: as_float32(tensor.detach().float().cpu().numpy(), f"{path}: {name}")
        for name, tensor in generator.state_dict().items()
    }
    write_safetensors(path, arrays, {**(metadata or {}), **generator.facts, "architecture": generator.description})


__all__ = ["NetworkGenerator", "fresh_generator", "load_network_generator", "save_network_generator"]
