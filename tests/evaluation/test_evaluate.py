"""The protocol: known figures for bicubic, the right partners, and a refusal for whatever would bend the mean."""

import json
import math
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.metrics import luma, psnr, ssim
from srgan_fast.data.resize import crop_to_multiple, downscale, resize_bicubic
from srgan_fast.data.st_lpips import available, st_lpips
from srgan_fast.errors import DataError, ImageError
from srgan_fast.evaluation import evaluate
from srgan_fast.upscale import Upscaler

FIGURES = {"psnr_y", "psnr_rgb", "ssim_y", "bicubic_psnr_y", "bicubic_ssim_y"}
if available():
    FIGURES |= {"st_lpips", "bicubic_st_lpips"}
Make = Callable[..., Path]


class Stub:
    """Bicubic interpolation, or anything else, in a model's place."""

    def __init__(self, scale: int = 4, upscale: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None) -> None:
        self.scale = scale
        self._upscale = upscale
        self.seen: list[NDArray[np.uint8]] = []

    def __call__(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        self.seen.append(lr)
        if self._upscale:
            return self._upscale(lr)
        return resize_bicubic(lr, lr.shape[0] * self.scale, lr.shape[1] * self.scale)


def model(scale: int = 4, upscale: Callable[[NDArray[np.uint8]], NDArray[np.uint8]] | None = None) -> Upscaler:
    return cast(Upscaler, Stub(scale, upscale))


def picture(*shape: int, seed: int = 0, dtype: Any = np.uint8) -> NDArray[Any]:
    """Soft shapes with some noise."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = 0.5 + 0.4 * np.sin(x / 7 + seed) * np.cos(y / 9)
    image = waves[:, :, None] + np.random.default_rng(seed).uniform(-0.1, 0.1, shape)
    return np.asarray(np.clip(image, 0, 1) * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Writes images under their names into a folder."""

    def write(folder: str, **pictures: NDArray[Any]) -> Path:
        for name, pixels in pictures.items():
            write_image(tmp_path / folder / f"{name}.png", Image(pixels))
        return tmp_path / folder

    return write


@pytest.mark.data
@pytest.mark.parametrize(("name", "expected"), [("Set5", 28.42), ("Set14", 26.00)])
@pytest.mark.parametrize("given", [True, False], ids=["lr given", "lr made"])
def test_bicubic_has_its_published_psnr(data_folder: Path, name: str, expected: float, given: bool) -> None:
    folder = data_folder / "test" / name
    stub = Stub()
    evaluation = evaluate(cast(Upscaler, stub), folder / "HR", folder / "LR_x4" if given else None)
    mean = evaluation.mean()
    assert mean.bicubic_psnr_y == pytest.approx(expected, abs=0.02)
    assert mean.psnr_y == pytest.approx(mean.bicubic_psnr_y, abs=1e-9)
    assert mean.ssim_y == pytest.approx(mean.bicubic_ssim_y, abs=1e-9)
    gray = [i for i, path in enumerate(sorted((folder / "HR").iterdir())) if read_image(path).is_gray]
    assert len(gray) == (1 if name == "Set14" else 0)
    for index in gray:
        scores = evaluation.images[index]
        assert scores.psnr_rgb == pytest.approx(scores.psnr_y)  # Y of gray is gray itself, not 16..235
        assert stub.seen[index].shape[2] == 3


def test_figures_are_those_of_the_inner_part(make: Make) -> None:
    hr = picture(62, 75, 3)
    folder = make("hr", a=hr)
    spoiled = {}

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        sr = resize_bicubic(lr, lr.shape[0] * 4, lr.shape[1] * 4)
        sr[10:20] //= 2
        spoiled["inner"] = sr[4:-4, 4:-4].copy()
        sr[:4], sr[-4:], sr[:, :4], sr[:, -4:] = 0, 255, 0, 255  # the border does not count
        return sr

    scores = evaluate(model(upscale=upscale), folder).images[0]
    truth = hr[:60, :72][4:-4, 4:-4]
    bicubic = resize_bicubic(downscale(hr[:60, :72], 4), 60, 72)[4:-4, 4:-4]
    assert scores.name == "a.png"
    assert scores.psnr_rgb == pytest.approx(psnr(truth, spoiled["inner"]))
    assert scores.psnr_y == pytest.approx(psnr(luma(truth), luma(spoiled["inner"])))
    assert scores.ssim_y == pytest.approx(ssim(luma(truth), luma(spoiled["inner"])))
    assert scores.bicubic_psnr_y == pytest.approx(psnr(luma(truth), luma(bicubic)))
    assert scores.bicubic_ssim_y == pytest.approx(ssim(luma(truth), luma(bicubic)))


@pytest.mark.skipif(not available(), reason="stlpips_pytorch is not installed")
@pytest.mark.parametrize("channels", [1, 3])
def test_st_lpips_is_of_whole_images(make: Make, channels: int) -> None:
    hr = picture(51, 66, channels)
    scores = evaluate(model(), make("hr", a=hr)).images[0]
    whole = hr[:48, :64]
    bicubic = resize_bicubic(downscale(whole, 4), 48, 64)
    assert scores.st_lpips == scores.bicubic_st_lpips == pytest.approx(st_lpips(whole, bicubic), rel=1e-6)


@pytest.mark.skipif(not available(), reason="stlpips_pytorch is not installed")
def test_one_image_that_is_too_small_for_st_lpips_leaves_no_mean_of_the_others(make: Make) -> None:
    evaluation = evaluate(model(), make("hr", a=picture(20, 40, 3), b=picture(40, 40, 3)))
    assert [image.st_lpips is None for image in evaluation.images] == [True, False]
    report = evaluation.as_json()
    assert "st_lpips" not in report["mean"]
    assert ["st_lpips" in image for image in report["images"]] == [False, True]


def test_without_its_package_there_is_no_st_lpips(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    # The function of the module's name hides it in the package.
    monkeypatch.setattr(sys.modules[evaluate.__module__], "available", lambda: False)
    report = evaluate(model(), make("hr", a=picture(48, 48, 3))).as_json()
    for scores in (report["mean"], *report["images"]):
        assert not {name for name in scores if "lpips" in name}


def test_gray_is_upscaled_as_rgb_and_measured_as_the_mean_of_its_channels(make: Make) -> None:
    hr = picture(64, 64, 1)

    def upscale(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        assert (lr == lr[:, :, :1]).all()
        return np.repeat(hr, 3, axis=2) // 2 + np.array([0, 3, 8], np.uint8)

    scores = evaluate(model(upscale=upscale), make("hr", a=hr)).images[0]
    inner = hr[4:-4, 4:-4]
    assert scores.psnr_y == scores.psnr_rgb == pytest.approx(psnr(inner, inner // 2 + 4))  # 11 / 3 rounded


def test_perfect_results_are_infinite_and_json_has_every_figure(make: Make) -> None:
    hr = picture(48, 48, 3)
    report = evaluate(model(upscale=lambda _: hr), make("hr", a=hr, b=hr)).as_json()
    assert report.keys() == {"mean", "images"}
    assert report["mean"].keys() == FIGURES
    assert [image.pop("name") for image in report["images"]] == ["a.png", "b.png"]
    for scores in (report["mean"], *report["images"]):
        assert scores.keys() == FIGURES
        assert scores["psnr_y"] == scores["psnr_rgb"] == math.inf
        assert scores["ssim_y"] == pytest.approx(1)
    json.dumps(report)


def test_mean_is_that_of_the_images(make: Make) -> None:
    folder = make("hr", b=picture(48, 60, 3), a=picture(64, 52, 3, seed=1), c=picture(50, 50, 1, seed=2))
    progress: list[tuple[int, int]] = []
    evaluation = evaluate(model(), folder, on_image=lambda *at: progress.append(at))
    assert [scores.name for scores in evaluation.images] == ["a.png", "b.png", "c.png"]
    assert progress == [(1, 3), (2, 3), (3, 3)]
    for figure in FIGURES:
        values = [getattr(scores, figure) for scores in evaluation.images]
        assert getattr(evaluation.mean(), figure) == pytest.approx(np.mean(values))


def test_a_real_model_is_measured(tiny_model: Path, make: Make) -> None:
    scores = evaluate(Upscaler(tiny_model), make("hr", a=picture(48, 60, 3), b=picture(48, 60, 1))).images
    assert all(math.isfinite(s.psnr_y) and -1 <= s.ssim_y <= 1 for s in scores)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("pattern", ["{}", "{}x{}", "{}_x{}"])
def test_partners_are_found_by_the_usual_names(make: Make, pattern: str, scale: int) -> None:
    hr = {name: picture(61, 62, 3, seed=n) for n, name in enumerate(("a", "ab"))}
    lr = {pattern.format(name, scale): downscale(crop_to_multiple(pixels, scale), scale) for name, pixels in hr.items()}
    given = evaluate(model(scale), make("hr", **hr), make("lr", **lr, unrelated=picture(9, 9, 3)))
    made = evaluate(model(scale), make("hr"))
    assert given == made


@pytest.mark.parametrize("lr", ["a_x2", "ax3", "b", "aa", "xa"])
def test_missing_partner_is_named(make: Make, lr: str) -> None:
    folder = make("lr", **{lr: picture(16, 16, 3)})
    with pytest.raises(DataError, match=r"a\.png: no low-resolution version in .*\(looked for a, ax4, a_x4\)"):
        evaluate(model(), make("hr", a=picture(64, 64, 3)), folder)


@pytest.mark.parametrize("size", [(15, 16), (16, 15), (17, 16), (16, 17), (32, 32)])
def test_partner_of_another_size_is_refused(make: Make, size: tuple[int, int]) -> None:
    lr = make("lr", a=picture(*size, 3))
    with pytest.raises(DataError, match=rf"64x64 pixels are not 4 times the {size[1]}x{size[0]} of its"):
        evaluate(model(), make("hr", a=picture(64, 64, 3)), lr)


def test_rows_and_columns_beyond_the_last_multiple_are_left_out(make: Make) -> None:
    hr = picture(67, 66, 3)
    lr = make("lr", a=downscale(hr[:64, :64], 4))
    assert evaluate(model(), make("hr", a=hr), lr) == evaluate(model(), make("cut", a=hr[:64, :64]), lr)


def test_gray_with_a_partner_in_colour_is_refused(make: Make) -> None:
    with pytest.raises(DataError, match="is gray, the other in colour"):
        evaluate(model(), make("hr", a=picture(64, 64, 1)), make("lr", a=picture(16, 16, 3)))


@pytest.mark.parametrize("sixteen", ["hr", "lr"])
def test_sixteen_bits_are_refused(make: Make, sixteen: str) -> None:
    hr, lr = (
        make(name, a=picture(side, side, 3, dtype=np.uint16 if name == sixteen else np.uint8))
        for name, side in (("hr", 64), ("lr", 16))
    )
    with pytest.raises(DataError, match=rf"{sixteen}/a\.png: has 16 bits"):
        evaluate(model(), hr, lr)


@pytest.mark.parametrize(("scale", "needed"), [(2, 16), (3, 18), (4, 20)])
def test_images_smaller_than_window_and_border_are_refused_with_the_size_needed(
    make: Make, scale: int, needed: int
) -> None:
    scores = evaluate(model(scale), make("large", a=picture(needed, needed + 1, 3))).mean()
    assert math.isfinite(scores.ssim_y)
    for name, size in {"low": (needed - 1, 40), "narrow": (40, needed - 1)}.items():
        with pytest.raises(
            DataError, match=rf"a\.png: too small to be measured; sides must be at least {needed} pixels"
        ):
            evaluate(model(scale), make(name, a=picture(*size, 3)))


@pytest.mark.parametrize("size", [(3, 40), (40, 2), (1, 1)])
def test_images_smaller_than_the_scale_are_refused(make: Make, size: tuple[int, int]) -> None:
    with pytest.raises(DataError, match=r"a\.png: .* pixels are too few for scale 4"):
        evaluate(model(), make("hr", a=picture(*size, 3)))


@pytest.mark.parametrize("place", ["hr", "lr"])
def test_corrupt_image_is_named(make: Make, place: str) -> None:
    folders = {"hr": make("hr", a=picture(64, 64, 3)), "lr": make("lr", a=picture(16, 16, 3))}
    path = folders[place] / "a.png"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=rf"{place}/a\.png: cannot be read as an image") as caught:
        evaluate(model(), folders["hr"], folders["lr"])
    assert "\n" not in str(caught.value)


def test_one_bad_image_leaves_no_mean_of_the_others(make: Make) -> None:
    folder = make("hr", a=picture(64, 64, 3), b=picture(64, 64, 3))
    (folder / "b.png").write_bytes(b"text")
    with pytest.raises(DataError, match=r"b\.png"):
        evaluate(model(), folder)


def test_empty_and_missing_folders_are_refused(make: Make, tmp_path: Path) -> None:
    hr = make("hr", a=picture(64, 64, 3))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no images"):
        evaluate(model(), tmp_path / "empty")
    with pytest.raises(DataError, match="gone: no such folder"):
        evaluate(model(), tmp_path / "gone")
    with pytest.raises(DataError, match="gone: no such folder"):
        evaluate(model(), hr, tmp_path / "gone")
    with pytest.raises(DataError, match="no low-resolution version"):
        evaluate(model(), hr, tmp_path / "empty")


def test_what_the_upscaler_refuses_is_a_data_error(make: Make) -> None:
    def refuse(lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        raise ImageError("too many pixels")

    with pytest.raises(DataError, match="too many pixels"):
        evaluate(model(upscale=refuse), make("hr", a=picture(64, 64, 3)))


def test_an_image_whose_codec_is_missing_is_refused_and_not_measured_as_black(make: Make) -> None:
    folder = make("HR", a=picture(64, 64, 3), b=picture(64, 64, 3))
    data = bytes(pyvips.Image.new_from_array(picture(64, 64, 3)).tiffsave_buffer(compression="none"))
    tag = struct.pack("<HHI", 259, 3, 1)
    at = data.index(tag) + len(tag)
    (folder / "c.tif").write_bytes(data[:at] + struct.pack("<H", 50002) + data[at + 2 :])
    with pytest.raises(DataError, match=r"c\.tif: cannot be read as an image"):
        evaluate(model(), folder)
