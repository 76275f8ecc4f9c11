"""Sources and targets of images other than local files: object stores by URL, and WebDataset shards.

Stores are accessed through fsspec, which is imported when the first URL is used; if a store's package (`s3fs`, `gcsfs`)
is missing, fsspec's message names it.
"""

import glob
import os
import re
import tarfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple
from urllib.parse import unquote, urlsplit

from srgan_fast.errors import ImageError
from srgan_fast.files import shown

# Stores that can rename a file without copying it. Others receive a result in one request, which object stores execute
# atomically.
_RENAMING = {"sftp", "ssh", "smb", "hdfs", "webhdfs", "arrow_hdfs", "local"}
SHARD_SUFFIX = ".tar"


class FileFacts(NamedTuple):
    """Size and modification time of a file for a manifest; field names are those of `os.stat_result`."""

    st_size: int
    st_mtime_ns: int


class _Named:
    """The parts of a name, as in `Path`."""

    __slots__ = ()

    def __fspath__(self) -> str:
        raise NotImplementedError

    @property
    def name(self) -> str:
        """Final component of the path."""
        return PurePosixPath(self.__fspath__()).name

    @property
    def stem(self) -> str:
        """The name without its suffix."""
        return PurePosixPath(self.name).stem

    @property
    def suffix(self) -> str:
        """Suffix of the name, with its dot."""
        return PurePosixPath(self.name).suffix


@dataclass(frozen=True, slots=True)
class Remote(_Named):
    """A file or folder in a store, such as `s3://bucket/photos/a.jpg`; methods as in `Path`."""

    url: str

    def __fspath__(self) -> str:
        return self.url

    def __truediv__(self, place: Path) -> "Remote":
        return Remote(f"{self.url.rstrip('/')}/{place.as_posix()}")

    @property
    def parent(self) -> "Remote":
        """Folder that contains it."""
        return Remote(self.url.rstrip("/").rpartition("/")[0])

    def exists(self) -> bool:
        """Whether the file exists; sends a request to the store."""
        with _failures(self, "read"):
            files, path = _store(self.url)
            return bool(files.exists(path))

    def stat(self) -> FileFacts:
        """Size and modification time; the time is 0 if the store does not report it.

        Raises:
            OSError: The file does not exist or cannot be accessed.
        """
        files, path = _store(self.url)
        size = int(files.info(path)["size"])
        try:
            return FileFacts(size, int(files.modified(path).timestamp() * 1e9))
        except (NotImplementedError, KeyError, AttributeError):
            return FileFacts(size, 0)

    def open(self) -> IO[bytes]:
        """Opens the file for reading in blocks of some megabytes."""
        with _failures(self, "read"):
            files, path = _store(self.url)
            opened: IO[bytes] = files.open(path, "rb")
            return opened

    def read_bytes(self, first: int | None = None, end: int | None = None) -> bytes:
        """Reads bytes `first` to `end` (exclusive), or all, in one request."""
        with _failures(self, "read"):
            files, path = _store(self.url)
            return bytes(files.cat_file(path, first, end))

    def write_bytes(self, data: bytes) -> None:
        """Writes a file atomically.

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
        path: Path of the file in the archive.
        offset: Offset of its first byte in the archive.
        size: Size in bytes.
        mtime_ns: Modification time in nanoseconds.
    """

    shard: Path | Remote
    path: str
    offset: int
    size: int
    mtime_ns: int

    def __fspath__(self) -> str:
        return f"{os.fspath(self.shard)}/{self.path}"

    def stat(self) -> FileFacts:
        """Size and modification time."""
        return FileFacts(self.size, self.mtime_ns)

    def read_bytes(self) -> bytes:
        """Reads the whole file, in one request.

        Raises:
            ImageError: The shard ends before the end of the file.
            OSError: The shard cannot be read.
        """
        if isinstance(self.shard, Remote):
            data = self.shard.read_bytes(self.offset, self.offset + self.size)
        else:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        if len(data) != self.size:
            raise ImageError(f"{shown(self)}: the shard is truncated")
        return data


Place = Path | Remote | Member


def is_url(text: str) -> bool:
    """Whether a text is a URL, of a store or with `file://`."""
    return "://" in text


def place_of(text: str) -> Path | Remote:
    """The local path or the place in a store that a text names."""
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return Remote(text) if is_url(text) else Path(text)


def absolute(place: Place) -> str:
    """Absolute path or URL."""
    text = os.fspath(place)
    return text if is_url(text) else os.path.abspath(text)  # noqa: PTH100 (does not resolve links)


def find(url: str, recursive: bool) -> list[tuple[Remote, Path]]:
    """The files that a URL refers to: one file, the files of a folder, or those that match a pattern.

    Returns:
        Each file with its path relative to the folder, sorted; hidden files are ignored.

    Raises:
        ImageError: The store cannot be read, or no such file or folder exists.
    """
    with _failures(Remote(url), "read"):
        files, path = _store(url)
        magic = glob.has_magic(path)
        if files.isfile(path) and not magic:
            return [(Remote(url), Path(PurePosixPath(path).name))]
        if not magic and not files.isdir(path):
            raise ImageError(f"{url}: no such file or folder")
        # Based on the given URL, since paths in some stores lack the host.
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
    """The files in a shard; only the archive's headers are read.

    Args:
        shard: The archive.
        refuse: Called with a message about damage, and about file names that point outside the output folder; files
            before the damage are returned.
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
                    refuse(f"{shown(shard)}/{info.name}: its name points outside the output folder")
                    continue
                mtime = int(info.mtime * 1e9)
                found.append(Member(shard, path.as_posix(), info.offset_data, info.size, mtime))
    except (tarfile.TarError, OSError, ImageError) as error:
        text = str(error)
        refuse(text if text.startswith(shown(shard)) else f"{shown(shard)}: cannot be read as a shard ({text})")
    return found


def _store(url: str) -> tuple[Any, str]:
    """The fsspec file system of a URL, and the path in it.

    Raises:
        ImageError: fsspec or the store's package is not installed, or the protocol is unknown.
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
def _failures(place: Remote, what: str) -> Iterator[None]:
    """Converts exceptions of stores, which have many types, to an `ImageError` of one line."""
    try:
        yield
    except ImageError:
        raise
    except FileNotFoundError:
        raise ImageError(f"{place.url}: no such file") from None
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{place.url}: cannot be {what} ({text})") from None
