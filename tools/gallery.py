r"""Puts an image, its bicubic interpolation and the results of models side by side, as in the documents' images.

    python tools/gallery.py docs/images/gallery.png --model srresnet-x4 --model srgan-x4 \
        --row docs/samples/astronaut.png 40 5 75 60 --row docs/samples/cat.png 20 10 75 60

A row is an image with a box in its own pixels: left, top, width, height. The first column repeats the pixels of the
image, the second is bicubic. Give only images whose licence allows it to be committed.
"""

import argparse
from pathlib import Path

import numpy as np
import pyvips
from numpy.typing import NDArray

from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.models import DEFAULT_MODEL
from srgan_fast.upscale import Upscaler

Pixels = NDArray[np.uint8]
GAP = 8  # white pixels between images
LABEL = 28  # height in pixels of the names above the columns


def columns(lr: Pixels, upscalers: list[Upscaler]) -> list[Pixels]:
    """The image in the size of the results: pixels repeated, bicubic, by each model."""
    scale = upscalers[0].scale
    height, width = lr.shape[:2]
    repeated = lr.repeat(scale, 0).repeat(scale, 1)
    return [repeated, resize_bicubic(lr, scale * height, scale * width), *(upscaler(lr) for upscaler in upscalers)]


def label(text: str, width: int) -> Pixels:
    """Black text in the middle of a white strip."""
    drawn = 255 - np.asarray(pyvips.Image.text(text, font="sans 15", dpi=72).numpy(), np.uint8).squeeze()
    drawn = drawn[:LABEL, :width]
    strip = np.full((LABEL, width), 255, np.uint8)
    top, left = (LABEL - drawn.shape[0]) // 2, (width - drawn.shape[1]) // 2
    strip[top : top + drawn.shape[0], left : left + drawn.shape[1]] = drawn
    return strip[..., None].repeat(3, 2)


def beside(parts: list[Pixels]) -> Pixels:
    """Images of one height side by side, with gaps."""
    gap = np.full((parts[0].shape[0], GAP, 3), 255, np.uint8)
    return np.concatenate([piece for part in parts for piece in (part, gap)][:-1], axis=1)


def main() -> None:
    """Upscales, cuts, joins, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="Image file to write.")
    parser.add_argument("--row", nargs=5, action="append", required=True, metavar=("IMAGE", "L", "T", "W", "H"))
    parser.add_argument("--model", action="append", help=f"Model; repeatable (default: {DEFAULT_MODEL}).")
    args = parser.parse_args()
    names = args.model or [DEFAULT_MODEL]
    upscalers = [Upscaler(model) for model in names]
    scale = upscalers[0].scale
    if any(upscaler.scale != scale for upscaler in upscalers):
        parser.error("the models have different scales")
    if len({tuple(row[3:]) for row in args.row}) > 1:
        parser.error("the boxes have different sizes")
    rows = []
    for path, *box in args.row:
        left, top, width, height = (scale * int(side) for side in box)
        results = columns(flat_rgb8(read_image(Path(path))), upscalers)
        parts = [result[top : top + height, left : left + width] for result in results]
        if any(part.shape != (height, width, 3) for part in parts):
            parser.error(f"{path}: the box is not inside the image")
        rows.append(beside(parts))
    header = beside([label(text, width) for text in ("input", "bicubic", *(Path(name).stem for name in names))])
    gap = np.full((GAP, header.shape[1], 3), 255, np.uint8)
    write_image(args.out, Image(np.concatenate([header, *(part for row in rows for part in (row, gap))][:-1])))


if __name__ == "__main__":
    main()
