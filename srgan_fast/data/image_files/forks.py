"""Processes that were forked beside libvips' threads, in which it would wait for threads that were not copied.

libvips keeps its threads for some seconds after an image, and a child of a fork has none of them but believes it has.
There is no call to tell it, so that such a child refuses images instead of hanging at the first.
"""

import os
from contextlib import suppress
from pathlib import Path

from srgan_fast.errors import ImageError

_THREADS = Path("/proc/self/task")
_NAME = "libvips"  # of its threads, with "worker" after it


class _Forks:
    """What this process knows about the fork that it came from.

    Attributes:
        used: whether libvips was given an image in this process.
        at_risk: whether a child that is forked now could not use libvips.
        refuses: whether this process is such a child, or a child of one.
    """

    def __init__(self) -> None:
        self.used = self.at_risk = self.refuses = False

    def before(self) -> None:
        """In the parent."""
        self.at_risk = self.refuses or (self.used and _has_threads())

    def in_child(self) -> None:
        """In the child."""
        self.refuses, self.used = self.at_risk, False


_forks = _Forks()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_forks.before, after_in_child=_forks.in_child)


def check_not_forked() -> None:
    """To be called before libvips is given an image.

    Raises:
        ImageError: it would not come back, since this process was forked beside its threads.
    """
    if _forks.refuses:
        raise ImageError(
            "images cannot be read or written in a process that was forked while libvips had threads, which it would "
            "wait for forever; start processes by spawn or forkserver (multiprocessing.set_start_method), or fork "
            "before the first image"
        )
    _forks.used = True


def _has_threads() -> bool:
    """Whether libvips has threads now; where that cannot be seen, it may."""
    if not _THREADS.is_dir():
        return True
    for thread in _THREADS.iterdir():
        with suppress(OSError):  # it has ended since
            if (thread / "comm").read_text().startswith(_NAME):
                return True
    return False
