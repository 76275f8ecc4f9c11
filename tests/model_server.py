"""A server on this machine that gives a model file, as well or as badly as a test wants it to."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.models.catalogue import CatalogueEntry

FILE = bytes(range(256)) * 1200 + b"the end"
PATH = "/releases/model.pth"


def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes the folder of downloaded models an empty one, without proxies."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


def _set() -> threading.Event:
    event = threading.Event()
    event.set()
    return event


@dataclass
class Server:
    """What it does, and what it was asked.

    Attributes:
        host: as `127.0.0.1:port`.
        content: of the file.
        status: of every answer, if it is an error.
        location: that every request is sent on to.
        ranges: whether it knows them.
        length: whether it says how long the file is.
        cut_after: bytes after which it hangs up; once, if `cuts` is 1.
        cuts: how often it still does.
        may_answer: whether it does yet.
        content_range: that it answers with, whatever it sends.
        asked: the Range header of each request, "" for none.
    """

    host: str
    content: bytes = FILE
    status: int = 200
    location: str = ""
    ranges: bool = True
    length: bool = True
    cut_after: int | None = None
    cuts: int = 1000
    may_answer: threading.Event = field(default_factory=_set)
    content_range: str = ""
    asked: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://{self.host}{PATH}"


def entry_at(*addresses: str, content: bytes = FILE, name: str = "tiny", **facts: Any) -> CatalogueEntry:
    """An entry whose file lies at these addresses."""
    given: dict[str, Any] = {
        "purpose": "tests",
        "architecture": "none",
        "scale": 4,
        "author": "nobody",
        "licence": "MIT",
        "homepage": "https://example.org/tiny",
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "sources": ("us",),
        "verified": True,
        **facts,
    }
    return CatalogueEntry(name=name, addresses=addresses, **given)


@contextmanager
def serving() -> Iterator[Server]:
    """Runs one until the block ends."""
    http = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    http.daemon_threads = True
    state = http.state = Server(f"127.0.0.1:{http.server_address[1]}")  # type: ignore[attr-defined]
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.may_answer.set()
        http.shutdown()
        http.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Server = self.server.state  # type: ignore[attr-defined]
        asked = self.headers.get("Range", "")
        server.asked.append(asked)
        server.may_answer.wait()
        if server.location:
            self.send_response(302)
            self.send_header("Location", server.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if server.status != 200:
            self.send_error(server.status)
            return
        first = int(match[1]) if server.ranges and (match := re.fullmatch(r"bytes=(\d+)-", asked)) else 0
        whole = len(server.content)
        if first >= whole:
            self.send_error(416)
            return
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", server.content_range or f"bytes {first}-{whole - 1}/{whole}")
        data = server.content[first:]
        if server.length:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if server.cut_after is not None and server.cuts:
            server.cuts -= 1
            data = data[: server.cut_after]
        self.wfile.write(data)
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass
