"""Runs a network's list of convolutions with our CUDA inference kernels; see `cuda_plan` and `ops.infer`."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.network.analysis import scale_of, value_shapes
from srgan_fast.network.graph import IMAGE, ColourMap, Conv, Network
from srgan_fast.ops import infer
from srgan_fast.ops.prologue import phase_major
from srgan_fast.runtime.cuda_plan import KernelStep, padded, plan_of, side_by_side

_log = logging.getLogger(__name__)

_GRAPHS = 4  # shapes whose CUDA graphs are cached
_RECORDED_PIXELS = 1 << 16  # for more pixels kernels take longer than their launches
_RECORDED_BYTES = 1 << 28  # of maps; a graph holds their memory


@dataclass(frozen=True, slots=True)
class _DeviceLayer:
    """Packed weights, bias and slope of a convolution on the device."""

    weights: Tensor
    bias: Tensor
    slope: Tensor | None


@dataclass(frozen=True, slots=True)
class _RecordedNetwork:
    graph: torch.cuda.CUDAGraph
    given: Tensor
    result: Tensor


class CudaNetwork:
    """A network for batches of images on a CUDA device.

    From the second call with a small shape on, the kernels are captured in a CUDA graph and replayed, since for small
    images they take less time than the host needs to launch them.

    Args:
        network: to run.
        dtype: bfloat16 or float16, of features and weights.
        device: CUDA device with an index.

    Attributes:
        plan: which kernels run in which order.
    """

    def __init__(self, network: Network, dtype: torch.dtype, device: torch.device) -> None:
        self._network, self._dtype, self._device = network, dtype, device
        self.plan = plan_of(network)
        self._scale = scale_of(network)
        self._shapes = value_shapes(network)
        self._channels = [padded(shape.channels) for shape in self._shapes]
        self._layers = [self._layers_of(step) for step in self.plan.steps]
        # Moved to the device up front: captured code must not synchronise with the host.
        self._input_map, self._output_map = self._colours(network.input_map), self._colours(network.output_map)
        self._graphs: OrderedDict[tuple[int, ...], _RecordedNetwork | None] = OrderedDict()
        self._records = device.type == "cuda"
        with on_device(device):
            self._stream = torch.cuda.Stream(device) if self._records else None  # type: ignore[no-untyped-call]
            if self._records:
                torch.cuda.synchronize(device)  # kernels prefetch weights while their predecessors still run

    def __call__(self, images: Tensor) -> Tensor:
        """Upscales a batch on the current stream.

        Args:
            images: N, C, H, W, float32, in 0..1, on the device; H and W are multiples of the network's pixel-unshuffle.

        Returns:
            N, C, scale * H, scale * W, float32, not clamped; the next call may overwrite it. Contains non-finite values
                if the network's maps exceeded the range of their dtype.
        """
        shape = tuple(images.shape)
        with torch.inference_mode(), on_device(self._device):
            if not self._records or not self._may_record(shape[0] * shape[2] * shape[3]):
                return self.compute(images)
            if shape not in self._graphs:
                self._remember(shape, None)
                return self.compute(images)
            recorded = self._graphs[shape] or self._record(images)
            if recorded is None:
                return self.compute(images)
            self._remember(shape, recorded)
            recorded.given.copy_(images)
            recorded.graph.replay()
            return recorded.result

    def forget(self) -> None:
        """Drops cached CUDA graphs and the memory that they hold."""
        self._graphs.clear()

    def compute(self, images: Tensor) -> Tensor:
        """The same as a call, without CUDA graphs."""
        network = self._network
        mapped = images
        if self.plan.reads_image or network.skip != "none":
            mapped = _mapped(images, self._input_map)
        maps = _Maps(self, images.shape[0], images.shape[2] // network.unshuffle, images.shape[3] // network.unshuffle)
        if self.plan.reads_image:
            maps.keep(IMAGE, self._features(mapped))
        out = None
        for number, (step, layers) in enumerate(zip(self.plan.steps, self._layers, strict=True)):
            out = self._run(step, layers, images, maps)
            if number + 1 < len(self.plan.steps):
                maps.keep(step.value, out)
            maps.drop(number)
        assert out is not None
        if network.skip != "none":
            out = out + self._enlarged(mapped)
        if network.tanh:
            # Non-finite values must stay visible to the caller: tanh would turn infinities into colours.
            out = torch.where(out.isfinite(), torch.tanh(out), out)
        return _mapped(out, self._output_map)

    def _run(self, step: KernelStep, layers: list[_DeviceLayer], images: Tensor, maps: "_Maps") -> Tensor:
        """Runs a step; returns features, or images if it is the last."""
        conv, layer = self._network.convs[step.convs[0]], layers[0]
        if step.kernel == "head":
            assert layer.slope is not None
            values = self._network.input_map
            return infer.head(
                images, values.gain, values.offset, layer.weights, layer.bias, layer.slope, weights_are_constant=True
            )
        x = maps.read(conv)
        if step.kernel == "block":
            assert layer.slope is not None
            outer = layers[1]
            return infer.block(
                x, layer.weights, layer.bias, layer.slope, outer.weights, outer.bias, weights_are_constant=True
            )
        if step.kernel == "tail":
            return infer.tail(x, layer.weights, layer.bias)
        if step.kernel == "picture":
            return infer.picture(x, layer.weights, layer.bias, layer.slope, self._network.channels, step.shuffle)
        return self._conv(step, layer, x, maps)

    def _conv(self, step: KernelStep, layer: _DeviceLayer, x: Tensor, maps: "_Maps") -> Tensor:
        conv = self._network.convs[step.convs[0]]
        is_last = step is self.plan.steps[-1]
        residuals = [(maps.values[residual.value], residual.scale) for residual in conv.residuals]
        first, others = residuals[: infer.RESIDUALS], residuals[infer.RESIDUALS :]
        out = None if is_last or step.shuffle_after > 1 else maps.place_of(step.value)
        y = infer.conv(
            x, layer.weights, layer.bias, layer.slope, [value for value, _ in first], [scale for _, scale in first],
            shuffle=step.shuffle if step.shuffles else 1, weights_are_constant=True, out=out,
        )  # fmt: skip
        for value, scale in others:
            y.add_(value, alpha=scale)
        if is_last or step.shuffle_after > 1:
            y = y[:, : conv.out_channels]
            y = F.pixel_shuffle(y.float() if is_last else y, step.shuffle_after)
            y = y.contiguous() if is_last else _filled_map(y)
        return y

    def _features(self, mapped: Tensor) -> Tensor:
        """The image as a feature map, with channels padded to whole units."""
        image = F.pixel_unshuffle(mapped, self._network.unshuffle) if self._network.unshuffle > 1 else mapped
        return _filled_map(image.to(self._dtype))

    def _enlarged(self, mapped: Tensor) -> Tensor:
        if self._scale == 1:
            return mapped
        if self._network.skip == "nearest":
            return F.interpolate(mapped, scale_factor=self._scale, mode="nearest")
        return F.interpolate(mapped, scale_factor=self._scale, mode="bilinear", align_corners=False)

    def _layers_of(self, step: KernelStep) -> list[_DeviceLayer]:
        convs = [self._network.convs[index] for index in step.convs]
        if step.kernel == "head":
            return [self._layer(convs[0], infer.pack_head, fills_in=False, needs_slope=True)]
        if step.kernel == "tail":
            return [self._layer(convs[0], infer.pack_tail, fills_out=False)]
        if step.kernel == "picture":
            return [self._layer(convs[0], infer.pack_conv, fills_out=False)]
        return [self._layer(conv, infer.pack_conv, step.shuffle**2) for conv in convs]

    def _layer(
        self,
        conv: Conv,
        pack: Callable[[Tensor, torch.dtype], Tensor],
        phases: int = 1,
        *,
        fills_in: bool = True,
        fills_out: bool = True,
        needs_slope: bool = False,
    ) -> _DeviceLayer:
        """A convolution's tensors on the device; channels padded, the input's per value, and in phase-major order."""
        weight, bias = torch.from_numpy(conv.weight), torch.from_numpy(conv.bias)
        slope = None if conv.slope is None else torch.from_numpy(conv.slope).expand(len(bias))
        if slope is None and needs_slope:
            slope = torch.ones(len(bias))
        if fills_in:
            values = torch.split(weight, [self._shapes[value].channels for value in conv.inputs], 1)
            weight = torch.cat([_filled(value, 1) for value in values], 1)

        def arranged(values: Tensor) -> Tensor:
            if not fills_out:
                return values.contiguous()
            by_phase = phase_major(values.contiguous(), phases).view(phases, -1, *values.shape[1:])
            return _filled(by_phase, 1).flatten(0, 1)

        packed = pack(arranged(weight).to(self._device), self._dtype)
        vectors = [None if v is None else arranged(v).to(self._device).contiguous() for v in (bias, slope)]
        assert vectors[0] is not None
        return _DeviceLayer(packed, vectors[0], vectors[1])

    def _may_record(self, pixels: int) -> bool:
        return pixels <= _RECORDED_PIXELS and pixels * self.plan.bytes_per_pixel <= _RECORDED_BYTES

    def _remember(self, shape: tuple[int, ...], recorded: _RecordedNetwork | None) -> None:
        self._graphs[shape] = recorded
        self._graphs.move_to_end(shape)
        while len(self._graphs) > _GRAPHS:
            self._graphs.popitem(last=False)

    def _record(self, images: Tensor) -> _RecordedNetwork | None:
        """Captures the launches for a shape; on failure (driver or memory) returns None and disables capturing."""
        given = images.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer context restores the caller's stream in any case; other threads may use the device meanwhile.
            with (
                torch.cuda.stream(self._stream),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                result = self.compute(given)
        except RuntimeError as error:
            self._records = False
            _log.warning("cannot capture a CUDA graph, launching kernels one by one: %s", str(error).partition("\n")[0])
            return None
        return _RecordedNetwork(graph, given, result)

    def _colours(self, values: ColourMap) -> tuple[Tensor, Tensor] | None:
        if values.is_identity:
            return None
        gain, offset = (torch.tensor(v, device=self._device).view(1, -1, 1, 1) for v in (values.gain, values.offset))
        return gain, offset


class _Maps:
    """The values of one call.

    Attributes:
        values: values that are still needed.
    """

    def __init__(self, network: CudaNetwork, count: int, height: int, width: int) -> None:
        self._network, self._plan = network, network.plan
        self._size = count, height, width  # of the image, after pixel-unshuffle
        self._shared: dict[int, Tensor] = {}
        self.values: dict[int, Tensor] = {}

    def place_of(self, value: int) -> Tensor | None:
        """The slice of a shared map that a value must be written to; None if it gets a map of its own."""
        place = self._plan.places.get(value)
        if place is None:
            return None
        if place.map not in self._shared:
            self._shared[place.map] = self._new_map(self._plan.widths[place.map], value)
        return self._shared[place.map][:, place.first : place.first + self._network._channels[value]]

    def keep(self, value: int, found: Tensor) -> None:
        """Stores the result of a step."""
        place = self.place_of(value)
        if place is not None and place.data_ptr() != found.data_ptr():
            found = place.copy_(found)
        self.values[value] = found

    def read(self, conv: Conv) -> Tensor:
        """The input of a convolution."""
        if len(conv.inputs) == 1:
            return self.values[conv.inputs[0]]
        channels = self._network._channels
        if side_by_side(conv, self._plan.places, channels):
            place = self._plan.places[conv.inputs[0]]
            total = sum(channels[value] for value in conv.inputs)
            return self._shared[place.map][:, place.first : place.first + total]
        together = torch.cat([self.values[value] for value in conv.inputs], 1)
        return together.contiguous(memory_format=torch.channels_last)

    def drop(self, step: int) -> None:
        """Drops the values that no later step reads."""
        last = self._plan.last_steps
        self.values = {value: found for value, found in self.values.items() if last[value] > step}
        members = {place.map for value, place in self._plan.places.items() if last[value] > step}
        self._shared = {number: found for number, found in self._shared.items() if number in members}

    def _new_map(self, channels: int, value: int) -> Tensor:
        count, height, width = self._size
        scale = self._network._shapes[value].resolution
        return torch.empty(
            (count, channels, height * scale, width * scale),
            dtype=self._network._dtype,
            device=self._network._device,
            memory_format=torch.channels_last,
        )


def _mapped(images: Tensor, values: tuple[Tensor, Tensor] | None) -> Tensor:
    return images if values is None else images * values[0] + values[1]


def _filled(values: Tensor, dim: int) -> Tensor:
    """Pads an axis with zeros to whole units."""
    missing = -values.shape[dim] % infer.UNIT
    return F.pad(values, (0, 0) * (values.dim() - 1 - dim) + (0, missing)) if missing else values


def _filled_map(values: Tensor) -> Tensor:
    return _filled(values, 1).contiguous(memory_format=torch.channels_last)


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one, which is a per-thread setting; does nothing on a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
