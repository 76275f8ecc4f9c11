"""Downloads: whole and right, or a line that says what was wrong, what is kept, and what to do."""

import errno
import multiprocessing
import socket
import ssl
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.errors import DownloadError, FileError
from srgan_fast.models.catalogue import CatalogueEntry
from srgan_fast.models.download import fetch

from ..model_server import FILE, Server, empty_cache, entry_at, serving

Fetch = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """See `empty_cache`."""
    return empty_cache(tmp_path, monkeypatch)


@pytest.fixture
def server() -> Iterator[Server]:
    """One that gives the file."""
    with serving() as state:
        yield state


@pytest.fixture
def other() -> Iterator[Server]:
    """Another one."""
    with serving() as state:
        yield state


@pytest.fixture
def entry(server: Server) -> CatalogueEntry:
    """The file at that server."""
    return entry_at(server.address)


@pytest.fixture
def get(server: Server, other: Server) -> Fetch:
    """Downloads from these servers, which speak plain HTTP."""

    def call(entry: CatalogueEntry, **how: Any) -> Path:
        return fetch(entry, **{"plain_http": {server.host, other.host}, "timeout": 5.0, **how})

    return call


def left(cache: Path) -> dict[str, bytes]:
    """Files in the cache folder, without the lock."""
    return {path.name: path.read_bytes() for path in cache.iterdir() if not path.name.endswith(".lock")}


def test_a_whole_file_lies_where_its_name_is_looked_up(get: Fetch, entry: CatalogueEntry, cache: Path) -> None:
    told: list[tuple[int, int]] = []
    path = get(entry, on_progress=lambda done, of: told.append((done, of)))
    assert path == cache / "tiny.pth"
    assert left(cache) == {"tiny.pth": FILE}
    assert told[0] == (0, len(FILE))
    assert told[-1] == (len(FILE), len(FILE))
    assert told == sorted(told)


def test_what_is_there_is_not_downloaded_again_unless_forced(get: Fetch, entry: CatalogueEntry, server: Server) -> None:
    get(entry)
    get(entry)
    assert server.asked == [""]
    get(entry, force=True)
    assert server.asked == ["", ""]


def test_a_changed_file_is_replaced(get: Fetch, entry: CatalogueEntry, cache: Path) -> None:
    cache.mkdir(parents=True)
    for wrong in (b"short", b"\0" * len(FILE)):
        (cache / "tiny.pth").write_bytes(wrong)
        get(entry)
        assert left(cache) == {"tiny.pth": FILE}


@pytest.mark.parametrize("length", [True, False])
def test_a_truncated_file_is_kept_and_gone_on_with(
    length: bool, get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    server.length, server.cut_after, server.cuts = length, 1000, 1
    with pytest.raises(DownloadError) as caught:
        get(entry)
    text = str(caught.value)
    assert text.startswith(f"tiny: not downloaded: 127.0.0.1 broke off after 1000 of {len(FILE)} bytes; run ")
    assert "srgan-fast models get tiny again to go on from there" in text
    assert "\n" not in text
    assert left(cache) == {"tiny.pth.part": FILE[:1000]}
    get(entry)
    assert left(cache) == {"tiny.pth": FILE}
    assert server.asked == ["", "bytes=1000-"]


def test_a_server_that_knows_no_ranges_gives_the_file_from_the_start(
    get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    server.ranges = False
    cache.mkdir(parents=True)
    (cache / "tiny.pth.part").write_bytes(FILE[:1000])
    get(entry)
    assert server.asked == ["bytes=1000-"]
    assert left(cache) == {"tiny.pth": FILE}


@pytest.mark.parametrize("kept", [len(FILE), len(FILE) + 1, 2 * len(FILE)])
def test_a_whole_part_needs_no_server_and_a_longer_one_is_begun_again(
    kept: int, get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.pth.part").write_bytes((FILE * 2)[:kept])
    get(entry)
    assert server.asked == ([] if kept == len(FILE) else [""])
    assert left(cache) == {"tiny.pth": FILE}


@pytest.mark.parametrize("kept", [1000, len(FILE)])
def test_a_part_that_does_not_fit_is_begun_again(
    kept: int, get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    cache.mkdir(parents=True)
    (cache / "tiny.pth.part").write_bytes(b"\xff" * kept)
    notes: list[str] = []
    get(entry, on_note=notes.append)
    assert notes == ["the partial download does not match; starting again"]
    assert left(cache) == {"tiny.pth": FILE}


def test_another_part_than_asked_for_is_refused(get: Fetch, entry: CatalogueEntry, server: Server, cache: Path) -> None:
    cache.mkdir(parents=True)
    for answer in ("bytes 0-9/10", f"bytes 999-1000/{len(FILE)}", "nonsense", f"bytes 1000-2000/{len(FILE) + 1}"):
        (cache / "tiny.pth.part").write_bytes(FILE[:1000])
        server.content_range = answer
        with pytest.raises(DownloadError, match="answers with another range"):
            get(entry)
        assert left(cache) == {"tiny.pth.part": FILE[:1000]}


def test_a_range_beyond_the_servers_file_is_asked_for_from_the_start(
    get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    server.content = b"another file"
    cache.mkdir(parents=True)
    (cache / "tiny.pth.part").write_bytes(FILE[:1000])
    with pytest.raises(DownloadError, match=f"offers 12 bytes instead of {len(FILE)}"):
        get(entry)
    assert server.asked == ["bytes=1000-", ""]


def test_a_file_with_another_sum_is_removed(get: Fetch, server: Server, cache: Path) -> None:
    entry = replace(entry_at(server.address), sha256="0" * 64)
    with pytest.raises(DownloadError, match="gave a file with another SHA-256; it was removed"):
        get(entry)
    assert left(cache) == {}


def test_a_wrong_file_does_not_replace_a_right_one(
    get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    get(entry)
    server.content = bytes(len(FILE))
    with pytest.raises(DownloadError, match="another SHA-256"):
        get(entry, force=True)
    assert left(cache) == {"tiny.pth": FILE}


@pytest.mark.parametrize("length", [True, False])
def test_a_file_that_is_too_long_is_cut_off(
    length: bool, get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    server.length, server.content = length, FILE + b"\0" * 50_000_000
    told: list[int] = []
    with pytest.raises(DownloadError, match="offers 50" if length else f"sends more than the {len(FILE)} bytes"):
        get(entry, on_progress=lambda done, of: told.append(done))
    assert max(told) <= len(FILE)
    assert left(cache) == {}


@pytest.mark.parametrize("status", [403, 404, 429, 500, 503])
def test_an_error_of_the_server_is_named(
    status: int, get: Fetch, entry: CatalogueEntry, server: Server, cache: Path
) -> None:
    server.status = status
    with pytest.raises(DownloadError, match=rf"127\.0\.0\.1 answers {status} \(.*or save {server.address} as {cache}"):
        get(entry)
    assert left(cache) == {}


def test_a_refused_connection_is_named(get: Fetch, cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 refuses the connection"):
        get(entry_at(f"http://{host}/tiny.pth"), plain_http={host})


def test_without_a_network_it_says_so(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DownloadError, match=r"example\.org cannot be found \(is there a network\?\)"):
        fetch(entry_at("https://example.org/tiny.pth"))
    assert left(cache) == {}


def test_a_silent_server_is_given_up(get: Fetch, entry: CatalogueEntry, server: Server) -> None:
    server.may_answer.clear()
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1 sent nothing for 0\.2 s"):
        get(entry, timeout=0.2)


def test_plain_http_is_refused(entry: CatalogueEntry, server: Server) -> None:
    with pytest.raises(DownloadError, match="is not HTTPS, and is refused"):
        fetch(entry)
    assert server.asked == []


@pytest.mark.parametrize("where", ["http://localhost:{port}/a.pth", "ftp://localhost/a.pth", "file:///etc/passwd"])
def test_a_redirection_away_from_https_is_refused(
    where: str, get: Fetch, entry: CatalogueEntry, server: Server, other: Server, cache: Path
) -> None:
    server.location = where.format(port=other.host.partition(":")[2])  # the right server by a name that is not allowed
    with pytest.raises(DownloadError, match=r"not HTTPS, and is refused|answers 302"):
        get(entry)
    assert other.asked == []
    assert left(cache) == {}


def test_other_redirections_are_followed_with_their_range(
    get: Fetch, entry: CatalogueEntry, server: Server, other: Server, cache: Path
) -> None:
    server.location = other.address
    cache.mkdir(parents=True)
    (cache / "tiny.pth.part").write_bytes(FILE[:1000])
    get(entry)
    assert other.asked == ["bytes=1000-"]
    assert left(cache) == {"tiny.pth": FILE}


def test_redirections_in_a_circle_are_one_line(get: Fetch, entry: CatalogueEntry, server: Server) -> None:
    server.location = server.address
    with pytest.raises(DownloadError, match="answers 302") as caught:
        get(entry)
    assert "\n" not in str(caught.value)
    assert len(server.asked) <= 11


def test_what_speaks_no_tls_is_not_spoken_to(get: Fetch, server: Server) -> None:
    with pytest.raises(DownloadError, match=r"127\.0\.0\.1: .+; run srgan-fast") as caught:
        get(entry_at(server.address.replace("http:", "https:")))
    assert "\n" not in str(caught.value)
    assert server.asked == []


def test_a_certificate_that_cannot_be_trusted_is_named(
    get: Fetch, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    def distrust(*_: Any, **__: Any) -> Any:
        error = ssl.SSLCertVerificationError(1, "certificate verify failed")
        error.verify_message = "self-signed certificate"
        raise error

    monkeypatch.setattr(ssl.SSLContext, "wrap_socket", distrust)
    with pytest.raises(DownloadError, match=r"the certificate of 127\.0\.0\.1 cannot be trusted \(self-signed cert"):
        get(entry_at(server.address.replace("http:", "https:")))


def test_the_next_address_is_tried_and_goes_on_where_the_first_one_stopped(
    get: Fetch, server: Server, other: Server, cache: Path
) -> None:
    server.cut_after = 1000
    notes: list[str] = []
    get(entry_at(server.address, other.address), on_note=notes.append)
    assert (server.asked, other.asked) == ([""], ["bytes=1000-"])
    assert notes == [f"127.0.0.1 broke off after 1000 of {len(FILE)} bytes; trying 127.0.0.1"]
    assert left(cache) == {"tiny.pth": FILE}


def test_all_addresses_that_failed_are_named(get: Fetch, server: Server, other: Server) -> None:
    server.status, other.status = 404, 503
    with pytest.raises(DownloadError, match=r"answers 404 .*; 127\.0\.0\.1 answers 503"):
        get(entry_at(server.address, other.address))


def test_an_interrupted_download_keeps_what_arrived(get: Fetch, entry: CatalogueEntry, cache: Path) -> None:
    def interrupt(done: int, of: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(entry, on_progress=interrupt)
    (part,) = left(cache).items()
    assert part[0] == "tiny.pth.part"
    assert FILE.startswith(part[1])
    get(entry)
    assert left(cache) == {"tiny.pth": FILE}


@pytest.mark.parametrize("place", ["file", "/proc/none"])
def test_a_cache_folder_that_cannot_be_written_is_named(
    place: str, get: Fetch, entry: CatalogueEntry, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / place))
    with pytest.raises(FileError, match=r"tiny\.pth: cannot be written \(.*set SRGAN_FAST_CACHE to a folder that can"):
        get(entry)
    assert server.asked == []


def test_a_full_disk_is_one_line_and_keeps_what_there_is(
    get: Fetch, entry: CatalogueEntry, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("srgan_fast.models.download.os.fsync", full)
        with pytest.raises(FileError, match=r"cannot be written \(No space left on device\); set SRGAN_FAST_CACHE"):
            get(entry)
    assert list(left(cache)) == ["tiny.pth.part"]
    get(entry)
    assert left(cache) == {"tiny.pth": FILE}


def _fetch_in_a_process(entry: CatalogueEntry, host: str, notes: Any) -> None:
    fetch(entry, plain_http={host}, on_note=notes.put)


def test_two_processes_at_once_download_it_once(entry: CatalogueEntry, server: Server, cache: Path) -> None:
    server.may_answer.clear()
    fresh = multiprocessing.get_context("fork")
    notes = fresh.Queue()
    both = [fresh.Process(target=_fetch_in_a_process, args=(entry, server.host, notes)) for _ in range(2)]
    for process in both:
        process.start()
    assert notes.get(timeout=30) == "another process is downloading it; waiting for that one"
    server.may_answer.set()
    for process in both:
        process.join(30)
    assert [process.exitcode for process in both] == [0, 0]
    assert server.asked == [""]
    assert left(cache) == {"tiny.pth": FILE}
