"""CUDA's streams and graphs on a CPU: what a recording keeps of a step, and what ends it, without a GPU.

A graph keeps the operators that were called, with the memory they read and wrote, and nothing of the Python around
them; recording executes none of them. So the stand-in notes every operator below autograd, undoes what they changed,
and calls them again at each replay, results going where they went the first time. Whatever fetches a value from the
device, or brings one there from ordinary memory, is refused as CUDA refuses it.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_WAITS = 300.0  # seconds for another thread, after which a test has failed
_REFUSED = ("_local_scalar_dense", "equal", "is_nonzero", "lift_fresh", "nonzero")


class Stream:
    """A stream, whose work is done at once."""

    def __init__(self, device: object = None) -> None:
        self.device = device

    def wait_stream(self, other: "Stream") -> None:
        """Done already."""

    def wait_event(self, event: object) -> None:
        """Done already."""

    def record_event(self) -> object:
        """An event that has happened."""
        return object()


class Graph(TorchDispatchMode):
    """The operators of a recording."""

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self._made: set[int] = set()  # addresses of memory that the recording itself allocated
        self._before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}
        self.replays = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func._schema.name.split("::")[1] in _REFUSED:
            raise RuntimeError(f"CUDA error: operation not permitted when stream is capturing ({func})")
        kwargs = kwargs or {}
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                storage = given.untyped_storage()
                if storage.data_ptr() not in self._made and storage.data_ptr() not in self._before:
                    self._before[storage.data_ptr()] = storage, storage.clone()
        results = func(*args, **kwargs)
        made = [value.detach() for value in tree_leaves(results) if isinstance(value, Tensor)]
        self._made |= {value.untyped_storage().data_ptr() for value in made} - self._before.keys()
        self._calls.append((func, args, kwargs, made))
        return results

    def undo(self) -> None:
        """Leaves all memory as it was before the recording."""
        for storage, before in self._before.values():
            storage.copy_(before)
        self._before.clear()

    def replay(self) -> None:
        """Calls the operators again."""
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, made in self._calls:
                again = [value for value in tree_leaves(func(*args, **kwargs)) if isinstance(value, Tensor)]
                for ours, theirs in zip(made, again, strict=True):
                    if ours.data_ptr() != theirs.data_ptr():
                        ours.copy_(theirs)


class StandIn:
    """Takes the place of `torch.cuda`'s streams and graphs.

    Attributes:
        graphs: that were recorded, or begun.
        streams: that were made.
        modes: in which recordings were.
        copied_on: the streams that other threads copied on.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.graphs: list[Graph] = []
        self.streams: list[Stream] = []
        self.modes: list[str] = []
        self.copied_on: set[Stream] = set()
        self.default = Stream()
        self.holds_copies = False  # until a recording is under way
        self.awaits_copy = False  # of the next recording: it ends only when another thread has copied meanwhile
        self._own = threading.local()
        self._recording: tuple[int, str] | None = None  # thread and mode
        self._broken = False
        self._under_way, self._copied = threading.Event(), threading.Event()
        for name, stand_in in {
            "Stream": self._stream,
            "CUDAGraph": self._graph,
            "graph": self._record,
            "stream": self._on,
            "current_stream": lambda device=None: self.current(),
            "device": lambda device: nullcontext(),
            "synchronize": lambda device=None: None,
            "empty_cache": lambda: None,
        }.items():
            monkeypatch.setattr(torch.cuda, name, stand_in)
        monkeypatch.setattr(Tensor, "record_stream", lambda tensor, stream: None)

    def current(self) -> Stream:
        """The calling thread's current stream."""
        return getattr(self._own, "stream", self.default)

    def copy(self) -> None:
        """What a copy to the device by this thread does to a recording of another one."""
        if self.holds_copies:
            assert self._under_way.wait(_WAITS), "no recording began"
        self.copied_on.add(self.current())
        if self._recording is not None:
            thread, mode = self._recording
            if thread == threading.get_ident():
                return
            self._copied.set()
            if mode == "global":
                self._broken = True
                raise RuntimeError("CUDA error: operation would make the legacy stream depend on a capturing stream")

    def _stream(self, device: object = None) -> Stream:
        self.streams.append(Stream(device))
        return self.streams[-1]

    def _graph(self) -> Graph:
        self.graphs.append(Graph())
        return self.graphs[-1]

    @contextmanager
    def _on(self, stream: Stream) -> Iterator[None]:
        before, self._own.stream = self.current(), stream
        try:
            yield
        finally:
            self._own.stream = before

    @contextmanager
    def _record(self, graph: Graph, stream: Stream, capture_error_mode: str = "global") -> Iterator[None]:
        assert stream is not self.default
        self.modes.append(capture_error_mode)
        self._own.stream = stream  # as torch does, which leaves it so where ending the recording fails
        self._recording, self._broken = (threading.get_ident(), capture_error_mode), False
        try:
            with graph:
                yield
                if self.awaits_copy:
                    self.awaits_copy = False
                    self._under_way.set()
                    assert self._copied.wait(_WAITS), "no other thread copied"
        finally:
            self._recording = None
            graph.undo()
        if self._broken:
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")
