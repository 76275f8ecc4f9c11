"""Damages a small image file in a way that a number stands for, reads and writes it: our error in one line, or images.

python fuzz_images.py KIND FIRST COUNT
"""

import importlib
import io
import random
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import get_args

import numpy as np
import PIL.Image
import PIL.PngImagePlugin

from srgan_fast.data.images import Format, Image, ImageFile, Metadata, encode, image_header, read_file
from srgan_fast.errors import ImageError
from tests.damage import damaged
from tests.peak_memory import peak_memory

MAX_PIXELS = 4_000_000  # larger images are refused from their headers, as by --max-pixels
EXIF = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"


def _pixels() -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.mgrid[:24, :32]
    return np.stack([8 * y, 7 * x, 200 - y - x], 2).astype(np.uint8)


def _by_pillow(fmt: str, **options: object) -> bytes:
    file = io.BytesIO()
    PIL.Image.fromarray(_pixels()).save(file, fmt, **options)
    return file.getvalue()


def small_file(kind: str) -> bytes:
    """A file of 32x24 pixels, with metadata or several frames where the format has them."""
    if kind == "avif":
        return encode(ImageFile((Image(_pixels(), None, Metadata()),)), "avif", 60).data
    if kind == "jxl":
        imagecodecs = importlib.import_module("imagecodecs")
        return bytes(imagecodecs.jpegxl_encode(_pixels(), lossless=True))
    if kind == "zstd":
        file = io.BytesIO()
        importlib.import_module("tifffile").imwrite(file, _pixels(), photometric="rgb", compression="zstd")
        return file.getvalue()
    if kind == "heic":
        importlib.import_module("pillow_heif").register_heif_opener()
    info = PIL.PngImagePlugin.PngInfo()
    info.add_itxt("Title", "Gr\u00fc\u00dfe", zip=True)
    others = [PIL.Image.fromarray(_pixels() // (i + 2)) for i in range(2)]
    film = {"save_all": True, "append_images": others}
    fmt, options = {
        "png": ("PNG", {"pnginfo": info, "dpi": (300, 300), "exif": EXIF}),
        "apng": ("PNG", {**film, "duration": 40}),
        "jpg": ("JPEG", {"dpi": (300, 300), "comment": b"of waves", "exif": EXIF}),
        "webp": ("WEBP", {"lossless": True, "exif": EXIF}),
        "tif": ("TIFF", {**film, "compression": "tiff_adobe_deflate"}),
        "gif": ("GIF", {**film, "duration": 40, "loop": 0}),
        "heic": ("HEIF", {}),
    }.get(kind, ({"tga": "TGA", "bmp": "BMP", "ppm": "PPM"}.get(kind, ""), {}))
    return _by_pillow(fmt, **options)


def _try(path: Path, fmt: Format) -> bool:
    """Reads and writes a file; returns whether it could be read."""
    header = image_header(path)
    if header.pixels > MAX_PIXELS:
        return False
    file = read_file(path)
    frame = file.frames[0]
    assert (frame.width, frame.height, len(file.frames)) == (header.width, header.height, header.frames)
    encode(file, fmt)
    return True


def main() -> None:
    kind, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    whole = small_file(kind)
    formats = get_args(Format)
    accepted, slowest = 0, 0.0
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{'tif' if kind == 'zstd' else kind}"
        for number in range(first, first + count):
            rng = random.Random(number)
            data = damaged(whole, rng)
            path.write_bytes(data[: rng.randrange(len(data))] if rng.random() < 0.1 else data)
            sys.stdout.write(f"next {number}\n")
            sys.stdout.flush()
            began, message = time.process_time(), ""
            try:
                accepted += _try(path, formats[number % len(formats)])
            except ImageError as error:
                message = str(error)
            assert "\n" not in message, message
            assert len(message) < 400, message
            slowest = max(slowest, time.process_time() - began)
    sys.stdout.write(f"accepted {accepted} slowest {slowest:.3f} peak {peak_memory()}\n")


if __name__ == "__main__":
    main()
