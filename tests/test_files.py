"""Files appear whole or not at all."""

import os
from pathlib import Path

import pytest

from srgan_fast.errors import FileError
from srgan_fast.files import atomic_write


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
