"""Worker process of a row: `Worker` is the benchmark's end of the connection, `serve` the row's.

Requests and responses are lines of JSON on a socket, which is the worker's standard input; everything that libraries
print is redirected to a file. A row that crashes does not affect the others.
"""

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from srgan_fast.errors import BackendError, SrganFastError

TIMEOUT_S = 3600  # a hanging process must not block the benchmark
_GRACE_S = 10  # for a process that closed its socket: it exits next, and its exit code gives the reason


class Worker(AbstractContextManager["Worker"]):
    """A worker process; a context manager that kills it on exit.

    `module` is its program, which calls `serve`; `name` that of its row, unique in the folder; `folder` its working
    directory, which also gets its output, since converters write files there; `timeout_s` the time limit of a request;
    `python` the interpreter.

    Raises:
        BackendError: it cannot be started.
    """

    def __init__(
        self, module: str, name: str, folder: Path, timeout_s: float = TIMEOUT_S, python: str = sys.executable
    ) -> None:
        self._name, self._timeout_s = name, timeout_s
        self._printed = folder / f"{name}.log"
        self._socket, theirs = socket.socketpair()
        self._socket.settimeout(timeout_s)
        self._answers = self._socket.makefile("r", encoding="utf-8")
        try:
            with theirs, self._printed.open("wb") as printed:
                self._process = subprocess.Popen(
                    [python, "-m", module],
                    stdin=theirs.fileno(),
                    stdout=printed,
                    stderr=printed,
                    cwd=folder,
                    env=environment(),
                )
            self.pid = self._process.pid
        except OSError as error:
            self._hang_up()
            raise BackendError(f"the process of {name} cannot be started: {why_not(error)}") from None

    def ask(self, do: str, **details: Any) -> dict[str, Any]:
        """Sends a request and returns the response.

        Raises:
            BackendError: it failed, with the reason, or the process ended or took too long. The process has ended then.
        """
        try:
            self._socket.sendall(json.dumps({"do": do, **details}).encode() + b"\n")
            answer = self._answers.readline()
        except TimeoutError:
            self.end()
            raise BackendError(f"{self._name} took more than {self._timeout_s:g} s in its process") from None
        except OSError:  # the process has ended
            answer = ""
        if not answer.endswith("\n"):
            raise BackendError(f"the process of {self._name} {self._last_words()}")
        found: dict[str, Any] = json.loads(answer)
        if "error" in found:
            self.end()
            raise BackendError(found["error"])
        return found

    def allow(self, timeout_s: float) -> None:
        """Sets the time limit of the requests that follow."""
        self._timeout_s = timeout_s
        self._socket.settimeout(timeout_s)

    def _last_words(self) -> str:
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_GRACE_S)
        self.end()
        return how_it_ended(self._process.returncode, self._printed.read_text(encoding="utf-8", errors="replace"))

    def end(self) -> None:
        """Kills the process and waits for it; does nothing if it has ended."""
        self._process.kill()  # it has no state to save
        self._process.wait()
        self._hang_up()

    def _hang_up(self) -> None:
        self._answers.close()
        self._socket.close()

    def __exit__(self, *error: object) -> None:
        self.end()


def serve(row: object) -> None:
    """Executes requests from standard input, i.e. methods of `row`, until it is closed; errors are returned as text."""
    with os.fdopen(os.dup(sys.stdin.fileno()), "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            details = json.loads(line)
            try:
                found = getattr(row, details.pop("do"))(**details) or {}
            except Exception as error:  # every runtime raises its own exceptions
                found = {"error": why_not(error)}
            answers.write(json.dumps(found) + "\n")
            answers.flush()


def environment() -> dict[str, str]:
    """This process' environment, with this package importable from any folder."""
    root = str(Path(__file__).parents[2])
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def how_it_ended(code: int, printed: str) -> str:
    """How the process ended, in words, from `subprocess`' exit code, with its last line of output."""
    last = (printed.strip() or "no output").splitlines()[-1]
    named = -code in {each.value for each in signal.Signals}  # a real-time signal has no name
    ended = f"was ended by {signal.Signals(-code).name if named else f'signal {-code}'}"
    return f"{ended if code < 0 else f'ended with code {code}'}: {last}"


def why_not(error: BaseException) -> str:
    """An error as one line."""
    text = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    if isinstance(error, SrganFastError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
