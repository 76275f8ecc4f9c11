"""Append-only JSON Lines file with the state of every image, shared by the processes of one run.

A line `done` is written after the result has been stored under its final name, so that every such result exists. The
last line of a target is its state: `claimed` while a process works on it, then `done`, `failed`, `left` (an existing
file of unknown origin was left unchanged) or, if the run was stopped, `released`. An incomplete last line, as after a
power failure, is ignored.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import IO, Literal

from srgan_fast.errors import FileError, SrganFastError
from srgan_fast.files import host, is_running, shown, start_of, sync_folder
from srgan_fast.upscale.places import Place, Remote, absolute

try:
    import fcntl
except ImportError:  # Windows: one process at a time
    fcntl = None  # type: ignore[assignment]

CLAIM_HOLDS = 300.0  # seconds after which a claim of another host counts as abandoned if it was not renewed
State = Literal["claimed", "again", "done", "held", "foreign"]  # see `Manifest.claim`
Status = Literal["claimed", "done", "failed", "left", "released"]


@dataclass(frozen=True, slots=True)
class Line:
    """State of a target.

    Attributes:
        target: absolute path of the result.
        status: see above.
        source: absolute path of the source image.
        size: size of the source in bytes.
        mtime_ns: modification time of the source in nanoseconds; 0 if unknown.
        digest: SHA-256 of the source; empty unless done.
        run: digest of the model and of the options that determine results.
        bytes: size of the result in bytes; 0 unless done.
        seconds: time spent in the model.
        message: reason of a failure.
        host: host that wrote the line.
        pid: process that wrote the line.
        start: start of that process, see `files.start_of`; 0 if unknown.
        time: time of writing in seconds since 1970.
    """

    target: str
    status: Status
    source: str = ""
    size: int = 0
    mtime_ns: int = 0
    digest: str = ""
    run: str = ""
    bytes: int = 0
    seconds: float = 0.0
    message: str = ""
    host: str = ""
    pid: int = 0
    start: int = 0
    time: float = 0.0

    def is_held(self) -> bool:
        """Whether a running process has claimed the target."""
        if self.status != "claimed":
            return False
        if self.host == host():
            # Another process may have been given the id of one that died.
            return is_running(self.pid) and (self.start == 0 or self.start == start_of(self.pid))
        return time.time() - self.time < CLAIM_HOLDS


_KNOWN = {field.name for field in fields(Line)}


class Manifest:
    """A manifest file; lines that other processes appended are read before every operation.

    Args:
        path: path of the file; created if it does not exist.
        run: digest of model and options, see `run_digest`.

    Raises:
        FileError: it cannot be read or written.
    """

    def __init__(self, path: Path, run: str) -> None:
        self.path, self.run = path, run
        self.lines: dict[str, Line] = {}
        self._offset = 0
        with self._locked():
            pass
        try:
            sync_folder(path.parent)  # otherwise a power failure could leave results of which no line tells
        except OSError as error:
            raise FileError(f"{shown(path)}: cannot be used as a manifest ({error.strerror or error})") from None

    def claim(self, source: Place, target: Path | Remote) -> State:
        """Claims a target for this process.

        Returns:
            `claimed`; `again`: claimed, and the existing file is from an earlier run that did not finish or had other
            options; `done`: the result of this source, model and options exists; `held`: another process works on it;
            `foreign`: not claimed, since no run of this manifest created the existing file.
        """
        with self._locked() as file:
            state = self._state(source, target)
            if state in ("claimed", "again"):
                self._append(file, self._line(source, target, "claimed"))
            return state

    def would_claim(self, source: Place, target: Path | Remote) -> State:
        """What `claim` would return; nothing is claimed."""
        with self._locked():
            return self._state(source, target)

    def _state(self, source: Place, target: Path | Remote) -> State:
        line = self.lines.get(absolute(target))
        if line is not None and line.is_held() and (line.host, line.pid) != (host(), os.getpid()):
            return "held"
        if line is not None and line.status == "done" and self._is_there(line, source, target):
            return "done"
        there = os.path.lexists(target) if isinstance(target, Path) else target.exists()
        if there and not self._is_ours(line, target):
            return "foreign"
        return "again" if there else "claimed"

    def record(
        self, source: Place, target: Path | Remote, status: Status, seconds: float = 0.0, message: str = ""
    ) -> None:
        """Appends the state of a target; `done` only after its result has been stored."""
        line = self._line(source, target, status, seconds, message)
        with self._locked() as file:
            self._append(file, line)

    def line_of(self, target: Path | Remote) -> Line | None:
        """The current state of a target; None if it has no line."""
        with self._locked():
            return self.lines.get(absolute(target))

    def has_claimed(self, target: Path | Remote) -> bool:
        """Whether this process has claimed a target."""
        line = self.lines.get(absolute(target))
        mine = line is not None and (line.host, line.pid) == (host(), os.getpid())
        return mine and line is not None and line.status == "claimed"

    def renew(self) -> None:
        """Renews all claims of this process."""
        with self._locked() as file:
            for line in [line for line in self.lines.values() if line.status == "claimed"]:
                if (line.host, line.pid) == (host(), os.getpid()):
                    self._append(file, replace(line, time=time.time()))

    def _is_ours(self, line: Line | None, target: Path | Remote) -> bool:
        """Whether a run of this manifest created an existing file, so that it may be replaced."""
        if line is None or line.status in ("failed", "left"):
            return False  # only targets that do not exist are claimed, and failed jobs leave no file
        return line.status != "done" or target.stat().st_size == line.bytes

    def _is_there(self, line: Line, source: Place, target: Path | Remote) -> bool:
        """Whether a result matches its line: same source, model, options and size."""
        try:
            now = source.stat()
            same = line.run == self.run and target.stat().st_size == line.bytes and now.st_size == line.size
            return same and (now.st_mtime_ns == line.mtime_ns != 0 or _digest(source) == line.digest)
        except (OSError, SrganFastError):
            return False

    def _line(
        self, source: Place, target: Path | Remote, status: Status, seconds: float = 0.0, message: str = ""
    ) -> Line:
        about = {"size": 0, "mtime_ns": 0, "bytes": 0}
        digest = ""
        try:
            stat = source.stat()
            about |= {"size": stat.st_size, "mtime_ns": stat.st_mtime_ns}
            if status == "done":
                about["bytes"] = target.stat().st_size
                digest = _digest(source)
        except (OSError, SrganFastError):
            pass  # the file was removed meanwhile; the line then has zeros
        return Line(
            absolute(target), status, absolute(source), **about, digest=digest, run=self.run,
            seconds=round(seconds, 4), message=message, host=host(), pid=os.getpid(), start=start_of(os.getpid()),
            time=time.time(),
        )  # fmt: skip

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """Opens the file with an exclusive lock and reads its new lines."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a+b", buffering=0) as file:
                if fcntl is not None:
                    fcntl.flock(file, fcntl.LOCK_EX)
                self._read(file)
                yield file
        except OSError as error:
            raise FileError(f"{shown(self.path)}: cannot be used as a manifest ({error.strerror or error})") from None

    def _read(self, file: IO[bytes]) -> None:
        file.seek(self._offset)
        data: bytes = file.read()
        whole = data.rfind(b"\n") + 1  # an incomplete last line is read again later
        self._offset += whole
        for text in data[:whole].splitlines():
            try:
                facts = json.loads(text)
                line = Line(**{name: value for name, value in facts.items() if name in _KNOWN})
            except (ValueError, TypeError, AttributeError):
                continue
            self.lines[line.target] = line

    def _append(self, file: IO[bytes], line: Line) -> None:
        text = json.dumps(asdict(line)).encode() + b"\n"
        end = file.seek(0, os.SEEK_END)
        torn = end > self._offset
        left = memoryview(b"\n" * torn + text)
        while left:  # a disk that is nearly full takes a part, and raises an error at the next attempt only
            left = left[file.write(left) :]
        os.fsync(file.fileno())
        self._offset = end + len(text) + torn
        self.lines[line.target] = line


def _digest(place: Place) -> str:
    if not isinstance(place, Path):
        return hashlib.sha256(place.read_bytes()).hexdigest()
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_digest(model: Path, facts: dict[str, object]) -> str:
    """Digest of everything that determines a result, apart from its source.

    Args:
        model: path of the model file.
        facts: precision, format, size and similar options; values that JSON cannot encode are converted to text.
    """
    text = json.dumps({"model": _digest(model), **facts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
