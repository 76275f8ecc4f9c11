"""Check for runtimes whose threads do not exist in a forked child, which would wait for them forever.

The native engine supports forks (csrc/engine/turns.h), and CUDA raises its own error.
"""

import os

from srgan_fast.errors import BackendError

SPAWN = "start processes by spawn or forkserver"  # advice for runtimes that no forked child can use


class Home:
    """The process in which a runtime was loaded or started its threads.

    Args:
        name: name of the backend.
        advice: what to do in a forked process, for the error message.
    """

    def __init__(self, name: str, advice: str) -> None:
        self._name, self._advice, self._pid = name, advice, os.getpid()

    def check(self) -> None:
        """To be called before the runtime computes.

        Raises:
            BackendError: the current process was forked from that process.
        """
        if os.getpid() != self._pid:
            raise BackendError(
                f"backend {self._name} computed in the process that this one was forked from, and its threads are not "
                f"here; {self._advice}, or use backend native"
            )
