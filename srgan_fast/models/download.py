"""Downloads models of the catalogue: over HTTPS only, limited to the expected size, and verified by SHA-256.

Partial data is stored in a `.part` file beside the target, so that an interrupted download can be resumed. The file
gets its final name only after its SHA-256 was verified.
"""

import os
import re
import socket
import ssl
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from http.client import HTTPException, HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, OpenerDirector, Request, build_opener

from srgan_fast import __version__
from srgan_fast.errors import DownloadError, FileError
from srgan_fast.files import shown, sync_folder
from srgan_fast.models.catalogue import CatalogueEntry, model_path, sha256_of

try:
    import fcntl
except ImportError:  # no locking on Windows; the checksum is verified all the same
    fcntl = None  # type: ignore[assignment]

_TIMEOUT = 30.0  # seconds without a byte
_CHUNK = 1 << 18
_LONGEST = 100  # characters of a server's text in a message
_PARTIAL, _NOT_SATISFIABLE = 206, 416


class _SourceError(Exception):
    """One address failed; the next one may work."""


def fetch(
    entry: CatalogueEntry,
    *,
    force: bool = False,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
    on_note: Callable[[str], None] = lambda text: None,
    timeout: float = _TIMEOUT,
    plain_http: Collection[str] = (),
) -> Path:
    """Downloads a model to the cache, unless it is there.

    Args:
        entry: entry of the catalogue.
        force: download it from the start even if it is there.
        on_progress: called with the bytes received so far and in total.
        on_note: called with messages for the user, e.g. about waiting for another process or a failed address.
        timeout: seconds without data after which an address fails.
        plain_http: `host:port` of servers that may be accessed without TLS. Only for tests, which start a local server;
            no option or environment variable sets it.

    Returns:
        The downloaded file, with the entry's SHA-256.

    Raises:
        DownloadError: no address provided the file. Partial data is kept if it can be resumed.
        FileError: the cache folder is not writable.
    """
    target = model_path(entry)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target, on_note):
            if force or not _is_right(target, entry):
                _download(entry, target, force, on_progress, on_note, _Client(timeout, plain_http))
    except OSError as error:
        raise FileError(
            f"{shown(target)}: cannot be written ({error.strerror or error}); "
            f"set SRGAN_FAST_CACHE to a folder that can, with {entry.size / 1e6:.0f} MB free"
        ) from None
    return target


def _download(
    entry: CatalogueEntry,
    target: Path,
    force: bool,
    on_progress: Callable[[int, int], None],
    on_note: Callable[[str], None],
    client: "_Client",
) -> None:
    part = target.with_name(f"{target.name}.part")
    if force:
        part.unlink(missing_ok=True)
    failures: list[str] = []
    addresses = list(entry.addresses)
    while addresses:
        address = addresses.pop(0)
        if failures:
            on_note(f"{failures[-1]}; trying {_host(address)}")
        begun = part.is_file() and part.stat().st_size > 0
        try:
            with part.open("ab") as file:
                _receive(entry, address, file, on_progress, client)
                file.flush()
                os.fsync(file.fileno())
            if _is_right(part, entry):
                part.replace(target)
                sync_folder(target.parent)
                return
            part.unlink()
            if begun:  # the partial data may be from another address or version
                addresses.insert(0, address)
                on_note("the partial download does not match; starting again")
                continue
            raise _SourceError(f"{_host(address)} gave a file with another SHA-256; it was removed")
        except _SourceError as error:
            failures.append(str(error))
    kept = part.stat().st_size if part.exists() else 0
    if not kept:
        part.unlink(missing_ok=True)
    again = f"run srgan-fast models get {entry.name} again" + (" to go on from there" if kept else " later")
    raise DownloadError(
        f"{entry.name}: not downloaded: {'; '.join(failures)}; {again}, or save {entry.addresses[0]} as {shown(target)}"
    )


def _receive(
    entry: CatalogueEntry, address: str, file: IO[bytes], on_progress: Callable[[int, int], None], client: "_Client"
) -> None:
    """Appends the missing bytes to a file that is open for appending."""
    have = file.tell()
    if have > entry.size:
        file.truncate(0)
        have = 0
    on_progress(have, entry.size)
    if have == entry.size:
        return  # complete; only the checksum remains to be verified
    with client.open(address, have) as response:
        if response.status == _PARTIAL and _first_byte(response, entry.size) == have:
            pass
        elif response.status == _PARTIAL:
            raise _SourceError(f"{_host(address)} answers with another range than requested")
        else:  # the server does not support ranges, or the file has changed: start over
            file.truncate(0)
            have = 0
            length = response.headers.get("Content-Length", str(entry.size))
            if length != str(entry.size):
                raise _SourceError(f"{_host(address)} offers {_line(length)} bytes instead of {entry.size}")
        while chunk := client.read(response, address):
            have += len(chunk)
            if have > entry.size:
                file.truncate(0)
                raise _SourceError(f"{_host(address)} sends more than the {entry.size} bytes of the file")
            file.write(chunk)
            on_progress(have, entry.size)
    if have < entry.size:
        raise _SourceError(f"{_host(address)} broke off after {have} of {entry.size} bytes")


class _Client:
    """Opens URLs and reads from them; all errors become a `_SourceError`."""

    def __init__(self, timeout: float, plain_http: Collection[str]) -> None:
        self.timeout, self.plain_http = timeout, plain_http
        self._opener: OpenerDirector = build_opener(
            HTTPSHandler(context=ssl.create_default_context()), _Redirects(self.check)
        )

    def open(self, address: str, first_byte: int) -> HTTPResponse:
        """Requests the file from a byte offset on."""
        self.check(address)
        headers = {"User-Agent": f"srgan_fast/{__version__}", "Accept-Encoding": "identity"}
        if first_byte:
            headers["Range"] = f"bytes={first_byte}-"
        try:
            response: HTTPResponse = self._opener.open(Request(address, headers=headers), timeout=self.timeout)
        except HTTPError as error:
            error.close()
            if error.code == _NOT_SATISFIABLE and first_byte:
                return self.open(address, 0)
            raise _SourceError(f"{_host(address)} answers {error.code} ({_line(error.reason)})") from None
        except (OSError, HTTPException) as error:
            raise _SourceError(self._why(error, address)) from None
        return response

    def read(self, response: HTTPResponse, address: str) -> bytes:
        """The next bytes, at least one; empty at the end."""
        try:
            return response.read1(_CHUNK)
        except (OSError, HTTPException) as error:
            raise _SourceError(self._why(error, address)) from None

    def check(self, address: str) -> None:
        """Rejects URLs other than HTTPS."""
        parts = urlsplit(address)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.netloc in self.plain_http):
            raise _SourceError(f"{address[:200]!r} is not HTTPS, and is refused")

    def _why(self, error: Exception, address: str) -> str:
        reason = error.reason if isinstance(error, URLError) else error
        host = _host(address)
        if isinstance(reason, TimeoutError):
            return f"{host} sent nothing for {self.timeout:g} s"
        if isinstance(reason, socket.gaierror):
            return f"{host} cannot be found (is there a network?)"
        if isinstance(reason, ConnectionRefusedError):
            return f"{host} refuses the connection"
        if isinstance(reason, ssl.SSLCertVerificationError):
            return f"the certificate of {host} cannot be trusted ({reason.verify_message})"
        return f"{host}: {_line(getattr(reason, 'strerror', None) or reason) or type(reason).__name__}"


class _Redirects(HTTPRedirectHandler):
    """Follows up to ten redirections to addresses that pass `check`."""

    def __init__(self, check: Callable[[str], None]) -> None:
        self._check = check

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        try:
            self._check(newurl)
        except _SourceError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _first_byte(response: Any, size: int) -> int | None:
    """Offset of a partial response; None if it belongs to a file of another size."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    return int(match[1]) if match and match[2] in ("*", str(size)) else None


def _line(text: object) -> str:
    """A server's or library's text, shortened to one line."""
    return "".join(c for c in " ".join(str(text).split()) if c.isprintable())[:_LONGEST]


def _host(address: str) -> str:
    return urlsplit(address).hostname or address


def _is_right(path: Path, entry: CatalogueEntry) -> bool:
    return path.is_file() and path.stat().st_size == entry.size and sha256_of(path) == entry.sha256


@contextmanager
def _alone(target: Path, on_note: Callable[[str], None]) -> Iterator[None]:
    """Keeps two processes from downloading the same model at once; the second finds the first one's file."""
    with target.with_name(f".{target.name}.lock").open("ab") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_note("another process is downloading it; waiting for that one")
                fcntl.flock(file, fcntl.LOCK_EX)
            except OSError:
                pass  # no file locks here; the checksum is verified all the same
        yield


__all__ = ["fetch"]
