"""Messages of libvips about the right file: all threads share its error buffer, which look-ups may write or clear."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from srgan_fast.errors import ImageError

_Result = TypeVar("_Result")


class LibvipsUsers:
    """Uses of libvips in several threads; a decoder that fails beside another use is rerun without one.

    A use must not wait for another one. Encoding by rows waits for their decoding, so it counts only while it opens.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = self._begun = 0
        self._alone = False

    @contextmanager
    def using(self) -> Iterator[None]:
        """Context of a use; waits while a failed decoder is rerun. Must not be nested."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._running += 1
            self._begun += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def run(self, decode: Callable[[], _Result]) -> _Result:
        """Calls a function that decodes one file; returns or raises what the function does.

        Raises:
            ImageError: from `decode`, with a message about this file.
        """
        with self.using():
            with self._changed:
                was_alone, begun = self._running == 1, self._begun
            try:
                return decode()
            except ImageError:
                with self._changed:
                    if was_alone and begun == self._begun:
                        raise
        with self._changed:
            self._changed.wait_for(lambda: not self._alone)
            self._alone = True
            self._changed.wait_for(lambda: self._running == 0)
        try:
            return decode()
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()


libvips_users = LibvipsUsers()
