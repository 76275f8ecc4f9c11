"""tools/make_pairs.py: originals and low-resolution versions that training accepts, and none that hides another."""

import subprocess
import sys
from pathlib import Path

import numpy as np

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
