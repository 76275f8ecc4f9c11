"""tools/match_colours.py and tools/make_colour_charts.py: targets with the colours of the originals."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.resize import downscale

TOOLS = Path(__file__).parent.parent / "tools"


def _run(tool: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, TOOLS / tool, *arguments], capture_output=True, text=True, check=False)


def test_drifted_colours_become_those_of_the_original_and_detail_stays(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    coarse = rng.integers(60, 190, (12, 10, 3))
    original = coarse.repeat(4, 0).repeat(4, 1)
    detail = rng.integers(-8, 9, (24, 20, 3)).repeat(2, 0).repeat(2, 1) * np.tile([[1, 1, -1, -1]], (48, 10))[..., None]
    drifted = original + np.array([9, -7, 5])
    for name, pixels in (("photos/a/x.jpg", original), ("teacher/a/x.png", drifted + detail)):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        write_image(path.with_suffix(".png"), Image(pixels.astype(np.uint8)))
    write_image(tmp_path / "teacher/b.png", Image(np.zeros((8, 8, 3), np.uint8)))
    done = _run("match_colours.py", tmp_path / "photos", tmp_path / "teacher", tmp_path / "matched")
    assert done.returncode == 1
    assert done.stderr.count("left out: ") == 1
    assert "b.png: no original of this name" in done.stderr
    teacher, matched = (read_image(tmp_path / folder / "a/x.png").rgb() for folder in ("teacher", "matched"))

    def drift(image: np.ndarray) -> float:
        return float(np.abs(downscale(image, 4).astype(int) - downscale(original.astype(np.uint8), 4)).mean())

    assert drift(teacher) > 5
    assert drift(matched) < 1.2
    change = matched.astype(int) - teacher
    assert np.abs(change.mean((0, 1)) - [-9, 7, -5]).max() < 1
    assert change.std((0, 1)).max() < 0.5 * detail.std()


def test_charts_have_flat_and_saturated_areas_and_come_again_with_the_seed(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        assert _run("make_colour_charts.py", tmp_path / folder, "--count", "2", "--side", "192").returncode == 0
    for name in ("chart-000.png", "chart-001.png"):
        first, second = (read_image(tmp_path / folder / name).rgb() for folder in ("one", "two"))
        np.testing.assert_array_equal(first, second)
        assert first.shape == (192, 192, 3)
        flat = (np.diff(first.astype(int), axis=1) == 0).all(2).mean()
        assert 0.9 < flat < 1
    assert not np.array_equal(first, read_image(tmp_path / "one/chart-000.png").rgb())
