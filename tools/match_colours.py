"""Gives a teacher's images the colours of the originals: a model that learns from them would learn their drift, too.

    python tools/match_colours.py photos photos_by_a_sharp_network matched --scale 4

Adds to each image of the second folder what its low-resolution version lacks of that of the original, interpolated
bicubically (one step of back-projection, Irani and Peleg 1991), and writes a PNG file of the same name to the third.
Detail that is finer than the low resolution stays the teacher's. An image without a partner, or of another size, is
named and left out; the exit code is then 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.images import Image, find_images, read_image, write_image
from srgan_fast.data.resize import crop_to_multiple, downscale, resize_bicubic
from srgan_fast.errors import ImageError, SrganFastError

Pixels = NDArray[np.uint8]


def matched(teacher: Pixels, original: Pixels, scale: int) -> Pixels:
    """The teacher's image with the colours of the original, H, W, 3; both sides are multiples of the scale."""
    height, width = original.shape[:2]
    coarse = [resize_bicubic(downscale(image, scale), height, width).astype(int) for image in (original, teacher)]
    return np.asarray(np.clip(teacher + coarse[0] - coarse[1], 0, 255)).astype(np.uint8)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("originals", type=Path, help="Folder of originals.")
    parser.add_argument("teacher", type=Path, help="Folder of the teacher's images, of the same names.")
    parser.add_argument("output", type=Path, help="Folder for the results.")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4, 8), help="Scale of the teacher.")
    options = parser.parse_args()
    originals = {path.relative_to(options.originals).with_suffix(""): path for path in find_images(options.originals)}
    left_out = 0
    for path in find_images(options.teacher):
        name = path.relative_to(options.teacher).with_suffix("")
        try:
            if name not in originals:
                raise ImageError(f"{path}: no original of this name in {options.originals}")
            original = crop_to_multiple(flat_rgb8(read_image(originals[name])), options.scale)
            teacher = flat_rgb8(read_image(path))
            if teacher.shape != original.shape:
                raise ImageError(f"{path}: has the shape {teacher.shape}, the original {original.shape}")
            target = options.output / name.with_name(f"{name.name}.png")
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(target, Image(matched(teacher, original, options.scale)))
        except SrganFastError as error:
            print(f"left out: {error}", file=sys.stderr)
            left_out += 1
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
