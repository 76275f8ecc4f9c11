"""Runtimes whose threads a child of a fork lacks: it would wait for them for ever, so that it refuses.

Our own engine needs none of this (csrc/engine/turns.h), and CUDA refuses by itself.
"""

import os

from srgan_fast.errors import BackendError


class Home:
    """The process that a runtime was loaded in, or started its threads in.

    Args:
        name: of the backend.
        advice: what to do in another process.
    """

    def __init__(self, name: str, advice: str) -> None:
        self._name, self._advice, self._pid = name, advice, os.getpid()

    def check(self) -> None:
        """To be called before it computes.

        Raises:
            BackendError: this is a child of that process.
        """
        if os.getpid() != self._pid:
            raise BackendError(
                f"backend {self._name} computed in the process that this one was forked from, and its threads are not "
                f"here; {self._advice}, or use backend native"
            )
