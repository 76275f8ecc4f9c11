"""Damaged ncnn and ONNX files by the thousand: our error in one line or a network, in little time and memory."""

from pathlib import Path

import pytest

from tests.damage import fuzz

PROGRAM = Path(__file__).parent / "fuzz_graphs.py"
SLICE = 400
BATCH = 1000


def _fuzz(kind: str, first: int, count: int) -> None:
    found = fuzz(PROGRAM, kind, first, count)
    assert 0 < found.accepted < count, "some damages are harmless, most are not"
    assert found.slowest < 2
    assert found.peak < 500e6


@pytest.mark.parametrize("kind", ["ncnn", "onnx"])
def test_a_damaged_file_is_our_error_or_a_network(kind: str) -> None:
    _fuzz(kind, 0, SLICE)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", ["ncnn", "onnx"])
@pytest.mark.parametrize("first", range(SLICE, SLICE + 5 * BATCH, BATCH))
def test_many_more_damaged_files(kind: str, first: int) -> None:
    _fuzz(kind, first, BATCH)
