"""Puts bicubic interpolation and a model's result side by side, as the pictures in the documents are.

usage: python tools/before_after.py PICTURE OUT.png [--model srresnet-x4] [--box LEFT TOP WIDTH HEIGHT]

The box is in pixels of the low-resolution picture; all of it if left out. Left is bicubic, right is the model.
"""

import argparse
from pathlib import Path

import numpy as np

from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.images import Image, read_image, write_image
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.models import DEFAULT_MODEL
from srgan_fast.upscale import Upscaler

GAP = 8  # white pixels between the two


def main() -> None:
    """Upscales, cuts, joins, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--box", type=int, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"))
    args = parser.parse_args()
    upscaler = Upscaler(args.model)
    lr = flat_rgb8(read_image(args.picture))
    left, top, width, height = (side * upscaler.scale for side in args.box or (0, 0, lr.shape[1], lr.shape[0]))
    sr = upscaler(lr)
    bicubic = resize_bicubic(lr, *sr.shape[:2])
    cut = (slice(top, top + height), slice(left, left + width))
    white = np.full((sr[cut].shape[0], GAP, 3), 255, np.uint8)
    write_image(args.out, Image(np.concatenate([bicubic[cut], white, sr[cut]], axis=1)))


if __name__ == "__main__":
    main()
