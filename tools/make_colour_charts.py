"""Makes images of flat rectangles in random colours, to be mixed into the photographs of a training.

    python tools/make_colour_charts.py charts --count 12

Photographs have few saturated and few flat areas, so that a network may change their colours; one image in thirty is
enough to prevent it. Half of the colours are drawn evenly from all, half have channels of 0 or 255 only.
"""

import argparse
from pathlib import Path

import numpy as np

from srgan_fast.data.images import Image, write_image

SMALLEST = 24  # side of a rectangle in pixels, at least


def chart(side: int, rng: np.random.Generator) -> Image:
    """A square image of overlapping rectangles."""
    pixels = np.empty((side, side, 3), np.uint8)
    for i in range(1 + (side // 48) ** 2):
        height, width = (side, side) if i == 0 else rng.integers(SMALLEST, side // 3, 2)
        top, left = rng.integers(0, side - height + 1), rng.integers(0, side - width + 1)
        colour = rng.integers(0, 256, 3) if rng.random() < 0.5 else 255 * rng.integers(0, 2, 3)
        pixels[top : top + height, left : left + width] = colour
    return Image(pixels)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="Folder for the images.")
    parser.add_argument("--count", type=int, default=12, help="Number of images.")
    parser.add_argument("--side", type=int, default=512, help="Side of an image in pixels.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of rectangles and colours.")
    options = parser.parse_args()
    if options.side < 4 * SMALLEST:
        parser.error(f"--side must be at least {4 * SMALLEST}")
    rng = np.random.default_rng(options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    for i in range(options.count):
        write_image(options.output / f"chart-{i:03}.png", chart(options.side, rng))


if __name__ == "__main__":
    main()
