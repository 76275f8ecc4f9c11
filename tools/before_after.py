"""Puts bicubic interpolation and the results of models side by side, as in the documents' images.

usage: python tools/before_after.py IMAGE OUT.png [--model srresnet-x4]... [--box LEFT TOP WIDTH HEIGHT]

The box is in pixels of the low-resolution image; the whole image by default. Bicubic is on the left, followed by the
models in the given order.
"""

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.models import DEFAULT_MODEL
from srgan_fast.upscale import Upscaler

GAP = 8  # white pixels between images


def main() -> None:
    """Upscales, cuts, joins, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", action="append", help=f"model; repeatable (default: {DEFAULT_MODEL})")
    parser.add_argument("--box", type=int, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"))
    args = parser.parse_args()
    upscalers = [Upscaler(model) for model in args.model or [DEFAULT_MODEL]]
    scale = upscalers[0].scale
    if any(upscaler.scale != scale for upscaler in upscalers):
        parser.error("the models have different scales")
    lr = flat_rgb8(read_image(args.image))
    results = [resize_bicubic(lr, *(scale * side for side in lr.shape[:2]))]
    results += [upscaler(lr) for upscaler in upscalers]
    left, top, width, height = (side * scale for side in args.box or (0, 0, lr.shape[1], lr.shape[0]))
    parts: list[NDArray[np.uint8]] = []
    for result in results:
        part = result[top : top + height, left : left + width]
        parts += [part, np.full((part.shape[0], GAP, 3), 255, np.uint8)]
    write_image(args.out, Image(np.concatenate(parts[:-1], axis=1)))


if __name__ == "__main__":
    main()
