"""A folder of pictures, decoded once into one memory-mapped file of RGB pixels.

Decoding JPEG costs milliseconds for each picture and a training step needs sixteen; from the map a crop is a copy.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.images import Image, find_images, read_image
from srgan_fast.errors import DataError, FileError, ImageError
from srgan_fast.files import atomic_write, cache_folder

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class CachedImage:
    """Where a picture lies in the map: H, W, 3 uint8 from byte `offset` on."""

    path: str
    offset: int
    height: int
    width: int


class PixelCache:
    """Random access to the pixels of many pictures.

    Args:
        pixels: the flat map.
        images: its directory.
        skipped: one line for each picture that could not be read.
    """

    def __init__(self, pixels: NDArray[np.uint8], images: list[CachedImage], skipped: list[str]) -> None:
        self._pixels = pixels
        self.images = images
        self.skipped = skipped

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A read-only H, W, 3 view of picture `index`."""
        entry = self.images[index]
        size = entry.height * entry.width * 3
        return self._pixels[entry.offset : entry.offset + size].reshape(entry.height, entry.width, 3)


def open_cache(
    folder: Path, maps: Path | None = None, on_progress: Callable[[int, int], None] | None = None
) -> PixelCache:
    """Opens the map of a folder (recursive); makes it first if the folder's files changed or it is not there.

    Gray pictures are repeated to three channels, 16 bits are rounded to 8, transparent ones are laid on white.

    Args:
        folder: pictures.
        maps: where maps are kept; `files.cache_folder()` if None.
        on_progress: called with (pictures done, pictures in all) while decoding.

    Raises:
        DataError: no picture there can be read, or the map cannot be written.
        FileError: there is no folder for maps.
    """
    try:
        paths = find_images(folder)
    except ImageError as error:
        raise DataError(str(error)) from None
    if not paths:
        raise DataError(f"{folder}: holds no pictures")
    place, series = maps or cache_folder(), f"pixels-{_digest(str(folder.resolve()))}"
    stem = place / f"{series}-{_fingerprint(folder, paths)}"
    index, pixels = stem.with_suffix(".json"), stem.with_suffix(".bin")
    if not (index.exists() and pixels.exists()):
        try:
            _build(folder, paths, index, pixels, on_progress)
        except FileError as error:
            raise DataError(str(error)) from None
        for outdated in place.glob(f"{series}-*"):  # maps of what the folder held before
            if outdated.stem != stem.name:
                outdated.unlink(missing_ok=True)
    directory = json.loads(index.read_text())
    images = [CachedImage(**entry) for entry in directory["images"]]
    if not images:
        raise DataError(f"{folder}: none of its {len(paths)} pictures can be read; first: {directory['skipped'][0]}")
    return PixelCache(np.memmap(pixels, np.uint8, "r"), images, directory["skipped"])


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _fingerprint(folder: Path, paths: list[Path]) -> str:
    parts = [str(_FORMAT)]
    for path in paths:
        try:
            stat = path.stat()
            version = f"{stat.st_size}\0{stat.st_mtime_ns}"
        except OSError:  # a link to nowhere; reading it tells
            version = ""
        parts.append(f"{path.relative_to(folder)}\0{version}")
    return _digest("\0".join(parts))


def _build(
    folder: Path, paths: list[Path], index: Path, pixels: Path, on_progress: Callable[[int, int], None] | None
) -> None:
    images: list[CachedImage] = []
    skipped: list[str] = []
    offset = 0
    with atomic_write(pixels) as file:
        for done, path in enumerate(paths):
            try:
                rgb = flat_rgb8(read_image(path))
            except ImageError as error:
                skipped.append(str(error))
                continue
            finally:
                if on_progress:
                    on_progress(done + 1, len(paths))
            file.write(rgb.tobytes())
            images.append(CachedImage(str(path.relative_to(folder)), offset, rgb.shape[0], rgb.shape[1]))
            offset += rgb.nbytes
        if not images:
            file.write(b"\0")  # an empty file cannot be mapped
    directory = {"images": [vars_of(image) for image in images], "skipped": skipped}
    with atomic_write(index) as file:  # last: its presence says that the pixels are complete
        file.write(json.dumps(directory).encode())


def vars_of(image: CachedImage) -> dict[str, str | int]:
    """A directory entry as JSON."""
    return {"path": image.path, "offset": image.offset, "height": image.height, "width": image.width}


def flat_rgb8(image: Image) -> NDArray[np.uint8]:
    """A picture as H, W, 3 uint8 without alpha (on white)."""
    pixels = image.rgb().astype(np.float32) / np.iinfo(image.pixels.dtype).max
    if image.alpha is not None:
        alpha = image.alpha[:, :, None].astype(np.float32) / np.iinfo(image.alpha.dtype).max
        pixels = pixels * alpha + (1.0 - alpha)
    return np.rint(pixels * 255.0).astype(np.uint8)
