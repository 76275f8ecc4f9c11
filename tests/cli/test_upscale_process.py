"""`srgan-fast upscale` as a process of its own: pipes carry images, torch stays out, Ctrl-C leaves whole files."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.data.images import read_image
from srgan_fast.upscale import Upscaler

COUNT = 150


@pytest.fixture
def options(tiny_model: Path) -> list[str]:
    return ["--model", str(tiny_model), "--backend", "onnxruntime"]


def _same(data: bytes, source: Path, upscaler: Upscaler) -> None:
    np.testing.assert_array_equal(read_image(data).pixels, upscaler.upscale(read_image(source)).pixels)


def test_pipes_carry_an_image_in_and_out(
    run_process: Any, picture: Any, upscaler: Upscaler, options: list[str]
) -> None:
    source = picture("a.png", size=(150, 150, 3))  # more than a pipe holds
    done = run_process("upscale", "-", "-o", "-", *options, input=source.read_bytes())
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(done.stdout) > 1 << 16
    _same(done.stdout, source, upscaler)


def test_one_command_feeds_the_next(run_process: Any, picture: Any, folder: Path, options: list[str]) -> None:
    source = picture("a.png")
    command = [sys.executable, "-m", "srgan_fast", "upscale", "-", "-o", "-", *options]
    with source.open("rb") as given:
        first = subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, cwd=folder)
    with first:
        second = run_process("upscale", "-", "-o", "b.webp", *options, "--outscale", "2", stdin=first.stdout)
    assert (first.returncode, second.returncode) == (0, 0)
    assert read_image(folder / "b.webp").pixels.shape == (40, 56, 3)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("side", [5, 150])
def test_a_reader_that_is_gone_is_one_line_and_a_failure(
    picture: Any, folder: Path, options: list[str], side: int, unbuffered: str
) -> None:
    picture("a.png", size=(side, side, 3))
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "srgan_fast", "upscale", "a.png", "-o", "-", *options]
    with os.fdopen(writing, "wb") as gone:
        done = subprocess.run(command, stdout=gone, stderr=subprocess.PIPE, env=environment, timeout=60, check=False)
    assert done.returncode == 1
    failed, summary = done.stderr.decode().splitlines()
    assert failed.startswith("failed: standard output: ")
    assert summary.endswith("; 1 failed: a.png")


@pytest.mark.skipif(os.name != "posix", reason="shells close streams there only")
@pytest.mark.parametrize(
    ("closed", "arguments"), [("<&-", "- -o b.png"), (">&-", "a.png -o -")], ids=["standard input", "standard output"]
)
def test_a_closed_stream_is_one_line(
    picture: Any, folder: Path, options: list[str], closed: str, arguments: str
) -> None:
    picture("a.png")
    command = f'exec "$0" -m srgan_fast upscale {arguments} "$@" {closed}'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, *options], stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    failed, _ = done.stderr.splitlines()
    assert failed == f"failed: standard {'input' if '<' in closed else 'output'}: is closed"
    assert [path.name for path in folder.iterdir()] == ["a.png"]


def test_an_empty_standard_input_is_no_traceback(run_process: Any, options: list[str], folder: Path) -> None:
    done = run_process("upscale", "-", "-o", "out.png", *options, stdin=subprocess.DEVNULL)
    assert done.returncode == 1
    assert done.stderr.startswith(b"failed: standard input: cannot be read as an image")
    assert list(folder.iterdir()) == []


BLOCKED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            print("asked for", name)
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from srgan_fast.cli import main
try:
    main()
finally:
    print([name for name in sys.modules if name.split(".")[0] in ("torch", "torchvision")])
"""


def test_upscaling_with_onnx_runtime_never_asks_for_torch(
    picture: Any, upscaler: Upscaler, options: list[str], folder: Path
) -> None:
    source = picture("a.png")
    command = [sys.executable, "-c", BLOCKED, "upscale", "a.png", "-o", "b.png", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
    _same((folder / "b.png").read_bytes(), source, upscaler)


def test_without_torch_a_runtime_is_found_and_torch_is_refused_with_a_hint(
    picture: Any, tiny_model: Path, folder: Path
) -> None:
    picture("a.png")
    start = "import sys; sys.modules['torch'] = None; from srgan_fast.cli import main; main()"
    command = [sys.executable, "-c", start, "upscale", "a.png", "-o", "b.png", "--model", str(tiny_model)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert (folder / "b.png").exists()
    done = subprocess.run([*command, "--backend", "torch"], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: backend torch needs torch: pip install 'srgan_fast[train]'\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal there only")
def test_an_interruption_leaves_whole_results_and_untouched_old_ones(
    picture: Any, folder: Path, options: list[str], number: signal.Signals
) -> None:
    for i in range(COUNT):
        picture(f"in/{i:03}.png", i, (40, 40, 3))
    (folder / "out").mkdir()
    for i in range(1, COUNT):
        (folder / f"out/{i:03}_x4.png").write_bytes(b"old")
    # Where the tests run in the background, SIGINT is ignored, and children inherit that.
    start = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    command = [sys.executable, "-c", f"{start}; from srgan_fast.cli import main; main()"]
    arguments = ["upscale", "in", "-o", "out", "--overwrite", *options]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while not (folder / "out/000_x4.png").exists() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
    summary, last = said.splitlines()
    assert process.returncode == 128 + number
    assert last == "interrupted; no partial files are left"
    files = sorted((folder / "out").iterdir())
    assert [path.name for path in files] == [f"{i:03}_x4.png" for i in range(COUNT)], "and nothing temporary"
    assert summary.startswith(f"{sum(path.read_bytes() != b'old' for path in files)} upscaled (")
    fresh = [path for path in files if path.read_bytes() != b"old"]
    assert 1 <= len(fresh) < COUNT
    assert fresh == files[: len(fresh)]
    for path in fresh:
        assert read_image(path).pixels.shape == (160, 160, 3)
