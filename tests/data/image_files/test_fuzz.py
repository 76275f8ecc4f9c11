"""Damaged image files by the thousand: our error in one line or images, in little time and memory."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parent / "fuzz_images.py"
ROOT = PROGRAM.parents[3]
KINDS = ["png", "apng", "jpg", "webp", "tif", "gif", "avif", "bmp", "ppm", "tga", "heic", "jxl", "zstd"]
NEEDS = {"heic": "pillow_heif", "jxl": "imagecodecs", "zstd": "tifffile"}
SLICE = 60
BATCH = 1000


def _fuzz(kind: str, first: int, count: int) -> None:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv = sys.argv[1:]; import runpy; "
    code += f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')"
    command = [sys.executable, "-X", "faulthandler", "-c", code, str(PROGRAM), kind, str(first), str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    *_, last = ["nothing", *done.stdout.splitlines()]
    assert done.returncode == 0, f"{kind}, {last}: exit code {done.returncode}\n{done.stderr[-3000:]}"
    _, accepted, _, slowest, _, peak = last.split()
    assert int(accepted) > 0, "some damages are harmless"
    assert float(slowest) < 2
    assert int(peak) < 500e6


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_our_error_or_images(kind: str) -> None:
    _fuzz(kind, 0, SLICE)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_more_damaged_files(kind: str) -> None:
    _fuzz(kind, SLICE, BATCH)
