"""SIGINT and SIGTERM as a request to stop, so that a run ends with a checkpoint after the current step."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class StopRequest:
    """Whether a signal asked the run to stop.

    Attributes:
        received: whether SIGINT or SIGTERM arrived within `listening`.
    """

    def __init__(self) -> None:
        self.received = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:  # a second Ctrl-C stops at once
            raise KeyboardInterrupt
        self.received = True

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Context in which the signals are caught."""
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
