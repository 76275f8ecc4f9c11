"""Damaged generator files by the thousand, up to an image out of the native engine: our error, or a result."""

import subprocess
import sys
from pathlib import Path

import pytest

from srgan_fast.models import GeneratorConfig, write_generator

from .conftest import FileOf

PROGRAM = Path(__file__).parent / "fuzz_weights.py"
BATCH = 1500


@pytest.fixture(scope="module")
def small(file_of: FileOf, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("fuzz") / "small.safetensors"
    config = GeneratorConfig(scale=2, channels=3, blocks=1, upsample_bn=True, prelu="channel")
    write_generator(file_of(config).weights, config.conventions, path, {"licence": "none"})
    return path


def _fuzz(source: Path, first: int) -> None:
    command = [sys.executable, "-X", "faulthandler", PROGRAM, source, str(first), str(BATCH)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    *_, last = ["nothing", *done.stdout.splitlines()]
    assert done.returncode == 0, (
        f"{last}: exit code {done.returncode}; again: python {PROGRAM} FILE {last.split()[-1]} 1\n{done.stderr[-3000:]}"
    )
    accepted = int(last.removeprefix("accepted "))
    assert BATCH // 10 < accepted < BATCH, "some damages are harmless, most are not"


@pytest.mark.parametrize("first", range(0, 5 * BATCH, BATCH))
def test_a_damaged_file_is_our_error_or_works(small: Path, first: int) -> None:
    _fuzz(small, first)


@pytest.mark.fuzz
@pytest.mark.parametrize("first", range(5 * BATCH, 50 * BATCH, BATCH))
def test_many_more_damaged_files(small: Path, first: int) -> None:
    _fuzz(small, first)
