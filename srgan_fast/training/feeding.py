"""Prefetching: the next batch is loaded in another thread while the current one is processed.

With a GPU this thread also copies the batch there, from pinned memory and on a separate stream, so that copies and
steps do not wait for each other.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext

import torch
from torch.profiler import record_function

from srgan_fast.training.step import Batch

_Load = Callable[[int], list[Batch]]
_Loaded = tuple[list[Batch], torch.cuda.Event | None]


@contextmanager
def prefetched(load: _Load, steps: range, device: torch.device) -> Iterator[Iterator[list[Batch]]]:
    """Batches of the given steps, each loaded in another thread while the previous one is processed.

    Args:
        load: function that returns the parts of a step's batch, on the device, for the number of the step.
        steps: consecutive step numbers.
        device: device of the batches; they are used on its current stream.

    Yields:
        An iterator over the batches; it raises the exceptions of `load`.
    """
    stream = feeding_stream(device)
    with ThreadPoolExecutor(1, "feeder") as feeder:

        def batches() -> Iterator[list[Batch]]:
            coming: Future[_Loaded] | None = feeder.submit(_load_on, stream, load, steps[0]) if steps else None
            for step in steps:
                assert coming is not None
                with record_function("waiting for data"):
                    current = _received(coming.result(), device)
                coming = feeder.submit(_load_on, stream, load, step + 1) if step + 1 in steps else None
                yield current

        yield batches()


def feeding_stream(device: torch.device) -> torch.cuda.Stream | None:
    """A stream for copies to a device; None for a CPU, where nothing is copied."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _load_on(stream: torch.cuda.Stream | None, load: _Load, step: int) -> _Loaded:
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        batch = load(step)
    return batch, None if stream is None else stream.record_event()


def _received(loaded: _Loaded, device: torch.device) -> list[Batch]:
    """The batch; the current stream waits until it is copied."""
    batch, there = loaded
    if there is not None:
        user = torch.cuda.current_stream(device)
        user.wait_event(there)
        for part in batch:
            for images in part:
                images.record_stream(user)  # or the feeder's stream reuses the memory while it is still read
    return batch
