"""Batches that are loaded while the one before is worked on.

On a GPU the feeder's thread copies them there, too, on a stream of its own and from pinned memory, so that a copy waits
for no step and no step for a copy.
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
    """Batches of the given steps, each loaded in another thread while the one before is worked on.

    Args:
        load: the parts of a step's batch, by the step's number, on the device.
        steps: in order.
        device: where they are used, by whatever stream is current there.

    Yields:
        The batches; what `load` raises comes out of them.
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
    """A stream for copies to a device; None on a CPU, where nothing is copied."""
    return torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]


def _load_on(stream: torch.cuda.Stream | None, load: _Load, step: int) -> _Loaded:
    with nullcontext() if stream is None else torch.cuda.stream(stream):
        batch = load(step)
    return batch, None if stream is None else stream.record_event()


def _received(loaded: _Loaded, device: torch.device) -> list[Batch]:
    """The batch, which the current stream waits for."""
    batch, there = loaded
    if there is not None:
        user = torch.cuda.current_stream(device)
        user.wait_event(there)
        for part in batch:
            for images in part:
                images.record_stream(user)  # it is the feeder's memory, which must not fill it again too early
    return batch
