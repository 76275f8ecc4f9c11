"""Detects processes that were forked while libvips had threads; libvips would hang in them.

libvips keeps its threads for some seconds after an image. They do not exist in a forked child, but libvips' state there
says that they do, and there is no function to reset it. Such a child therefore rejects images instead of hanging at
the first one.
"""

import os
from contextlib import suppress
from pathlib import Path

from srgan_fast.errors import ImageError

_THREADS = Path("/proc/self/task")
_NAME = "libvips"  # prefix of the names of its threads; "worker" follows


class _Forks:
    """State of this process with respect to forks.

    Attributes:
        used: whether libvips has processed an image in this process.
        at_risk: whether a child forked now would be unable to use libvips.
        refuses: whether this process is such a child, or a descendant of one.
    """

    def __init__(self) -> None:
        self.used = self.at_risk = self.refuses = False

    def before(self) -> None:
        """Called in the parent before a fork."""
        self.at_risk = self.refuses or (self.used and _has_threads())

    def in_child(self) -> None:
        """Called in the child after a fork."""
        self.refuses, self.used = self.at_risk, False


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_child=_forks.in_child)


def check_not_forked() -> None:
    """To be called before every use of libvips.

    Raises:
        ImageError: libvips would hang, since this process was forked while it had threads.
    """
    if _forks.refuses:
        raise ImageError(
            "images cannot be read or written in a process that was forked while libvips had threads, which it would "
            "wait for forever; start processes by spawn or forkserver (multiprocessing.set_start_method), or fork "
            "before the first image"
        )
    _forks.used = True


def _has_threads() -> bool:
    """Whether libvips has threads now; True on systems where this is unknown."""
    if not _THREADS.is_dir():
        return True
    for thread in _THREADS.iterdir():
        with suppress(OSError):  # the thread has ended meanwhile
            if (thread / "comm").read_text().startswith(_NAME):
                return True
    return False
