"""Files appear whole or not at all, and those that can be made again lie where such files lie."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from srgan_fast.errors import FileError
from srgan_fast.files import atomic_write, cache_folder, is_running, shown


def test_missing_folders_are_made_and_the_mode_follows_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.bin"
    old = os.umask(0o027)
    try:
        with atomic_write(path) as file:
            file.write(b"data")
    finally:
        os.umask(old)
    assert path.read_bytes() == b"data"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("letter", ["a", "я", "字", "😀"])
def test_longest_names_can_be_written(tmp_path: Path, letter: str) -> None:
    path = tmp_path / (letter * (251 // len(letter.encode())) + ".png")
    with atomic_write(path) as file:
        file.write(b"data")
    assert path.read_bytes() == b"data"


@pytest.mark.parametrize("error", [RuntimeError("stopped"), KeyboardInterrupt(), FileError("bad")])
@pytest.mark.parametrize("existed", [False, True])
def test_failing_midway_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, existed: bool, error: BaseException
) -> None:
    path = tmp_path / "a.png"
    if existed:
        path.write_bytes(b"old")

    def write() -> None:
        with atomic_write(path) as file:
            file.write(b"half of the new")
            raise error

    with pytest.raises(type(error)):
        write()
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([b"old"] if existed else [])


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SRGAN_FAST_CACHE": "/own"}, "/own"),
        ({"XDG_CACHE_HOME": "/xdg"}, "/xdg/srgan_fast"),
        ({"HOME": "/home/me"}, "/home/me/.cache/srgan_fast"),
    ],
)
def test_the_cache_lies_where_caches_lie(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: str
) -> None:
    for name in ("SRGAN_FAST_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected)


def test_without_a_home_the_cache_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("SRGAN_FAST_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    with pytest.raises(FileError, match="set SRGAN_FAST_CACHE"):
        cache_folder()


def test_contents_then_the_name_then_the_folder_reach_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a loss of power can leave is the old file or the new one, whole."""
    order: list[str] = []
    sync, replace = os.fsync, Path.replace

    def traced_sync(descriptor: int) -> None:
        place = Path(f"/proc/self/fd/{descriptor}").resolve()
        size = os.fstat(descriptor).st_size
        order.append("folder" if place.is_dir() else f"{size} bytes")
        sync(descriptor)

    def traced_replace(self: Path, target: Path) -> Path:
        order.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", traced_sync)
    monkeypatch.setattr(Path, "replace", traced_replace)
    with atomic_write(tmp_path / "a.png") as file:
        file.write(b"four")
    assert order == ["4 bytes", "rename", "folder"]


def test_names_that_are_no_text_can_be_shown() -> None:
    assert shown(Path(os.fsdecode(b"caf\xe9.png"))) == r"caf\xe9.png"
    assert shown(Path("Grüße.png")) == "Grüße.png"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc there only")
def test_a_dead_process_that_nobody_waited_for_is_not_running() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    deadline = time.monotonic() + 30
    while is_running(child.pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child.pid), "it is a zombie, since this process has not asked for its exit code"
    child.wait()
