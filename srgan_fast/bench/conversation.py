"""Processes that stay and carry out one order after another: `Worker` is our end of the conversation, `serve` theirs.

An order is a line of JSON, and so is its answer. Both go through one socket, which is the standard input of the worker:
whatever libraries print there, on standard output too, goes into a file and is in nobody's way.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from srgan_fast.bench.candidates import why_not
from srgan_fast.bench.processes import TIMEOUT_S, environment, how_it_ended
from srgan_fast.errors import BackendError

Order = Callable[[dict[str, Any]], dict[str, Any]]

_GRACE_S = 10  # for a process whose end of the socket is closed: its own end comes next, and tells why


class Worker:
    """A process that was started, and that ends with the block of a `with` statement at the latest.

    Args:
        module: a worker's program, which calls `serve`.
        name: of the row that it is for; names no second worker in that folder.
        folder: that it stands in, and that what it prints is kept in.
        timeout_s: seconds that an order may take.

    Raises:
        BackendError: it cannot be started.
    """

    def __init__(self, module: str, name: str, folder: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._name, self._timeout_s = name, timeout_s
        self._printed = folder / f"{name}.log"
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(timeout_s)
        self._answers = self._socket.makefile("r", encoding="utf-8")
        try:
            with theirs, self._printed.open("wb") as printed:
                self._process = subprocess.Popen(
                    [sys.executable, "-m", module],
                    stdin=theirs.fileno(),
                    stdout=printed,
                    stderr=printed,
                    cwd=folder,
                    env=environment(),
                )
        except OSError as error:
            self._hang_up()
            raise BackendError(f"the process of {name} cannot be started: {why_not(error)}") from None

    @property
    def pid(self) -> int:
        """What the system calls the process."""
        return self._process.pid

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Has an order carried out, and gives the answer.

        Args:
            do: the order.
            details: that belong to it, as JSON takes them.

        Raises:
            BackendError: it failed, with its reason, or the process ended or took too long. The process is gone then.
        """
        try:
            self._socket.sendall(json.dumps({"do": do, **details}).encode() + b"\n")
            answer = self._answers.readline()
        except TimeoutError:
            self.end()
            raise BackendError(f"{self._name} took more than {self._timeout_s:g} s in a process of its own") from None
        except OSError:  # nobody is there
            answer = ""
        if not answer.endswith("\n"):
            raise BackendError(f"the process of {self._name} {self._last_words()}")
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            self.end()
            raise BackendError(found["error"])
        return found

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self.end()
        return how_it_ended(self._process.returncode, self._printed.read_text(encoding="utf-8", errors="replace"))

    def end(self) -> None:
        """Ends the process, whatever it does, and waits for its end; nothing if it has ended."""
        self._process.kill()  # it has nothing to lose
        self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        self._answers.close()
        self._socket.close()

    def __enter__(self) -> "Worker":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.end()


def serve(orders: Mapping[str, Order]) -> None:
    """Carries out what comes by standard input, until nobody is there any more to give orders.

    Args:
        orders: by name; each is called with the whole order, and gives its answer. What it raises is answered as text.
    """
    with os.fdopen(os.dup(sys.stdin.fileno()), "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            order = json.loads(line)
            try:
                found = orders[order["do"]](order)
            except Exception as error:  # every runtime has exceptions of its own
                found = {"error": why_not(error)}
            answers.write(json.dumps(found) + "\n")
            answers.flush()
