"""A file of JSON lines about what was done to which picture, appended only, shared by the processes of one run.

A line is written after its result is on the disk under its name, so that what the file says is there. The last line
about a target counts: `claimed` while somebody works on it, then `done`, `failed`, `left` (a result that was there,
whose maker nobody knows) or, where a run was ended, `released`. A last line that a loss of power tore is no line.
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
from srgan_fast.files import host, is_running, shown
from srgan_fast.upscale.places import Place, Remote, absolute

try:
    import fcntl
except ImportError:  # Windows: one process at a time
    fcntl = None  # type: ignore[assignment]

CLAIM_HOLDS = 300.0  # seconds without a renewal after which a claim of another host counts as abandoned
Status = Literal["claimed", "done", "failed", "left", "released"]


@dataclass(frozen=True, slots=True)
class Line:
    """What is known about a target.

    Attributes:
        target: the result's absolute path.
        status: see above.
        source: the picture's absolute path.
        size: bytes of the source.
        mtime_ns: its time of change.
        digest: SHA-256 of it, once done.
        run: digest of the model and of the options that decide what a result is.
        bytes: of the result.
        seconds: spent in the model.
        message: why it failed.
        host: whose line it is.
        pid: whose line it is.
        time: when it was written, seconds since 1970.
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
    time: float = 0.0

    def is_held(self) -> bool:
        """Whether somebody who lives has claimed it."""
        if self.status != "claimed":
            return False
        if self.host == host():
            return is_running(self.pid)
        return time.time() - self.time < CLAIM_HOLDS


_KNOWN = {field.name for field in fields(Line)}


class Manifest:
    """The lines of a file, read anew where others may have added some.

    Args:
        path: the file; made if it is not there.
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

    def claim(self, source: Place, target: Path | Remote) -> Literal["claimed", "again", "done", "held", "foreign"]:
        """Takes a target for this process.

        Returns:
            `claimed`; `again` where a file that is there is from an earlier run that did not end, or had other options;
            `done` where the result is there, of this source, model and options; `held` where another process works on
            it; `foreign`, and no claim, where there is a file that no run has made.
        """
        key = absolute(target)
        with self._locked() as file:
            line = self.lines.get(key)
            if line is not None and line.is_held() and (line.host, line.pid) != (host(), os.getpid()):
                return "held"
            if line is not None and line.status == "done" and self._is_there(line, source, target):
                return "done"
            there = os.path.lexists(target) if isinstance(target, Path) else target.exists()
            if there and not self._is_ours(line, target):
                return "foreign"
            self._append(file, self._line(source, target, "claimed"))
            return "again" if there else "claimed"

    def record(
        self, source: Place, target: Path | Remote, status: Status, seconds: float = 0.0, message: str = ""
    ) -> None:
        """Says what became of a target; of `done` after its result is on the disk."""
        line = self._line(source, target, status, seconds, message)
        with self._locked() as file:
            self._append(file, line)

    def line_of(self, target: Path | Remote) -> Line | None:
        """What the file says now about a target."""
        with self._locked():
            return self.lines.get(absolute(target))

    def has_claimed(self, target: Path | Remote) -> bool:
        """Whether this process works on a target."""
        line = self.lines.get(absolute(target))
        mine = line is not None and (line.host, line.pid) == (host(), os.getpid())
        return mine and line is not None and line.status == "claimed"

    def renew(self) -> None:
        """Says that what this process has claimed is worked on still."""
        with self._locked() as file:
            for line in [line for line in self.lines.values() if line.status == "claimed"]:
                if (line.host, line.pid) == (host(), os.getpid()):
                    self._append(file, replace(line, time=time.time()))

    def _is_ours(self, line: Line | None, target: Path | Remote) -> bool:
        """Whether a file that is there was made by a run of this manifest, and may be replaced by one."""
        if line is None or line.status in ("failed", "left"):
            return False  # a claim is made of what is not there only, and a run that fails leaves nothing
        return line.status != "done" or target.stat().st_size == line.bytes

    def _is_there(self, line: Line, source: Place, target: Path | Remote) -> bool:
        """Whether a result is what a line says: of the same source, model and options, and as long."""
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
            pass  # it vanished since; the line says so by its zeros
        return Line(
            absolute(target), status, absolute(source), **about, digest=digest, run=self.run,
            seconds=round(seconds, 4), message=message, host=host(), pid=os.getpid(), time=time.time(),
        )  # fmt: skip

    @contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """The file for this process alone, with all lines read."""
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
        whole = data.rfind(b"\n") + 1  # what follows is torn, and is read again once it is whole
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
        file.write(b"\n" * torn + text)
        os.fsync(file.fileno())
        self._offset = end + len(text) + torn
        self.lines[line.target] = line


def _digest(place: Place) -> str:
    if not isinstance(place, Path):
        return hashlib.sha256(place.read_bytes()).hexdigest()
    with place.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_digest(model: Path, facts: dict[str, object]) -> str:
    """Digest of what decides about a result, apart from its source.

    Args:
        model: the model's file.
        facts: precision, format, size and the like, as JSON takes them.
    """
    text = json.dumps({"model": _digest(model), **facts}, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()
