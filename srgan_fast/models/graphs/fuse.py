"""Converts a graph to a network by fusing activations, residuals, upsampling and colour maps into convolutions.

The graph is visited once, in order. Every value is kept in the least committed form: a convolution with a single reader
stays open until a node comes that cannot be fused into it. Operations that cannot be fused become a 1x1 convolution
with identity weights, so every graph of these operations has a network, and common files have the expected one.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import graph as g
from srgan_fast.models.graphs.graph import quoted
from srgan_fast.network.graph import IMAGE, Array, ColourMap, Conv, Network, Residual, Skip, value_of
from srgan_fast.network.lowering import nearest_as_phases, slopes_before_shuffle

Exact = NDArray[np.float64]

MAX_RESIDUALS = 2
"""Most residuals that kernels add in one epilogue; further ones get a convolution of their own."""


@dataclass(frozen=True, slots=True)
class _Image:
    """The image before any pixel-unshuffle, after the colour map collected so far."""


@dataclass(frozen=True, slots=True)
class _Values:
    """Finished values of one resolution, concatenated and multiplied by a factor."""

    parts: tuple[int, ...]
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class _Enlarged:
    """A value at a higher resolution that has not been computed: convolutions and sums can use its source directly."""

    source: "_Image | _Values"
    kind: str
    factor: int


@dataclass(frozen=True, slots=True, eq=False)
class _Open:
    """A convolution that the next node may be fused into. Fields as in `Conv`; rows of weights times `gain`."""

    name: str
    inputs: tuple[int, ...]
    weight: g.Floats
    bias: Exact
    gain: Exact
    slope: Array | None = None
    residuals: tuple[Residual, ...] = ()
    shuffle: int = 1
    # Only the last convolution of a network can have these.
    skip: Skip = "none"
    tanh: bool = False
    map_gain: Exact = field(default_factory=lambda: np.ones(1))
    map_offset: Exact = field(default_factory=lambda: np.zeros(1))
    clip: tuple[Exact, Exact] | None = None

    @property
    def plain(self) -> bool:
        """Whether it has only an activation, residuals and a shuffle."""
        return self.skip == "none" and not self.tanh and not self.mapped and self.clip is None

    @property
    def mapped(self) -> bool:
        return bool((self.map_gain != 1).any() or (self.map_offset != 0).any())

    @property
    def channels(self) -> int:
        """Channels of the result, after the shuffle."""
        return int(self.weight.shape[0]) // self.shuffle**2


_Form = _Image | _Values | _Enlarged | _Open


def fuse(graph: g.Graph) -> Network:
    """Converts a graph to a network.

    For files that resize with repeated borders after their last convolution (Real-ESRGAN's x2 and x3 video models
    compute x4 and resize the result), the network's zero padding changes the outermost pixels; everything else is
    exact.

    Raises:
        ModelError: an unsupported node, which is named; parts that do not fit together; or a graph beyond the limits.
    """
    return _Fuser(graph).run()


class _Fuser:
    def __init__(self, graph: g.Graph) -> None:
        self.graph = graph
        self.nodes = _needed(graph)
        self.uses = Counter([graph.output, *(name for node in self.nodes for name in node.inputs)])
        self.last_sum, self.last_resize = self._find_end()
        self.channels = self._image_channels()
        self.convs: list[Conv] = []
        self.names: set[str] = set()
        self.shapes: list[tuple[int, int]] = []  # channels and resolution of every value
        self.weights_left = g.MAX_WEIGHTS
        self.unshuffle = 0  # 0 until value 0 is read
        self.image_order: NDArray[np.intp] | None = None  # the network's channel for each channel of the file
        self.image_gain, self.image_offset = np.ones(1), np.zeros(1)
        self.forms: dict[str, _Form] = {graph.input: _Image()}
        self.node = self.nodes[0]

    def run(self) -> Network:
        for node in self.nodes:
            self.node = node
            form = self._apply(node, [self.forms[name] for name in node.inputs])
            if isinstance(form, _Open) and self.uses[node.output] > 1:
                form = self._finished(form)
            self.forms[node.output] = form
        return self._network(self._open(self.forms[self.graph.output]))

    # Properties of the whole graph.

    def _find_end(self) -> tuple[g.Node | None, g.Node | None]:
        """The final sum and the final resize, which only colour maps, tanh and clips follow."""
        made_by = {node.output: node for node in self.nodes}
        node = made_by.get(self.graph.output)
        if self.uses[self.graph.output] > 1:
            return None, None
        while node is not None and isinstance(node.op, g.ScaleShift | g.Tanh | g.Clip):
            (name,) = node.inputs
            node = made_by.get(name) if self.uses[name] == 1 else None
        if node is None:
            return None, None
        return (node if isinstance(node.op, g.Sum) else None), (node if isinstance(node.op, g.Resize) else None)

    def _image_channels(self) -> int:
        """Channels of the image: as stated in the file, or as the first convolution needs."""
        if self.graph.channels is not None:
            return self.graph.channels
        factors = {self.graph.input: 1}  # values that are the image, and the factor on its channels
        for node in self.nodes:
            factor = factors.get(node.inputs[0]) if node.inputs else None
            if factor is None:
                continue
            if isinstance(node.op, g.Conv2d):
                return int(node.op.weight.shape[1]) // factor
            if isinstance(node.op, g.Unshuffle):
                factors[node.output] = factor * node.op.factor**2
            elif not isinstance(node.op, g.Shuffle | g.Concat | g.Sum):
                factors[node.output] = factor
        raise ModelError("no convolution reads the image, so its number of channels is unknown")

    def _network(self, last: _Open) -> Network:
        if last.clip is not None:
            low, high = last.clip
            if not ((low <= 1e-6).all() and (high >= 1 - 1e-6).all()):
                raise ModelError(f"the result is clipped to {low.min():g}..{high.max():g}, which is less than 0..1")
        self._finish(last)
        channels = self.channels
        return Network(
            convs=tuple(self.convs),
            channels=channels,
            unshuffle=max(self.unshuffle, 1),
            skip=last.skip,
            input_map=_colour_map(self.image_gain, self.image_offset, channels),
            tanh=last.tanh,
            output_map=_colour_map(last.map_gain, last.map_offset, channels),
        )

    # Operations.

    def _apply(self, node: g.Node, inputs: list[_Form]) -> _Form:  # noqa: PLR0911, PLR0912 (one for each operation)
        op = node.op
        match op:
            case g.Concat():
                return self._concat(inputs)
            case g.Sum():
                return self._sum(node, inputs, op.scales)
            case g.Conv2d():
                return self._convolve(node, op, inputs[0])
            case g.Slope():
                return self._activate(self._open(inputs[0]), op.slope.astype(np.float32).reshape(-1))
            case g.ScaleShift():
                return self._affine(node, op, inputs[0])
            case g.Resize():
                return self._resize(node, op, inputs[0])
            case g.Shuffle():
                return self._shuffle(node, op, self._open(inputs[0]))
            case g.Unshuffle():
                return self._unshuffle(node, op, inputs[0])
            case g.Reorder():
                return self._reorder(node, op, inputs[0])
            case g.Tanh():
                x = self._open(inputs[0])
                if x.tanh or x.mapped or x.clip is not None:
                    raise ModelError(f"{quoted(node.name)}: a tanh after a clip, a colour map or another tanh")
                return replace(x, tanh=True)
            case g.Clip():
                x = self._open(inputs[0])
                return x if x.clip is not None else replace(x, clip=(np.array([op.low]), np.array([op.high])))
            case _:
                assert_never(op)

    def _convolve(self, node: g.Node, op: g.Conv2d, x: _Form) -> _Form:
        c_out, c_in, size, _ = op.weight.shape
        factor = 1
        if isinstance(x, _Enlarged) and x.kind == "nearest" and size // 2 <= x.factor:
            factor, x = x.factor, x.source
        source = self._unscaled(self._finished(x))
        found = self._channels(source)
        if found != c_in:
            raise ModelError(f"{quoted(node.name)}: {found} channels arrive, its weights are for {c_in}")
        weight, bias = op.weight, op.bias.astype(np.float64)
        if factor > 1:
            self._spend(3 * c_out * factor**2 * c_in * 9)  # temporarily in float64
            phases, bias = nearest_as_phases(weight.astype(np.float64), bias, factor)
            weight = phases.astype(np.float32)
        return _Open(node.name, source.parts, weight, bias, np.ones(len(bias)), shuffle=factor)

    def _activate(self, x: _Open, slope: Array) -> _Open:
        if slope.size not in (1, x.channels):
            raise ModelError(f"{quoted(self.node.name)}: {slope.size} slopes for {x.channels} channels")
        if x.slope is not None or not x.plain:
            x = self._identity(self._finished(x))
        x = self._with_residuals_as_inputs(x)
        return replace(x, slope=slopes_before_shuffle(slope, x.shuffle))

    def _affine(self, node: g.Node, op: g.ScaleShift, x: _Form) -> _Form:
        gain, offset = (v.astype(np.float64).reshape(-1) for v in (op.gain, op.offset))
        if isinstance(x, _Image):
            _check_per_channel(node, self.channels, gain, offset)
            if self.uses[node.inputs[0]] == 1 and self.unshuffle == 0:
                self.image_gain, self.image_offset = self.image_gain * gain, self.image_offset * gain + offset
                return x
        elif isinstance(x, _Values) and gain.size == 1 and not offset.any():
            return replace(x, scale=x.scale * float(gain[0]))
        return self._scaled(self._open(x), gain, offset)

    def _scaled(self, x: _Open, gain: Exact, offset: Exact) -> _Open:
        """Fuses `gain * x + offset` into the convolution, or into the network's output map."""
        _check_per_channel(self.node, x.channels, gain, offset)
        if not x.plain:  # there is a skip, tanh, map or clip in between
            clip = x.clip
            if clip is not None:
                ends = (clip[0] * gain + offset, clip[1] * gain + offset)
                clip = np.minimum(*ends), np.maximum(*ends)
            map_gain, map_offset = x.map_gain * gain, x.map_offset * gain + offset
            return replace(x, map_gain=map_gain, map_offset=map_offset, clip=clip)
        if x.slope is not None and (offset.any() or (gain <= 0).any() or (gain.size > 1 and x.residuals)):
            x = self._identity(self._finished(x))
        if gain.size > 1 or offset.any():
            x = self._with_residuals_as_inputs(x) if gain.size > 1 else x
            gain, offset = (np.repeat(np.broadcast_to(v, x.channels), x.shuffle**2) for v in (gain, offset))
        residuals = tuple(Residual(r.value, r.scale * float(gain[0])) for r in x.residuals)
        return replace(x, gain=x.gain * gain, bias=x.bias * gain + offset, residuals=residuals)

    def _concat(self, inputs: list[_Form]) -> _Form:
        done = [self._unscaled(self._finished(form)) for form in inputs]
        parts = tuple(part for values in done for part in values.parts)
        if len({self.shapes[part][1] for part in parts}) > 1:
            raise ModelError(f"{quoted(self.node.name)}: joins maps of different sizes")
        if sum(self.shapes[part][0] for part in parts) > g.MAX_CHANNELS or len(parts) > g.MAX_PARTS:
            raise ModelError(
                f"{quoted(self.node.name)}: joins more than {g.MAX_CHANNELS} channels or {g.MAX_PARTS} maps"
            )
        return _Values(parts)

    def _resize(self, node: g.Node, op: g.Resize, x: _Form) -> _Form:
        if op.factor == 1:
            return x
        if op.factor.denominator == 1 and not (node is self.last_resize and op.kind != "nearest"):
            factor = op.factor.numerator
            if isinstance(x, _Enlarged) and x.kind == op.kind == "nearest":
                return replace(x, factor=self._checked_factor(x.factor * factor))
            source = x if isinstance(x, _Image) else self._finished(x)
            if op.kind == "nearest" or (op.kind == "bilinear" and isinstance(x, _Image)):
                return _Enlarged(source, op.kind, self._checked_factor(factor))
        if node is not self.last_resize or op.kind == "nearest":
            raise ModelError(f"{quoted(node.name)}: a {op.kind} resize by {op.factor} inside the network")
        return self._resampled(self._open(x), op)

    def _resampled(self, x: _Open, op: g.Resize) -> _Open:
        """Fuses a resize after the last convolution's shuffle into the convolution before the shuffle."""
        before, after = x.shuffle, x.shuffle * op.factor
        if after.denominator != 1 or after < 1 or not x.plain:
            raise ModelError(f"{quoted(self.node.name)}: a {op.kind} resize by {op.factor} after a shuffle by {before}")
        taps = _resize_taps(op.kind, before, self._checked_factor(after.numerator))
        channels, size = x.channels, taps.shape[2]
        rows, columns = channels * taps.shape[0] ** 2, channels * before**2
        self._spend(2 * rows * columns * size**2)
        # From channel c of pixels (k, l) at phase (i, j) to channel c at phase (p, q) of the result.
        plane = np.einsum("pik,qjl->pqijkl", taps, taps).reshape(taps.shape[0] ** 2, before**2, size, size)
        weight = np.zeros((channels, taps.shape[0] ** 2, channels, before**2, size, size), np.float32)
        weight[np.arange(channels), :, np.arange(channels)] = plane
        source = self._finished(replace(x, shuffle=1))
        return _Open(
            self.node.name, source.parts, weight.reshape(rows, columns, size, size), np.zeros(rows), np.ones(rows),
            shuffle=after.numerator,
        )  # fmt: skip

    def _shuffle(self, node: g.Node, op: g.Shuffle, x: _Open) -> _Open:
        if x.shuffle > 1 or not x.plain:
            x = self._identity(self._finished(x))
        if x.channels % op.factor**2:
            raise ModelError(f"{quoted(node.name)}: {x.channels} channels cannot be shuffled by {op.factor}")
        if op.blocks_first:
            x = self._with_residuals_as_inputs(x) if x.slope is None else x
            x = self._identity(self._finished(x)) if x.residuals else x
            self._spend(x.weight.size)
            order = np.arange(x.channels).reshape(op.factor**2, -1).T.reshape(-1)
            slope = x.slope if x.slope is None or x.slope.size == 1 else x.slope[order]
            x = replace(x, weight=x.weight[order], bias=x.bias[order], gain=x.gain[order], slope=slope)
        return replace(x, shuffle=op.factor)

    def _unshuffle(self, node: g.Node, op: g.Unshuffle, x: _Form) -> _Form:
        if not isinstance(x, _Image) or self.unshuffle:
            raise ModelError(f"{quoted(node.name)}: a pixel-unshuffle of anything but the image")
        source = self._image(op.factor)
        if op.blocks_first:
            self.image_order = np.arange(self.shapes[IMAGE][0]).reshape(-1, op.factor**2).T.reshape(-1)
        return source

    def _reorder(self, node: g.Node, op: g.Reorder, x: _Form) -> _Form:
        count = self.shapes[IMAGE][0] if self.shapes else 0
        if x != _Values((IMAGE,)) or self.uses[node.inputs[0]] > 1 or sorted(op.order) != list(range(count)):
            raise ModelError(f"{quoted(node.name)}: another order of channels than those of an unshuffled image")
        before = np.arange(count) if self.image_order is None else self.image_order
        order = before[list(op.order)]
        self.image_order = None if (order == np.arange(count)).all() else order
        return x

    def _sum(self, node: g.Node, inputs: list[_Form], scales: Sequence[float]) -> _Form:
        terms = list(zip(inputs, scales, strict=True))
        # An open convolution absorbs the other terms.
        at = max((i for i, (form, _) in enumerate(terms) if isinstance(form, _Open)), default=None)
        if at is None:
            at = next((i for i, (form, _) in enumerate(terms) if not isinstance(form, _Enlarged)), 0)
        form, scale = terms.pop(at)
        total = self._open(form)
        if scale != 1:
            total = self._scaled(total, np.array([scale]), np.zeros(1))
        for form, scale in terms:
            total = self._added(node, total, form, scale)
        return total

    def _added(self, node: g.Node, total: _Open, x: _Form, scale: float) -> _Open:
        """`total + scale * x`."""
        if not total.plain:
            raise ModelError(f"{quoted(node.name)}: a sum after the network's last sum")
        if isinstance(x, _Image) and self.unshuffle > 1:
            x = _Enlarged(x, "nearest", 1)  # the result has the image's size
        if isinstance(x, _Enlarged):
            if self._is_skip(node, total, x, scale):
                return replace(total, skip="nearest" if x.kind == "nearest" else "bilinear")
            if x.kind != "nearest":
                raise ModelError(f"{quoted(node.name)}: adds a map that was enlarged by {x.kind} interpolation")
            source = self._finished(x.source)
            same_size = self._resolution(source.parts[0]) == self._resolution(total.inputs[0])
            if same_size and x.factor == total.shuffle and total.slope is None:
                return self._with_inputs(total, source, scale)
        values = self._finished(x)
        scale *= values.scale
        if self._channels(values) != total.channels:
            raise ModelError(f"{quoted(node.name)}: adds {self._channels(values)} channels to {total.channels}")
        if self._resolution(values.parts[0]) != self._resolution(total.inputs[0]) * total.shuffle:
            raise ModelError(f"{quoted(node.name)}: adds maps of different sizes")
        known = next((r for r in total.residuals if (r.value,) == values.parts), None)
        if total.shuffle > 1 or (known is None and len(total.residuals) >= MAX_RESIDUALS):
            total, known = self._identity(self._finished(total)), None
        if len(values.parts) > 1 or (IMAGE in values.parts and self.image_order is not None):
            if total.slope is not None:
                total = self._identity(self._finished(total))
            return self._with_inputs(total, replace(values, scale=1.0), scale)
        others = tuple(r for r in total.residuals if r is not known)
        merged = Residual(values.parts[0], scale + (0.0 if known is None else known.scale))
        return replace(total, residuals=(*others, merged))

    def _is_skip(self, node: g.Node, total: _Open, x: _Enlarged, scale: float) -> bool:
        """Whether an enlarged image is the skip connection of the whole network."""
        return (
            node is self.last_sum
            and isinstance(x.source, _Image)
            and scale == 1
            and total.channels == self.channels
            and x.factor * max(self.unshuffle, 1) == self._resolution(total.inputs[0]) * total.shuffle
        )

    # Closing open convolutions, and opening finished values.

    def _finished(self, form: _Form) -> _Values:
        """Converts a form to finished values; computes them if necessary."""
        match form:
            case _Image():
                return self._image(1)
            case _Values():
                return form
            case _Enlarged():
                return self._finished(self._open(form))
            case _Open():
                if not form.plain:
                    raise ModelError(
                        f"{quoted(self.node.name)}: follows a tanh, a clip or an enlarged image added to the result, "
                        f"which only the end of a network has"
                    )
                return _Values((self._finish(form),))
            case _:
                assert_never(form)

    def _unscaled(self, values: _Values) -> _Values:
        return values if values.scale == 1 else self._finished(self._identity(values))

    def _open(self, form: _Form) -> _Open:
        """Converts a form to an open convolution."""
        if isinstance(form, _Open):
            return form
        if isinstance(form, _Enlarged):
            if form.kind != "nearest":
                raise ModelError(f"{quoted(self.node.name)}: reads a map enlarged by {form.kind} interpolation")
            return self._identity(self._finished(form.source), form.factor)
        return self._identity(self._finished(form))

    def _image(self, unshuffle: int) -> _Values:
        if self.unshuffle not in (0, unshuffle):
            raise ModelError(f"{quoted(self.node.name)}: the image is read both as it is and after a pixel-unshuffle")
        self.unshuffle = unshuffle
        self.shapes = self.shapes or [(self.channels * unshuffle**2, 1)]
        return _Values((IMAGE,))

    def _identity(self, values: _Values, enlarge: int = 1) -> _Open:
        """A 1x1 convolution that copies its input to each of `enlarge`^2 pixels."""
        channels = self._channels(values)
        self._spend(channels**2 * enlarge**2)
        weight = np.repeat(np.eye(channels, dtype=np.float32), enlarge**2, 0)[:, :, None, None]
        rows = len(weight)
        name = f"{self.node.name}.copy"
        return _Open(name, values.parts, weight, np.zeros(rows), np.full(rows, values.scale), shuffle=enlarge)

    def _with_residuals_as_inputs(self, x: _Open) -> _Open:
        """The same convolution, with its residuals read as inputs with identity weights instead."""
        for residual in x.residuals:
            x = self._with_inputs(x, _Values((residual.value,)), residual.scale, x.weight.shape[0])
        return replace(x, residuals=())

    def _with_inputs(self, x: _Open, source: _Values, scale: float, channels: int | None = None) -> _Open:
        """A convolution that also reads values and adds them, times a factor, to its result before the shuffle.

        Args:
            x: convolution without activation.
            source: values at the convolution's resolution.
            scale: factor.
            channels: channels of the source; by default those of the result, each added to all pixels of the shuffle.
        """
        assert x.slope is None
        channels = x.channels if channels is None else channels
        if self._channels(source) != channels:
            raise ModelError(f"{quoted(self.node.name)}: adds {self._channels(source)} channels to {channels}")
        rows, size = x.weight.shape[0], x.weight.shape[2]
        self._spend(rows * (x.weight.shape[1] + channels) * size**2)
        more = np.zeros((rows, channels, size, size), np.float32)
        each = np.repeat(np.eye(channels), rows // channels, 0) * (scale * source.scale)
        more[:, :, size // 2, size // 2] = each
        weight = np.concatenate([np.multiply(x.weight, x.gain[:, None, None, None], dtype=np.float32), more], 1)
        return replace(x, inputs=(*x.inputs, *source.parts), weight=weight, gain=np.ones(rows))

    def _finish(self, x: _Open) -> int:
        """Appends a convolution to the network; returns the index of its value."""
        self._spend(x.weight.size)
        if IMAGE in x.inputs and self.image_order is not None:
            x = self._with_image_order(x, self.image_order)
        weight = np.empty(x.weight.shape, np.float32)
        np.multiply(x.weight, x.gain[:, None, None, None], out=weight, casting="same_kind")
        bias = x.bias.astype(np.float32)
        self.convs.append(Conv(self._unique(x.name), x.inputs, weight, bias, x.slope, x.residuals, x.shuffle))
        if x.channels > g.MAX_CHANNELS:
            raise ModelError(f"{quoted(x.name)}: {x.channels} channels, more than {g.MAX_CHANNELS}")
        self.shapes.append((x.channels, self._checked_resolution(self._resolution(x.inputs[0]) * x.shuffle)))
        return value_of(len(self.convs) - 1)

    def _with_image_order(self, x: _Open, order: NDArray[np.intp]) -> _Open:
        """Permutes the weights' input channels from the file's image channel order to the network's."""
        self._spend(x.weight.size)
        weight, first = np.array(x.weight), 0
        for value in x.inputs:
            channels = self.shapes[value][0]
            if value == IMAGE:
                weight[:, first + order] = x.weight[:, first : first + channels]
            first += channels
        return replace(x, weight=weight)

    def _unique(self, name: str) -> str:
        """A unique name for a convolution, derived from the file's name."""
        plain = re.sub(r"[^A-Za-z0-9_./:-]", "_", name)[:60] or "conv"
        unique = plain
        while unique in self.names:
            unique = f"{plain}.{len(self.names)}"
        self.names.add(unique)
        return unique

    # Limits and sizes.

    def _channels(self, values: _Values) -> int:
        return sum(self.shapes[part][0] for part in values.parts)

    def _resolution(self, value: int) -> int:
        return self.shapes[value][1]

    def _spend(self, weights: int) -> None:
        """Counts weights towards the limit, before they are allocated."""
        self.weights_left -= weights
        if self.weights_left < 0:
            raise ModelError(f"{quoted(self.node.name)}: the network would have more than {g.MAX_WEIGHTS} weights")

    def _checked_factor(self, factor: int) -> int:
        if not 1 <= factor <= g.MAX_FACTOR:
            raise ModelError(f"{quoted(self.node.name)}: enlarges by {factor}, more than {g.MAX_FACTOR}")
        return factor

    def _checked_resolution(self, resolution: int) -> int:
        if resolution > g.MAX_FACTOR * max(self.unshuffle, 1):
            raise ModelError(f"{quoted(self.node.name)}: enlarges by {resolution}, more than {g.MAX_FACTOR}")
        return resolution


def _needed(graph: g.Graph) -> list[g.Node]:
    """Nodes that the output depends on, in order."""
    needed, nodes = {graph.output}, []
    for node in reversed(graph.nodes):
        if node.output in needed:
            needed.update(node.inputs)
            nodes.append(_simplified(node))
    if not any(isinstance(node.op, g.Conv2d) for node in nodes):
        raise ModelError("no convolution lies between its input and its output")
    return nodes[::-1]


def _simplified(node: g.Node) -> g.Node:
    """Replaces a convolution that only scales and shifts channels, like EDSR's mean shift, by a colour map."""
    match node.op:
        case g.Conv2d(weight, bias) if weight.shape[2] == 1 and weight.shape[0] == weight.shape[1] <= 4:
            diagonal = np.diagonal(weight[:, :, 0, 0])
            if np.count_nonzero(weight) == np.count_nonzero(diagonal) == len(diagonal):
                return replace(node, op=g.ScaleShift(diagonal, bias))
    return node


def _check_per_channel(node: g.Node, channels: int, *values: Exact) -> None:
    for v in values:
        if v.size not in (1, channels):
            raise ModelError(f"{quoted(node.name)}: {v.size} constants for {channels} channels")


def _colour_map(gain: Exact, offset: Exact, channels: int) -> ColourMap:
    if any(v.size not in (1, channels) for v in (gain, offset)):
        raise ModelError(f"the result has {max(gain.size, offset.size)} channels, the image {channels}")
    return ColourMap(*(tuple(float(f) for f in np.broadcast_to(v, channels)) for v in (gain, offset)))


def _resize_taps(kind: str, before: int, after: int) -> Exact:
    """Weights of the input pixels in the surrounding cells for each of `after` output pixels of a cell.

    Half-pixel centres, as in ncnn and ONNX: output pixel p is at (p + 1/2) * before / after - 1/2.

    Returns:
        after, before, number of cells (odd, the current cell in the middle).
    """
    reach = {"bilinear": 1, "bicubic": 2}[kind]
    found: list[tuple[int, int, float]] = []
    for p in range(after):
        centre = Fraction(2 * p + 1, 2) * Fraction(before, after) - Fraction(1, 2)
        first = centre.numerator // centre.denominator
        for pixel in range(first - reach + 1, first + reach + 1):
            found.append((p, pixel, _interpolation(kind, abs(float(centre - pixel)))))
    cells = max(max(-(pixel // before), pixel // before) for _, pixel, _ in found)
    taps = np.zeros((after, before, 2 * cells + 1))
    for p, pixel, weight in found:
        taps[p, pixel % before, pixel // before + cells] += weight
    return taps


def _interpolation(kind: str, distance: float) -> float:
    """Weight of a pixel at a distance: triangle, or Keys' cubic (1981) with a = -0.75."""
    x, a = distance, -0.75
    if kind == "bilinear":
        return max(0.0, 1 - x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


__all__ = ["MAX_RESIDUALS", "fuse"]
