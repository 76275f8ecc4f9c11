"""An SRGAN generator in our CUDA kernels of inference, on tensors; see `ops.infer`."""

import logging
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.network.graph import Conv, Network
from srgan_fast.ops import infer
from srgan_fast.ops.conv import phase_major
from srgan_fast.runtime.srgan_parts import slope_after_shuffle, srgan_parts

_log = logging.getLogger(__name__)

_GRAPHS = 4  # shapes whose launches are kept recorded
_RECORDED_PIXELS = 1 << 16  # more take the GPU longer than the host, and a graph keeps its maps' memory


@dataclass(frozen=True, slots=True)
class _Layer:
    weights: Tensor
    bias: Tensor
    slope: Tensor | None


@dataclass(frozen=True, slots=True)
class _Recorded:
    graph: torch.cuda.CUDAGraph
    given: Tensor
    result: Tensor


class CudaGenerator:
    """A generator for batches of pictures on a CUDA device.

    Calls with a small shape for the second time are recorded as a CUDA graph and replayed from then on, since such a
    picture's kernels take less time than the host needs to start them.

    Args:
        network: built like an SRGAN generator.
        name: of the model, in messages.
        dtype: bfloat16 or float16, of features and weights.
        device: CUDA, with an index.

    Attributes:
        channels: of the trunk's maps.

    Raises:
        BackendError: another network.
    """

    def __init__(self, network: Network, name: str, dtype: torch.dtype, device: torch.device) -> None:
        parts = srgan_parts(network, name)
        self._dtype, self._device = dtype, device
        self._network = network
        # The kernels read channels in units; what is filled up stays zero all the way.
        self.channels = -(-parts.head.out_channels // infer.UNIT) * infer.UNIT
        self._head = self._layer(parts.head, infer.pack_head)
        self._blocks = [(self._conv(first), self._conv(second)) for first, second in parts.blocks]
        self._fuse = self._conv(parts.fuse)
        self._upsample = [self._conv(conv, phases=4) for conv in parts.upsample]
        self._tail = self._layer(parts.tail, infer.pack_tail, fills_out=False)
        hr_map = network.output_map
        # On the device from the beginning: what is recorded must not wait for the host.
        self._hr_map = (
            None if hr_map.is_identity else [self._colours(values) for values in (hr_map.gain, hr_map.offset)]
        )
        self._graphs: OrderedDict[tuple[int, ...], _Recorded | None] = OrderedDict()
        self._records = device.type == "cuda"
        with on_device(device):
            self._stream = torch.cuda.Stream(device) if self._records else None  # type: ignore[no-untyped-call]
            if self._records:
                torch.cuda.synchronize(device)  # kernels read weights before those before them have ended

    def __call__(self, pictures: Tensor) -> Tensor:
        """Upscales a batch on the current stream.

        Args:
            pictures: N, 3, H, W, float32, in 0..1, on the device.

        Returns:
            N, 3, scale * H, scale * W, float32, not clamped; the next call may overwrite it.
        """
        shape = tuple(pictures.shape)
        with torch.inference_mode(), on_device(self._device):
            if not self._records or shape[0] * shape[2] * shape[3] > _RECORDED_PIXELS:
                return self.compute(pictures)
            if shape not in self._graphs:
                self._remember(shape, None)
                return self.compute(pictures)
            recorded = self._graphs[shape] or self._record(pictures)
            if recorded is None:
                return self.compute(pictures)
            self._remember(shape, recorded)
            recorded.given.copy_(pictures)
            recorded.graph.replay()
            return recorded.result

    def compute(self, pictures: Tensor) -> Tensor:
        """The same, kernel by kernel."""
        lr_map = self._network.input_map
        head = self._head
        assert head.slope is not None
        first = infer.head(
            pictures, _rgb(lr_map.gain), _rgb(lr_map.offset), head.weights, head.bias, head.slope, settled=True
        )
        x = first
        for conv1, conv2 in self._blocks:
            x = self._block(x, conv1, conv2)
        x = infer.conv(x, self._fuse.weights, self._fuse.bias, residual=first, settled=True)
        for i, stage in enumerate(self._upsample):
            # The last shuffle is the tail's.
            shuffle = i + 1 < len(self._upsample)
            x = infer.conv(x, stage.weights, stage.bias, stage.slope, shuffle=shuffle, settled=True)
        out = infer.tail(x, self._tail.weights, self._tail.bias)
        if self._network.tanh:
            out = torch.tanh(out)
        if self._hr_map is not None:
            gain, offset = self._hr_map
            out = out * gain + offset
        return out

    def _block(self, x: Tensor, conv1: _Layer, conv2: _Layer) -> Tensor:
        """A residual block, in one kernel or in two."""
        if self.channels == infer.BLOCK_CHANNELS and conv1.slope is not None:
            first = (conv1.weights, conv1.bias, conv1.slope)
            return infer.block(x, *first, conv2.weights, conv2.bias, settled=True)
        inner = infer.conv(x, conv1.weights, conv1.bias, conv1.slope, settled=True)
        return infer.conv(inner, conv2.weights, conv2.bias, residual=x, settled=True)

    def _conv(self, conv: Conv, phases: int = 1) -> _Layer:
        return self._layer(conv, infer.pack_conv, phases)

    def _layer(
        self, conv: Conv, pack: Callable[[Tensor, torch.dtype], Tensor], phases: int = 1, fills_out: bool = True
    ) -> _Layer:
        """A layer's tensors on the device: channels filled up; with four phases, phase by phase."""
        weight, bias = (torch.from_numpy(values) for values in (conv.weight, conv.bias))
        slopes = slope_after_shuffle(conv)
        slope = None if slopes is None else torch.from_numpy(slopes).expand(len(bias) // phases)
        if phases > 1:
            weight, bias = phase_major(weight), phase_major(bias)
            slope = None if slope is None else slope.repeat(phases)

        def filled(values: Tensor) -> Tensor:
            if not fills_out:
                return values
            by_phase = values.reshape(phases, -1, *values.shape[1:])
            missing = self.channels - by_phase.shape[1]
            return F.pad(by_phase, (0, 0) * (by_phase.dim() - 2) + (0, missing)).flatten(0, 1)

        if pack is not infer.pack_head:  # which reads pictures
            weight = F.pad(weight, (0, 0, 0, 0, 0, self.channels - weight.shape[1]))
        packed = pack(filled(weight).to(self._device), self._dtype)
        vectors = [None if v is None else filled(v).to(self._device).contiguous() for v in (bias, slope)]
        assert vectors[0] is not None
        return _Layer(packed, vectors[0], vectors[1])

    def _remember(self, shape: tuple[int, ...], recorded: _Recorded | None) -> None:
        self._graphs[shape] = recorded
        self._graphs.move_to_end(shape)
        while len(self._graphs) > _GRAPHS:
            self._graphs.popitem(last=False)

    def _record(self, pictures: Tensor) -> _Recorded | None:
        """The launches for a shape; None where the driver or the memory does not allow it, from then on for all."""
        given = pictures.clone()
        graph = torch.cuda.CUDAGraph()
        try:
            # The outer one goes back to the caller's stream whatever happens; others may use the device meanwhile.
            with (
                torch.cuda.stream(self._stream),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                result = self.compute(given)
        except RuntimeError as error:
            self._records = False
            _log.warning("kernels cannot be recorded and are started one by one: %s", str(error).partition("\n")[0])
            return None
        return _Recorded(graph, given, result)

    def _colours(self, values: tuple[float, ...]) -> Tensor:
        return torch.tensor(values, device=self._device).view(1, 3, 1, 1)


def _rgb(values: tuple[float, ...]) -> tuple[float, float, float]:
    r, g, b = values
    return r, g, b


def on_device(device: torch.device) -> AbstractContextManager[object]:
    """Makes a CUDA device the current one, which each thread has its own of; nothing on a CPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()
