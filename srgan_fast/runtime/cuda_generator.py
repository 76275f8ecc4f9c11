"""A folded generator in our CUDA kernels of inference, on tensors; see `ops.infer`."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.models.config import AffineMap
from srgan_fast.models.folding import FoldedConv, FoldedGenerator
from srgan_fast.ops import infer
from srgan_fast.ops.conv import phase_major

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
        folded: the network.
        dtype: bfloat16 or float16, of features and weights.
        device: CUDA.
    """

    def __init__(self, folded: FoldedGenerator, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._config = folded.config
        # The kernels read channels in units; what is filled up stays zero all the way.
        self._channels = -(-folded.config.channels // infer.UNIT) * infer.UNIT
        self._head = self._layer(folded.head, infer.pack_head)
        self._blocks = [(self._conv(first), self._conv(second)) for first, second in folded.blocks]
        self._fuse = self._conv(folded.fuse)
        self._upsample = [self._conv(conv, phases=4) for conv in folded.upsample]
        self._tail = self._layer(folded.tail, infer.pack_tail, fills_out=False)
        self._hr_map = folded.hr_map
        self._graphs: OrderedDict[tuple[int, ...], _Recorded | None] = OrderedDict()

    def __call__(self, pictures: Tensor) -> Tensor:
        """Upscales a batch on the current stream.

        Args:
            pictures: N, 3, H, W, float32, in 0..1, on the device.

        Returns:
            N, 3, scale * H, scale * W, float32, not clamped; the next call may overwrite it.
        """
        shape = tuple(pictures.shape)
        if shape[0] * shape[2] * shape[3] > _RECORDED_PIXELS:
            return self.compute(pictures)
        recorded = self._graphs.get(shape)
        if recorded is None:
            if shape not in self._graphs:
                self._remember(shape, None)
                return self.compute(pictures)
            recorded = self._record(pictures)
            self._remember(shape, recorded)
        self._graphs.move_to_end(shape)
        recorded.given.copy_(pictures)
        recorded.graph.replay()
        return recorded.result

    def compute(self, pictures: Tensor) -> Tensor:
        """The same, kernel by kernel."""
        conventions = self._config.conventions
        lr_map = conventions.lr_map
        head = self._head
        assert head.slope is not None
        first = infer.head(pictures, lr_map.gain, lr_map.offset, head.weights, head.bias, head.slope)
        x = first
        for conv1, conv2 in self._blocks:
            inner = infer.conv(x, conv1.weights, conv1.bias, conv1.slope)
            x = infer.conv(inner, conv2.weights, conv2.bias, residual=x)
        x = infer.conv(x, self._fuse.weights, self._fuse.bias, residual=first)
        for i, stage in enumerate(self._upsample):
            # The last shuffle is the tail's.
            x = infer.conv(x, stage.weights, stage.bias, stage.slope, shuffle=i + 1 < len(self._upsample))
        out = infer.tail(x, self._tail.weights, self._tail.bias)
        if conventions.output == "tanh":
            out = torch.tanh(out)
        return _mapped(out, self._hr_map)

    def _conv(self, conv: FoldedConv, phases: int = 1) -> _Layer:
        return self._layer(conv, infer.pack_conv, phases)

    def _layer(
        self, conv: FoldedConv, pack: Callable[[Tensor, torch.dtype], Tensor], phases: int = 1, fills_out: bool = True
    ) -> _Layer:
        """A layer's tensors on the device: channels filled up; with four phases, phase by phase."""
        weight, bias = (torch.from_numpy(values) for values in (conv.weight, conv.bias))
        slope = None if conv.slope is None else torch.from_numpy(conv.slope).flatten().expand(len(bias) // phases)
        if phases > 1:
            weight, bias = phase_major(weight), phase_major(bias)
            slope = None if slope is None else slope.repeat(phases)

        def filled(values: Tensor) -> Tensor:
            if not fills_out:
                return values
            by_phase = values.reshape(phases, -1, *values.shape[1:])
            missing = self._channels - by_phase.shape[1]
            return F.pad(by_phase, (0, 0) * (by_phase.dim() - 2) + (0, missing)).flatten(0, 1)

        if weight.shape[1] != 3:
            weight = F.pad(weight, (0, 0, 0, 0, 0, self._channels - weight.shape[1]))
        packed = pack(filled(weight).to(self._device), self._dtype)
        vectors = [None if v is None else filled(v).to(self._device).contiguous() for v in (bias, slope)]
        assert vectors[0] is not None
        return _Layer(packed, vectors[0], vectors[1])

    def _remember(self, shape: tuple[int, ...], recorded: "_Recorded | None") -> None:
        self._graphs[shape] = recorded
        while len(self._graphs) > _GRAPHS:
            self._graphs.popitem(last=False)

    def _record(self, pictures: Tensor) -> _Recorded:
        given = pictures.clone()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # others may use the device meanwhile
            result = self.compute(given)
        return _Recorded(graph, given, result)


def _mapped(pictures: Tensor, values: AffineMap) -> Tensor:
    if values.is_identity:
        return pictures
    gain, offset = (pictures.new_tensor(v).view(1, 3, 1, 1) for v in (values.gain, values.offset))
    return pictures * gain + offset
