"""Makes pairs of photographs: originals cut to whole multiples of the scale, and their low-resolution versions.

    python tools/make_pairs.py photos pairs --scale 4

`pairs/hr` and `pairs/lr` then hold PNG files of the same names, in the folders of the originals (docs/distil.md). An
image that cannot be read, or has the name of another one but for its suffix, is named and left out; the exit code is
then 1.
"""

import argparse
import sys
from pathlib import Path

from srgan_fast.data.images import Image, find_images, read_image, write_image
from srgan_fast.data.resize import crop_to_multiple, downscale
from srgan_fast.errors import ImageError, SrganFastError


def make_pair(source: Path, hr: Path, lr: Path, scale: int) -> None:
    """Writes an original, cut to whole multiples of the scale, and its low-resolution version.

    Raises:
        ImageError: The image cannot be read, is smaller than the scale, or a file cannot be written.
    """
    original = read_image(source)
    pixels = crop_to_multiple(original.rgb(), scale)
    for path, image in ((hr, pixels), (lr, downscale(pixels, scale))):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(image))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="Folder of originals, searched recursively.")
    parser.add_argument("output", type=Path, help="Folder for hr/ and lr/.")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4, 8), help="Factor between the two.")
    options = parser.parse_args()
    left_out, taken = 0, set[Path]()
    for source in find_images(options.photos):
        name = source.relative_to(options.photos).with_suffix(".png")
        try:
            if name in taken:
                raise ImageError(f"{source}: another image there has the same name with another suffix")
            taken.add(name)
            make_pair(source, options.output / "hr" / name, options.output / "lr" / name, options.scale)
        except (SrganFastError, ValueError) as error:
            print(f"left out: {error}", file=sys.stderr)
            left_out += 1
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
