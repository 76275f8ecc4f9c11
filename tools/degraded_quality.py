"""Compares models on photographs with blur, noise and JPEG compression, as cameras and the web have them.

    python tools/degraded_quality.py data/test/Set14/HR data/bsds --model srresnet-x4 --model photo-x4 --sheet sheet.png

Each original is degraded with each seed: Gaussian blur of up to 2 pixels of the original, bicubic downscaling, Gaussian
noise of up to 10 steps of 8 bits, JPEG of quality 40 to 90. Of a folder with more than `--most` images that many are
taken, evenly spread over the sorted names. Prints a table, bicubic interpolation first:

    PSNR-Y         in dB, without a border of `scale` pixels
    ST-LPIPS       perceptual distance, lower is better (needs stlpips_pytorch)
    blockiness     steps at the places of JPEG's blocks beyond those elsewhere, in 8-bit steps
    checkerboard   RMS of what repeats every `scale` pixels, in 8-bit steps

`--sheet` writes crops of the first images: the degraded image by nearest neighbour, bicubic, the models, the original.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.images import Image, find_images, read_image, write_image
from srgan_fast.data.metrics import blockiness, checkerboard, luma, psnr
from srgan_fast.data.resize import crop_to_multiple, downscale, resize_bicubic
from srgan_fast.data.st_lpips import st_lpips
from srgan_fast.errors import SrganFastError
from srgan_fast.upscale import Upscaler

Pixels = NDArray[np.uint8]
DEGRADATIONS = Degradations(blur=(0.0, 2.0), noise=(0.0, 10.0), jpeg=(40, 90))
BLOCK = 8  # side of JPEG's blocks
CROP, GAP, ON_SHEET = 200, 6, 8  # of the sheet: side of a crop, pixels between crops, number of images


@dataclass(frozen=True, slots=True)
class Pair:
    """An original, H, W, 3, and its degraded low-resolution version."""

    hr: Pixels
    lr: Pixels


def spread(paths: list[Path], most: int) -> list[Path]:
    """At most that many of the paths, evenly spread."""
    if len(paths) <= most:
        return paths
    return [paths[i * len(paths) // most] for i in range(most)]


def degraded_pairs(paths: list[Path], scale: int, seeds: int) -> Iterator[Pair]:
    """All originals with the first seed, then with the next; a pair depends on its place and seed alone."""
    for seed in range(seeds):
        for place, path in enumerate(paths):
            hr = crop_to_multiple(flat_rgb8(read_image(path)), scale)
            rng = np.random.default_rng((seed, place))
            lr = downscale(DEGRADATIONS.blur_original(hr, rng), scale)
            yield Pair(hr, DEGRADATIONS.add_noise_and_jpeg(lr, rng))


def figures(hr: Pixels, sr: Pixels, scale: int) -> list[float]:
    """PSNR-Y, ST-LPIPS, blockiness and checkerboard of a result."""
    y = luma(sr)
    inside = slice(scale, -scale)
    return [
        psnr(luma(hr)[inside, inside], y[inside, inside]),
        st_lpips(hr, sr),
        blockiness(y, BLOCK * scale),
        checkerboard(y, scale),
    ]


def sheet_row(pair: Pair, results: list[Pixels], scale: int) -> Pixels:
    """Crops from the middle of the degraded image, the results and the original, side by side."""
    nearest = pair.lr.repeat(scale, 0).repeat(scale, 1)
    side = min(CROP, *pair.hr.shape[:2])
    top, left = (max(0, length - side) // 2 for length in pair.hr.shape[:2])
    parts = []
    for image in (nearest, *results, pair.hr):
        part = np.full((CROP, CROP + GAP, 3), 255, np.uint8)
        part[:side, :side] = image[top : top + side, left : left + side]
        parts.append(part)
    return np.concatenate([*parts[:-1], parts[-1][:, :CROP]], axis=1)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path, nargs="+", help="Folder of originals.")
    parser.add_argument("--model", action="append", required=True, help="Model; repeatable.")
    parser.add_argument("--seeds", type=int, default=3, help="Number of degraded versions of each original.")
    parser.add_argument("--most", type=int, default=30, help="Number of images that are taken from a folder.")
    parser.add_argument("--sheet", type=Path, help="Image file for crops of the results.")
    options = parser.parse_args()
    try:
        upscalers = {model: Upscaler(model) for model in options.model}
        scale = next(iter(upscalers.values())).scale
        if any(upscaler.scale != scale for upscaler in upscalers.values()):
            parser.error("the models have different scales")
        paths = [path for folder in options.originals for path in spread(find_images(folder), options.most)]
        ways: dict[str, Callable[[Pixels], Pixels]] = {
            "bicubic": lambda lr: resize_bicubic(lr, scale * lr.shape[0], scale * lr.shape[1]),
            **upscalers,
        }
        found: dict[str, list[list[float]]] = {name: [] for name in ways}
        rows: list[Pixels] = []
        for pair in degraded_pairs(paths, scale, options.seeds):
            results = [way(pair.lr) for way in ways.values()]
            for name, sr in zip(ways, results, strict=True):
                found[name].append(figures(pair.hr, sr, scale))
            if len(rows) < ON_SHEET:
                rows.append(sheet_row(pair, results, scale))
        print(f"{len(found['bicubic'])} degraded images")
        print("| model | PSNR-Y | ST-LPIPS | blockiness | checkerboard |\n|---|---|---|---|---|")
        for name, values in found.items():
            means = np.mean(values, 0)
            print(f"| {Path(name).stem} | {means[0]:.2f} dB | {means[1]:.3f} | {means[2]:.2f} | {means[3]:.2f} |")
        if options.sheet is not None:
            gap = np.full((GAP, rows[0].shape[1], 3), 255, np.uint8)
            write_image(options.sheet, Image(np.concatenate([part for row in rows for part in (row, gap)][:-1])))
    except SrganFastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
