"""A step's computation as a CUDA graph: recorded once, then started with one call.

A step of SRGAN is some thousands of small kernels, and on a fast GPU the host takes longer to start them than the GPU
to compute them. A graph starts them all at once. What the host decides, from whether a loss is finite to the
optimisers' steps, stays outside it.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor

from srgan_fast.ops import recorded_steps
from srgan_fast.training.step import Batch, Figures, Step

WARM_UP = 3  # steps as usual before recording: libraries choose their algorithms, allocators find their size

_log = logging.getLogger("srgan_fast.training")
_Shapes = tuple[tuple[torch.Size, ...], ...]


def can_record(device: torch.device, processes: int) -> bool:
    """Whether a trainer's steps can be recorded: on a CUDA device, in a single process.

    With several, the reductions between them would have to be recorded, too, which no GPU was at hand to try.
    """
    return device.type == "cuda" and processes == 1


@contextmanager
def fastest_algorithms(device: torch.device) -> Iterator[None]:
    """Inside, cuDNN tries its algorithms for each new convolution on a CUDA device and keeps the fastest.

    Steps have few shapes, so that it pays; a validation's pictures have many.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class CapturedStep:
    """A step that is recorded after a few times and replayed from then on; the results are the same.

    Batches of other shapes than the recorded ones are computed as usual, and so are those of shapes whose recording
    failed, which is logged.

    Args:
        step: on a CUDA device, in a single process, whose networks keep their parameters' memory.
        required: whether it is an error if recording fails.
    """

    def __init__(self, step: Step, required: bool = False) -> None:
        self._step = step
        self._required = required
        self._seen: _Shapes | None = None
        self._times = 0
        self._recording: _Recording | None = None
        self._refused: set[_Shapes] = set()
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, batches: Sequence[Batch], meanwhile: Callable[[], None] | None = None) -> dict[str, float]:
        """One step; see the step itself.

        Raises:
            NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
            RuntimeError: a step that must be recorded cannot be.
        """
        shapes = tuple(tuple(tensor.shape for tensor in batch) for batch in batches)
        side = self._side(batches)
        if self._recording is None and shapes not in self._refused:
            self._times = self._times + 1 if shapes == self._seen else 1
            self._seen = shapes
            if self._times > WARM_UP:
                self._record(shapes, batches, side)
        if self._recording is not None and shapes == self._seen:
            return self._step.conclude(self._recording.replay(batches), meanwhile)
        warms_up = self._recording is None and shapes not in self._refused
        with recorded_steps() if warms_up else nullcontext():
            figures = _beside(self._step, batches, side)
        return self._step.conclude(figures, meanwhile)

    def forget(self) -> None:
        """Drops the recording, since what the step computes has changed; a new one is made after a few steps."""
        self._recording, self._seen, self._times = None, None, 0

    def _record(self, shapes: _Shapes, batches: Sequence[Batch], side: torch.cuda.Stream) -> None:
        try:
            with recorded_steps():
                self._recording = _Recording(self._step, batches, side)
        except RuntimeError as error:
            if self._required:
                raise
            self._refused.add(shapes)
            _log.warning("steps cannot be recorded as a CUDA graph: %s", str(error).splitlines()[0])

    def _side(self, batches: Sequence[Batch]) -> torch.cuda.Stream:
        """The stream of everything that is not replayed: the allocator keeps memory for each stream apart."""
        if self._stream is None:
            # Torch's own stream for recording is of whatever device was current when it was first asked for.
            self._stream = torch.cuda.Stream(batches[0][0].device)  # type: ignore[no-untyped-call]
        return self._stream


def _beside(step: Step, batches: Sequence[Batch], stream: torch.cuda.Stream) -> Figures:
    """Computes on another stream than the caller's, as what is recorded later has to have been."""
    device = batches[0][0].device
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        figures = step.compute(batches)
    torch.cuda.current_stream(device).wait_stream(stream)
    return figures


class _Recording:
    """The graph, and the memory that it reads and writes."""

    def __init__(self, step: Step, batches: Sequence[Batch], stream: torch.cuda.Stream) -> None:
        self._batches: list[Batch] = [cast(Batch, tuple(tensor.clone() for tensor in batch)) for batch in batches]
        for network in step.networks.values():
            network.zero_grad(set_to_none=True)  # gradients are to be of the graph's memory
        device = batches[0][0].device
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        self._graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(device),
            torch.cuda.stream(stream),  # goes back to the caller's stream whatever happens in the next one
            # The feeder copies the next batch meanwhile, which must not end the recording.
            torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
        ):
            self._figures = step.compute(self._batches)
        self._gradients: list[tuple[Tensor, Tensor]] = [
            (parameter, parameter.grad)
            for network in step.networks.values()
            for parameter in network.parameters()
            if parameter.grad is not None
        ]

    def replay(self, batches: Sequence[Batch]) -> Figures:
        for mine, theirs in zip(self._batches, batches, strict=True):
            for target, source in zip(mine, theirs, strict=True):
                target.copy_(source, non_blocking=True)
        self._graph.replay()
        for parameter, gradient in self._gradients:
            parameter.grad = gradient  # a step in between may have left others
        return self._figures
