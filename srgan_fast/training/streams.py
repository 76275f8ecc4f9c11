"""Independent parts of a step on CUDA streams of their own, so that their small kernels run side by side.

A GPU executes what is on one stream in order, and most kernels of a small batch do not fill it. A part that needs
nothing of what runs meanwhile is forked: its stream waits for what was started before, and is waited for where its
results are needed. Recorded in a CUDA graph, these waits become edges. What crosses streams must be kept alive until
the part is joined, because the allocator reuses freed memory on the stream that allocated it.

On other devices, and where steps are not recorded, the parts run in the order in which they are written.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


class Branches:
    """The side streams of a step on one device, the same each time; or none, if its parts run one after the other.

    Args:
        device: a CUDA device for side streams; None for none.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self._device = device
        self._streams: dict[str, torch.cuda.Stream] = {}

    @property
    def forks(self) -> bool:
        """Whether parts run on streams of their own."""
        return self._device is not None

    @contextmanager
    def beside(self, name: str) -> Iterator[None]:
        """Runs the work inside on the stream of that name, after everything that was started before.

        A second part of the same name comes after the first.

        Args:
            name: of the stream, which is created at its first use.
        """
        if self._device is None:
            yield
            return
        stream = self._streams.get(name)
        if stream is None:
            stream = self._streams[name] = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(stream):
            yield

    def join(self, *names: str) -> None:
        """Makes the current stream wait for parts.

        Args:
            names: of the parts; none for all, also those that a backward pass has continued since they were joined.
        """
        if self._device is None:
            return
        current = torch.cuda.current_stream(self._device)
        for name in names or self._streams:
            current.wait_stream(self._streams[name])


def may_fork(image: Tensor, recorded: bool) -> bool:
    """Whether a step for a batch can be forked: on CUDA, where it is recorded or warms up for that."""
    return recorded and image.is_cuda
