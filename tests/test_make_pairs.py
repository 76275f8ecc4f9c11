"""tools/make_pairs.py: originals and low-resolution versions that training accepts, and none that hides another."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from srgan_fast.data.cache import open_cache
from srgan_fast.data.companions import open_low_resolution
from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.resize import downscale

TOOL = Path(__file__).parent.parent / "tools" / "make_pairs.py"


def test_pairs_are_what_training_accepts_and_what_cannot_be_paired_is_named(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    photos, pairs = tmp_path / "photos", tmp_path / "pairs"
    (photos / "more").mkdir(parents=True)
    pixels = rng.integers(0, 256, (43, 38, 3), np.uint8)
    write_image(photos / "a.png", Image(pixels))
    write_image(photos / "a.webp", Image(pixels))
    write_image(photos / "more" / "b.tif", Image(rng.integers(0, 256, (16, 16, 1), np.uint8)))
    (photos / "damaged.jpg").write_bytes(b"\xff\xd8\xff nothing")
    done = subprocess.run(
        [sys.executable, TOOL, photos, pairs, "--scale", "4"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert sorted(line.split(":")[0] for line in done.stderr.splitlines()) == ["left out", "left out"]
    assert "a.webp: another image there has the same name" in done.stderr
    assert "damaged.jpg" in done.stderr
    np.testing.assert_array_equal(read_image(pairs / "hr" / "a.png").pixels, pixels[:40, :36])
    np.testing.assert_array_equal(read_image(pairs / "lr" / "a.png").pixels, downscale(pixels[:40, :36], 4))
    originals = open_cache(pairs / "hr", tmp_path)
    assert [image.path for image in originals.images] == ["a.png", "more/b.png"]
    assert len(open_low_resolution(originals, pairs / "lr", 4, tmp_path)) == 2


def make(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sys.executable, TOOL, *arguments], capture_output=True, text=True, check=False)


def test_degraded_versions_differ_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 48, 3), np.uint8)
    (tmp_path / "photos").mkdir()
    write_image(tmp_path / "photos" / "a.png", Image(pixels))
    degradations = ("--blur", "1", "2", "--noise", "4", "9", "--jpeg", "30", "60", "--versions", "2")

    def versions(folder: str, seed: str) -> list[bytes]:
        done = make(tmp_path / "photos", tmp_path / folder, *degradations, "--seed", seed)
        assert done.returncode == 0, done.stderr
        names = ("a-0.png", "a-1.png")
        for name in names:
            np.testing.assert_array_equal(read_image(tmp_path / folder / "hr" / name).pixels, pixels)
        return [read_image(tmp_path / folder / "lr" / name).pixels.tobytes() for name in names]

    first = versions("one", "0")
    assert first == versions("two", "0")
    assert len({*first, *versions("three", "1"), downscale(pixels, 4).tobytes()}) == 5
    originals = open_cache(tmp_path / "one" / "hr", tmp_path)
    assert len(open_low_resolution(originals, tmp_path / "one" / "lr", 4, tmp_path)) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--blur", "3", "1"), "blur must be [lowest, highest], got [3.0, 1.0]"),
        (("--jpeg", "0", "50"), "jpeg qualities must lie in 1..100"),
        (("--noise", "-1", "4"), "--noise: Input should be greater than or equal to 0"),
        (("--versions", "0"), "--versions must be at least 1"),
    ],
)
def test_degradations_that_cannot_be_are_refused(options: tuple[str, ...], message: str, tmp_path: Path) -> None:
    done = make(tmp_path, tmp_path / "pairs", *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not (tmp_path / "pairs").exists()
