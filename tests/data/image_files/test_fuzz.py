"""Damaged image files by the thousand: our error in one line or images, in little time and memory."""

from pathlib import Path

import pytest

from tests.damage import fuzz

PROGRAM = Path(__file__).parent / "fuzz_images.py"
KINDS = ["png", "apng", "jpg", "webp", "tif", "gif", "avif", "bmp", "ppm", "tga", "heic", "jxl", "zstd"]
NEEDS = {"heic": "pillow_heif", "jxl": "imagecodecs", "zstd": "tifffile"}
SLICE = 60
BATCH = 1000


def _fuzz(kind: str, first: int, count: int, least: int = 1) -> None:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    found = fuzz(PROGRAM, kind, first, count)
    assert found.accepted >= least, "some damages are harmless"
    assert found.slowest < 2
    assert found.peak < 500e6


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_our_error_or_images(kind: str) -> None:
    _fuzz(kind, 0, SLICE)


def test_an_image_of_another_size_than_its_header_says_is_refused() -> None:
    _fuzz("heic", 858, 1, least=0)
    _fuzz("heic", 874, 1, least=0)


@pytest.mark.fuzz
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_more_damaged_files(kind: str) -> None:
    _fuzz(kind, SLICE, BATCH)
