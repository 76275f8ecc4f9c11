"""Makes pairs of photographs: originals cut to whole multiples of the scale, and their low-resolution versions.

    python tools/make_pairs.py photos pairs --scale 4
    python tools/make_pairs.py photos pairs --scale 4 --blur 0 2.5 --noise 0 14 --jpeg 30 95 --versions 3

`pairs/hr` and `pairs/lr` then hold PNG files of the same names, in the folders of the originals (docs/distil.md). The
second command degrades the low-resolution versions as training with `data.degradations` does, but once for all, so
that a large model can upscale them for `data.targets`; each version of an original is drawn separately, and
`--seed` selects other ones. An image that cannot be read, or has the name of another one but for its suffix, is named
and left out; the exit code is then 1.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
from pydantic import ValidationError

from srgan_fast.data.cache import flat_rgb8
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.images import Image, find_images, read_image, write_image
from srgan_fast.data.resize import crop_to_multiple, downscale
from srgan_fast.errors import ImageError, SrganFastError
from srgan_fast.training.config.data import DegradationSection


def make_pair(original: Image, hr: Path, lr: Path, scale: int, degradations: Degradations, seed: list[int]) -> None:
    """Writes an original, cut to whole multiples of the scale, and its low-resolution version, degraded by that seed.

    Raises:
        ImageError: The image is smaller than the scale, or a file cannot be written.
    """
    pixels = crop_to_multiple(flat_rgb8(original), scale)
    rng = np.random.default_rng(seed)
    low = downscale(degradations.blur_original(pixels, rng), scale)
    for path, image in ((hr, pixels), (lr, degradations.add_noise_and_jpeg(low, rng))):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, Image(image))


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="Folder of originals, searched recursively.")
    parser.add_argument("output", type=Path, help="Folder for hr/ and lr/.")
    parser.add_argument("--scale", type=int, default=4, choices=(2, 3, 4, 8), help="Factor between the two.")
    for option, kind, text in (
        ("blur", float, "Least and greatest standard deviation of Gaussian blur, in pixels of the original."),
        ("noise", float, "Least and greatest standard deviation of Gaussian noise, in 8-bit steps."),
        ("jpeg", int, "Least and greatest JPEG quality, 1..100."),
    ):
        parser.add_argument(f"--{option}", type=kind, nargs=2, default=(0, 0), metavar=("LOW", "HIGH"), help=text)
    parser.add_argument("--versions", type=int, default=1, help="Number of versions of each original.")
    parser.add_argument("--seed", type=int, default=0, help="Seed of the degradations.")
    options = parser.parse_args()
    try:  # the checks of a training configuration
        section = DegradationSection(blur=options.blur, noise=options.noise, jpeg=options.jpeg)
    except ValidationError as error:
        fault = error.errors()[0]
        where = f"--{fault['loc'][0]}: " if fault["loc"] else ""
        parser.error(where + fault["msg"].removeprefix("Value error, "))
    if options.versions < 1 or options.seed < 0:
        parser.error(f"--versions must be at least 1 and --seed at least 0, got {options.versions} and {options.seed}")
    degradations = Degradations(section.blur, section.noise, section.jpeg)
    left_out, taken = 0, set[Path]()
    for place, source in enumerate(find_images(options.photos)):
        name = source.relative_to(options.photos).with_suffix(".png")
        try:
            if name in taken:
                raise ImageError(f"{source}: another image there has the same name with another suffix")
            taken.add(name)
            original = read_image(source)
            for version in range(options.versions):
                own = name if options.versions == 1 else name.with_name(f"{name.stem}-{version}.png")
                hr, lr = options.output / "hr" / own, options.output / "lr" / own
                make_pair(original, hr, lr, options.scale, degradations, [options.seed, place, version])
        except (SrganFastError, ValueError) as error:
            print(f"left out: {error}", file=sys.stderr)
            left_out += 1
    return 1 if left_out else 0


if __name__ == "__main__":
    sys.exit(main())
