"""Messages of libvips about the right file: all threads share its error buffer, which look-ups may write or clear.

Its warnings go to the logger `pyvips`, and GLib's about the values of damaged files, too.
"""

import atexit
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import pyvips

from srgan_fast.errors import ImageError

_Result = TypeVar("_Result")
_LEVELS = {4: logging.ERROR, 8: logging.CRITICAL, 16: logging.WARNING, 32: logging.INFO, 64: logging.INFO}  # of GLib
_ALL_LEVELS = 0xFF  # with flags for fatal and nested messages


def _log(domain: Any, level: int, message: Any, _: Any) -> None:
    """Logs a message, whose bytes may be those of a damaged file."""
    parts = [b"" if text == pyvips.ffi.NULL else pyvips.ffi.string(text) for text in (domain, message)]
    text = b": ".join(parts).decode("utf-8", "backslashreplace")
    logging.getLogger("pyvips").log(_LEVELS.get(level & 0xFC, logging.DEBUG), "%s", text)


def _log_messages() -> None:
    """Takes the place of pyvips' own handler, which fails at bytes that are not UTF-8, and handles GObject's domain."""
    if not pyvips.API_mode:
        return
    pyvips.ffi.def_extern(name="_log_handler_callback")(_log)
    library, domain = pyvips.glib_lib, b"GLib-GObject"
    remove = library.g_log_remove_handler  # ffi finds no functions at the end of the process
    handler = library.g_log_set_handler(domain, _ALL_LEVELS, library._log_handler_callback, pyvips.ffi.NULL)
    atexit.register(remove, domain, handler)


_log_messages()


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
