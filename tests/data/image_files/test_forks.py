"""A child of a fork reads and writes images, or says at once that it cannot; it never waits for threads it lacks."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srgan_fast.data.image_files import forks
from srgan_fast.data.images import Image, write_image

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

CHILDREN = """
import os, signal, sys
from pathlib import Path
import numpy as np
from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.errors import ImageError

path, before = Path(sys.argv[1]), sys.argv[2]
if before == "read":
    image = read_image(path)

def work(what):
    try:
        if what == "read":
            print(read_image(path).pixels.shape)
        else:
            write_image(path.with_name("result.png"), Image(np.zeros((300, 300, 3), np.uint8)))
            print("written")
    except ImageError as error:
        print("refused:", error)
    sys.stdout.flush()

for what in ("read", "write", "read in a child's child"):
    child = os.fork()
    if child == 0:
        signal.alarm(30)  # a child that hangs is killed, and fails by it
        if "child" in what:
            grandchild = os.fork()
            if grandchild == 0:
                signal.alarm(30)
                work("read")
                os._exit(0)
            os._exit(os.waitpid(grandchild, 0)[1])
        work(what)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0, what
print(read_image(path).pixels.shape)
"""


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    write_image(path, Image(np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8)))
    return path


def output(code: str, *arguments: object) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_children_of_a_process_that_had_no_image_read_and_write(picture: Path) -> None:
    shape = "(400, 500, 3)"
    assert output(CHILDREN, picture, "nothing") == [shape, "written", shape, shape]


def test_children_forked_beside_threads_of_libvips_refuse_in_one_line(picture: Path) -> None:
    *children, parent = output(CHILDREN, picture, "read")
    assert len(children) == 3
    assert all(line.startswith("refused: images cannot be read or written in a process") for line in children)
    assert all("spawn or forkserver" in line for line in children)
    assert parent == "(400, 500, 3)"


def test_where_threads_cannot_be_seen_a_child_of_a_process_that_had_an_image_refuses(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(forks, "_THREADS", tmp_path / "none")
    process = forks._Forks()
    process.before()
    process.in_child()
    assert not process.refuses
    process.used = True
    process.before()
    process.in_child()
    assert process.refuses
    process.before()
    process.in_child()
    assert process.refuses
