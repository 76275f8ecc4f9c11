"""Where images come from and go to apart from files of this machine: object stores by URL, and WebDataset shards.

fsspec reads and writes the stores. It is imported with the first URL; its message names a store's own package (`s3fs`,
`gcsfs`) where that is missing.
"""

import glob
import os
import re
import tarfile
import uuid
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from srgan_fast.errors import ImageError
from srgan_fast.files import shown

# Stores that rename a file without copying it. All others get a result in one request, which object stores make appear
# whole or not at all.
_RENAMING = {"sftp", "ssh", "smb", "hdfs", "webhdfs", "arrow_hdfs", "local"}
SHARD_SUFFIX = ".tar"


class FileFacts(NamedTuple):
    """What a manifest keeps about a file; named as in `os.stat_result`."""

    st_size: int
    st_mtime_ns: int


class _Named:
    """The parts of a name, as `Path` has them."""

    __slots__ = ()

    def __fspath__(self) -> str:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """After the last slash."""
        return PurePosixPath(self.__fspath__()).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """The last dot of the name, and what follows."""
        return PurePosixPath(self.name).suffix


@dataclass(frozen=True, slots=True)
class Remote(_Named):
    """A file or folder of a store, such as `s3://bucket/photos/a.jpg`. Methods are those of `Path`."""

    url: str

    def __fspath__(self) -> str:
        return self.url

    def __truediv__(self, place: Path) -> "Remote":
        return Remote(f"{self.url.rstrip('/')}/{place.as_posix()}")

    @property
    def parent(self) -> "Remote":
        """The folder that it is in."""
        return Remote(self.url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Whether there is such a file; asks the store."""
        with _failures(self, "read"):
            files, path = _store(self.url)
            return bool(files.exists(path))

    def stat(self) -> FileFacts:
        """Size and time of change; the time is 0 where the store tells none.

        Raises:
            OSError: The file does not exist or cannot be looked at.
        """
        files, path = _store(self.url)
        size = int(files.info(path)["size"])
        try:
            return FileFacts(size, int(files.modified(path).timestamp() * 1e9))
        except (NotImplementedError, KeyError, AttributeError):
            return FileFacts(size, 0)

    def open(self) -> IO[bytes]:
        """The file for reading, in blocks of some megabytes."""
        with _failures(self, "read"):
            files, path = _store(self.url)
            opened: IO[bytes] = files.open(path, "rb")
            return opened

    def read_bytes(self, first: int | None = None, end: int | None = None) -> bytes:
        """Bytes `first` to before `end`, or all, in one request."""
        with _failures(self, "read"):
            files, path = _store(self.url)
            return bytes(files.cat_file(path, first, end))

    def write_bytes(self, data: bytes) -> None:
        """Writes a file that appears whole or not at all.

        Raises:
            ImageError: It cannot be written.
        """
        with _failures(self, "written"):
            files, path = _store(self.url)
            if self.url.split("://", 1)[0] not in _RENAMING:
                files.pipe_file(path, data)
                return
            files.makedirs(path.rpartition("/")[0], exist_ok=True)
            temporary = f"{path.rpartition('/')[0]}/.{self.name[:32]}.{uuid.uuid4().hex}.tmp"
            try:
                files.pipe_file(temporary, data)
                files.mv(temporary, path)
            except BaseException:
                if files.exists(temporary):
                    files.rm_file(temporary)
                raise


@dataclass(frozen=True, slots=True)
class Member(_Named):
    """A file in a shard, which is an uncompressed tar archive.

    Attributes:
        shard: The archive.
        path: The file's path in it.
        offset: Its first byte in the archive.
        size: Its bytes.
        mtime_ns: Its time of change in nanoseconds.
    """

    shard: Path | Remote
    path: str
    offset: int
    size: int
    mtime_ns: int

    def __fspath__(self) -> str:
        return f"{os.fspath(self.shard)}/{self.path}"

    def stat(self) -> FileFacts:
        """Size and time of change."""
        return FileFacts(self.size, self.mtime_ns)

    def read_bytes(self) -> bytes:
        """All of it, in one request.

        Raises:
            ImageError: The shard ends before.
            OSError: The shard cannot be read.
        """
        if isinstance(self.shard, Remote):
            data = self.shard.read_bytes(self.offset, self.offset + self.size)
        else:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        if len(data) != self.size:
            raise ImageError(f"{shown(self)}: the shard ends before it")
        return data


Place = Path | Remote | Member


def is_url(text: str) -> bool:
    """Whether a text names a place of a store, or a file by `file://`."""
    return "://" in text


def place_of(text: str) -> Path | Remote:
    """A file of this machine, or of a store."""
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return Remote(text) if is_url(text) else Path(text)


def absolute(place: Place) -> str:
    """A name that is the same from every working directory."""
    text = os.fspath(place)
    return text if is_url(text) else os.path.abspath(text)  # noqa: PTH100 (links stay as they are named)


def find(url: str, recursive: bool) -> list[tuple[Remote, Path]]:
    """The files that a URL stands for: one, those of a folder, or those that match a pattern.

    Returns:
        Each file with its path below the folder, sorted. Hidden files are left out.

    Raises:
        ImageError: The store cannot be read, or there is nothing of that name.
    """
    with _failures(Remote(url), "read"):
        files, path = _store(url)
        magic = glob.has_magic(path)
        if files.isfile(path) and not magic:
            return [(Remote(url), Path(PurePosixPath(path).name))]
        if not magic and not files.isdir(path):
            raise ImageError(f"{url}: no such file or folder")
        # Names as they were given, with the host that paths of some stores lack.
        base = re.split(r"[*?\[]", url, maxsplit=1)[0].rpartition("/")[0] if magic else url.rstrip("/")
        root = str(_store(base)[1]).rstrip("/")
        if magic:
            found = [file for file in files.glob(path) if not files.isdir(file)]
        else:
            found = files.find(path, maxdepth=None if recursive else 1)
        below = [PurePosixPath(file[len(root) :].lstrip("/")) for file in sorted(found)]
        shown_ones = [place for place in below if not any(part.startswith(".") for part in place.parts)]
        return [(Remote(f"{base}/{place}"), Path(place.name if magic else place)) for place in shown_ones]


def members(shard: Path | Remote, refuse: Callable[[str], None]) -> list[Member]:
    """The files in a shard, from its headers alone.

    Args:
        shard: The archive.
        refuse: Called with a line about whatever is damaged; what stands before it is returned.
    """
    found: list[Member] = []
    try:
        with (
            shard.open() if isinstance(shard, Remote) else shard.open("rb") as file,
            tarfile.open(fileobj=file, mode="r:") as archive,
        ):
            for info in archive:
                if not info.isreg() or info.issparse():
                    continue
                path = PurePosixPath(info.name)
                if path.is_absolute() or ".." in path.parts:
                    refuse(f"{shown(shard)}/{info.name}: its name leaves the folder of the results")
                    continue
                mtime = int(info.mtime * 1e9)
                found.append(Member(shard, path.as_posix(), info.offset_data, info.size, mtime))
    except (tarfile.TarError, OSError, ImageError) as error:
        text = str(error)
        refuse(text if text.startswith(shown(shard)) else f"{shown(shard)}: cannot be read as a shard ({text})")
    return found


def _store(url: str) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path on it.

    Raises:
        ImageError: fsspec or the store's package is not installed, or nobody knows the protocol.
    """
    try:
        import fsspec  # noqa: PLC0415 (only URLs need it)
    except ImportError:
        raise ImageError(f"{url}: URLs need fsspec: pip install 'srgan_fast[distributed]'") from None
    try:
        files, path = fsspec.core.url_to_fs(url)
    except ImportError as error:
        raise ImageError(f"{url}: {error}") from None
    except ValueError as error:
        raise ImageError(f"{url}: cannot be used ({error})") from None
    return files, path


@contextmanager
def _failures(place: Remote, what: str) -> Any:
    """Stores have errors of their own; they become one line."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{place.url}: no such file") from None
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{place.url}: cannot be {what} ({text})") from None
