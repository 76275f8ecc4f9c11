"""A training step as a CUDA graph: recorded once, then replayed with one launch.

A step of SRGAN launches thousands of small kernels, and with a fast GPU the host takes longer to launch them than the
GPU to execute them. A graph launches them all at once. The host's decisions, such as whether the losses are finite, and
the optimiser steps stay outside the graph.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor

from srgan_fast.ops import recorded_steps
from srgan_fast.training.figures import Figures
from srgan_fast.training.step import Batch, Step

WARM_UP = 3  # eager steps before recording, in which libraries choose algorithms and allocators reach their size

_log = logging.getLogger("srgan_fast.training")
_Shapes = tuple[tuple[torch.Size, ...], ...]


def can_record(device: torch.device, processes: int) -> bool:
    """Whether training steps can be recorded: on a CUDA device, in a single process.

    With several processes, the reductions would have to be recorded too, which has not been tested for lack of GPUs.
    """
    return device.type == "cuda" and processes == 1


@contextmanager
def fastest_algorithms(device: torch.device) -> Iterator[None]:
    """Context in which cuDNN times its algorithms for each new convolution shape on a CUDA device and uses the fastest.

    This pays off for steps, which have few shapes, but not for validation, whose images have many.
    """
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before or device.type == "cuda"
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


class CapturedStep:
    """A step that is recorded after a few calls and replayed from then on; the results are the same.

    Batches of other shapes than the recorded ones are computed without the graph, and so are batches of shapes whose
    recording failed; a failure is logged.

    Args:
        step: step on a CUDA device, in a single process; its networks must keep the memory of their parameters.
        required: whether a failed recording is an error.
    """

    def __init__(self, step: Step, required: bool = False) -> None:
        self._step = step
        self._required = required
        self._seen: _Shapes | None = None
        self._times = 0
        self._recording: _Recording | None = None
        self._failed_shapes: set[_Shapes] = set()
        self._stream: torch.cuda.Stream | None = None

    def __call__(self, batches: Sequence[Batch], after_update: Callable[[], None] | None = None) -> dict[str, float]:
        """Computes one step; arguments and result are those of the wrapped step.

        Raises:
            NonFiniteLossError: a loss or gradient is not finite; the weights were not changed.
            RuntimeError: recording is required and failed.
        """
        shapes = tuple(tuple(tensor.shape for tensor in batch) for batch in batches)
        side = self._side_stream(batches)
        if self._recording is None and shapes not in self._failed_shapes:
            self._times = self._times + 1 if shapes == self._seen else 1
            self._seen = shapes
            if self._times > WARM_UP:
                self._record(shapes, batches, side)
        if self._recording is not None and shapes == self._seen:
            return self._step.conclude(self._recording.replay(batches), after_update)
        warms_up = self._recording is None and shapes not in self._failed_shapes
        with recorded_steps() if warms_up else nullcontext():
            figures = _on_side_stream(self._step, batches, side)
        return self._step.conclude(figures, after_update)

    def forget(self) -> None:
        """Drops the recording after the step's computation has changed; a few steps later it is recorded again."""
        self._recording, self._seen, self._times = None, None, 0

    def _record(self, shapes: _Shapes, batches: Sequence[Batch], side: torch.cuda.Stream) -> None:
        try:
            with recorded_steps():
                self._recording = _Recording(self._step, batches, side)
        except RuntimeError as error:
            if self._required:
                raise
            self._failed_shapes.add(shapes)
            _log.warning("steps cannot be recorded as a CUDA graph: %s", str(error).splitlines()[0])

    def _side_stream(self, batches: Sequence[Batch]) -> torch.cuda.Stream:
        """The one stream of eager steps and recording, because the allocator does not share memory between streams."""
        if self._stream is None:
            # PyTorch's default stream for recording belongs to the device that was current at its first use.
            self._stream = torch.cuda.Stream(batches[0][0].device)  # type: ignore[no-untyped-call]
        return self._stream


def _on_side_stream(step: Step, batches: Sequence[Batch], stream: torch.cuda.Stream) -> Figures:
    """Computes a step on a side stream, as PyTorch requires for the warm-up before recording."""
    device = batches[0][0].device
    stream.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(stream):
        figures = step.compute(batches)
    torch.cuda.current_stream(device).wait_stream(stream)
    return figures


class _Recording:
    """A CUDA graph, and the memory that it reads and writes."""

    def __init__(self, step: Step, batches: Sequence[Batch], stream: torch.cuda.Stream) -> None:
        self._batches: list[Batch] = [cast(Batch, tuple(tensor.clone() for tensor in batch)) for batch in batches]
        for network in step.networks.values():
            network.zero_grad(set_to_none=True)  # so that gradients are allocated from the graph's memory
        device = batches[0][0].device
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        self._graph = torch.cuda.CUDAGraph()
        with (
            torch.cuda.device(device),
            torch.cuda.stream(stream),  # restores the caller's stream even if the next context fails
            # thread_local: the feeder's thread copies the next batch meanwhile, which must not end the recording.
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
            parameter.grad = gradient  # an eager step in between may have replaced it
        return self._figures
