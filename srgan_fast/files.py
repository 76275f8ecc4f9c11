"""Atomic file writes, and the cache folder."""

import hashlib
import os
import platform
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from srgan_fast.errors import FileError

_ABANDONED = 24 * 3600.0  # seconds after which a temporary file of another host is considered abandoned
_UNFINISHED = re.compile(r"^\..*\.([0-9a-f]{8})-(\d+)\.tmp$", re.DOTALL)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Opens a temporary file in the target's folder, and renames it to `path` only if the block succeeds.

    The contents are synced to disk before the rename, and the folder before this returns: after a power failure a file
    is either complete or absent.

    Raises:
        FileError: the folder or the file cannot be written.
    """
    temporary: str | None = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Shortened, so that the longest permitted name leaves room for mkstemp's additions.
        descriptor, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name[:32]}.", suffix=f".{_host()}-{os.getpid()}.tmp"
        )
        with os.fdopen(descriptor, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
        sync_folder(path.parent)
    except OSError as error:
        raise FileError(f"{shown(path)}: cannot be written ({error.strerror or error})") from None
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Syncs a folder, so that new names survive a power failure."""
    if os.name != "posix":
        return  # folders cannot be opened on Windows
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def host() -> str:
    """Identifies where process ids are valid: the host, and the container on it."""
    space = ""
    with suppress(OSError):
        space = str(Path("/proc/self/ns/pid").readlink())
    return f"{platform.node()} {space}".strip()


def _host() -> str:
    return hashlib.sha256(host().encode()).hexdigest()[:8]


def is_running(pid: int) -> bool:
    """Whether a process of this host is running."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's process
    # One that has ended stays until its parent asks for its exit code, which some never do.
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return True


def start_of(pid: int) -> int:
    """Start of a process of this host, in clock ticks since the system's start; 0 if unknown.

    Together with the process id it identifies a process: ids are given again.
    """
    with suppress(OSError, ValueError, IndexError):
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    return 0


def sweep(folder: Path) -> int:
    """Removes temporary files left by killed processes in a folder; those of other hosts after a day.

    Returns:
        Number of removed files.
    """
    removed = 0
    with suppress(OSError):
        for entry in os.scandir(folder):
            match = _UNFINISHED.match(entry.name)
            if match is None:
                continue
            with suppress(OSError):
                here = match[1] == _host()
                old = time.time() - entry.stat(follow_symlinks=False).st_mtime > _ABANDONED
                if (here and os.name == "posix" and not is_running(int(match[2]))) or (not here and old):
                    Path(entry.path).unlink()
                    removed += 1
    return removed


def _umask() -> int:
    # The umask cannot be read without setting it; only main threads change it.
    mask = os.umask(0)
    os.umask(mask)
    return mask


def cache_folder() -> Path:
    """Cache folder: `SRGAN_FAST_CACHE`, else `srgan_fast` in the user's cache folder.

    Raises:
        FileError: neither variable is set, and the user has no home folder.
    """
    own = os.environ.get("SRGAN_FAST_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "srgan_fast"
    except RuntimeError:
        raise FileError("there is no home folder for the cache; set SRGAN_FAST_CACHE") from None


def check_writable(path: Path) -> None:
    """Checks that a file can be written, before spending minutes on its contents; creates its folder.

    Raises:
        FileError: it cannot.
    """
    try:
        if path.is_dir():
            raise FileError(f"{path}: is a folder")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise FileError(f"{path}: cannot be written ({error.strerror or error})") from None


def shown(path: os.PathLike[str]) -> str:
    r"""A path for messages; bytes that are not UTF-8 are shown as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
