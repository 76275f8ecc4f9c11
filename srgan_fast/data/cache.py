"""Cache of a folder's decoded images: one memory-mapped file of RGB pixels.

Decoding a JPEG takes milliseconds, and a training step needs sixteen images; a crop from the map is only a copy.

An index file with a checksum stores the map's length and a digest of each image's pixels. Data that do not match are
decoded again, so that a full disk, an incomplete copy or a foreign file costs time but never leads to wrong pixels.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.images import Image, counted, find_images, read_image
from srgan_fast.errors import DataError, FileError, ImageError
from srgan_fast.files import atomic_write, cache_folder, sweep

_log = logging.getLogger("srgan_fast.data")
_FORMAT = 2

OnNote = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CachedImage:
    """Entry of the index: an image of H, W, 3 uint8 in the map.

    Attributes:
        path: path relative to the folder.
        offset: offset of its first byte in the map.
        height: number of rows.
        width: number of columns.
        digest: `pixel_digest` of its pixels.
    """

    path: str
    offset: int
    height: int
    width: int
    digest: str = ""


class PixelCache:
    """Random access to the pixels of many images.

    Args:
        pixels: the map, one-dimensional.
        images: entries of the index.
        skipped: one message per image that could not be read.
        folder: folder of the images, from which those that do not match their digests are decoded again; digests are
            not checked if None.
    """

    def __init__(
        self, pixels: NDArray[np.uint8], images: list[CachedImage], skipped: list[str], folder: Path | None = None
    ) -> None:
        self._pixels = pixels
        self.images = images
        self.skipped = skipped
        self._folder = folder
        self._verified: set[int] = set()
        self._repaired: dict[int, NDArray[np.uint8]] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A read-only H, W, 3 view of image `index`; its digest is checked on first use.

        Raises:
            DataError: its pixels in the map are damaged, and its file is unreadable or was changed.
        """
        if index in self._repaired:
            return self._repaired[index]
        entry = self.images[index]
        size = entry.height * entry.width * 3
        pixels = self._pixels[entry.offset : entry.offset + size].reshape(entry.height, entry.width, 3)
        if self._folder is None or index in self._verified:
            return pixels
        if pixel_digest(pixels) != entry.digest:
            return self._repair(self._folder / entry.path, index)
        self._verified.add(index)
        return pixels

    def _repair(self, path: Path, index: int) -> NDArray[np.uint8]:
        what = f"{path}: its decoded pixels in the cache are damaged"
        try:
            pixels = flat_rgb8(read_image(path))
        except ImageError as error:
            raise DataError(f"{what}, and it cannot be decoded again ({error})") from None
        if pixel_digest(pixels) != self.images[index].digest:
            raise DataError(f"{what}, and the image was changed since; start again")
        pixels.flags.writeable = False
        self._repaired[index] = pixels
        _log.warning("%s; it was decoded again", what)
        return pixels

    def digests(self) -> list[str]:
        """Digests of the images' pixels, in order."""
        return [image.digest for image in self.images]


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """Digest of the pixels of an H, W, 3 uint8 image."""
    digest = hashlib.blake2b(f"{pixels.shape}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(pixels).reshape(-1).data)
    return digest.hexdigest()


def open_cache(
    folder: Path,
    maps: Path | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    on_note: OnNote | None = None,
) -> PixelCache:
    """Opens the map of a folder and its subfolders; builds it first if files changed, or it is missing or damaged.

    Gray images are repeated to three channels, 16 bits are rounded to 8, transparent images are composited on white.

    Args:
        folder: folder of the images.
        maps: folder of the maps; `files.cache_folder()` if None.
        on_progress: called with (number of finished images, total number) while decoding.
        on_note: called with a message if an existing map is rebuilt, or if files are left out.

    Raises:
        DataError: none of the images can be read, or the map cannot be written.
        FileError: there is no folder for maps.
    """
    try:
        left_out: Counter[str] = Counter()
        paths = find_images(folder, left_out=left_out)
    except ImageError as error:
        raise DataError(str(error)) from None
    if not paths:
        raise DataError(f"{folder}: contains no images" + (f"; left out: {counted(left_out)}" if left_out else ""))
    if left_out and on_note:
        on_note(f"{folder}: left out: {counted(left_out)}")
    place, series = maps or cache_folder(), f"pixels-{_digest(str(folder.resolve()))}"
    stem = place / f"{series}-{_fingerprint(folder, paths)}"
    index, pixels = stem.with_suffix(".json"), stem.with_suffix(".bin")
    found = _opened(folder, index, pixels)
    if not isinstance(found, PixelCache):
        if found and on_note:
            on_note(f"{folder}: its decoded images in {pixels} are rebuilt, since {found}")
        try:
            sweep(place)  # partial maps of killed processes
            _build(folder, paths, index, pixels, on_progress)
        except FileError as error:
            raise DataError(str(error)) from None
        for outdated in place.glob(f"{series}-*"):  # maps of earlier contents of the folder
            if outdated.stem != stem.name:
                outdated.unlink(missing_ok=True)
        found = _opened(folder, index, pixels)
    if not isinstance(found, PixelCache):
        raise DataError(f"{folder}: its decoded images were written to {pixels}, but {found or 'the file is gone'}")
    if not found.images:
        raise DataError(f"{folder}: none of its {len(paths)} images can be read; first: {found.skipped[0]}")
    return found


def _opened(folder: Path, index: Path, pixels: Path) -> PixelCache | str:
    """Opens the map; returns the reason if it cannot be used, and "" if there is none."""
    try:
        content = json.loads(index.read_bytes())
        length = pixels.stat().st_size
        if problem := _why_not(content, index.stem, length):
            return problem
        directory = content["index"]
        images = [CachedImage(**entry) for entry in directory["images"]]
        return PixelCache(np.memmap(pixels, np.uint8, "r"), images, directory["skipped"], folder)
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError) as error:
        return f"they cannot be read ({type(error).__name__})"


def _why_not(content: object, name: str, length: int) -> str:
    """The reason why an index does not match a map of `length` bytes; empty if it does."""
    if not isinstance(content, dict) or content.get("checksum") != _checksum(content.get("index")):
        return "the index is damaged"
    if content["index"]["name"] != name:
        return "the index belongs to another folder"
    if content["index"]["bytes"] != length:
        return f"the file has {length} bytes instead of {content['index']['bytes']}"
    return ""


def _checksum(directory: object) -> str:
    return hashlib.sha256(json.dumps(directory, sort_keys=True).encode()).hexdigest()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _fingerprint(folder: Path, paths: list[Path]) -> str:
    parts = [str(_FORMAT)]
    for path in paths:
        try:
            stat = path.stat()
            version = f"{stat.st_size}\0{stat.st_mtime_ns}"
        except OSError:  # a broken link; reported when it is read
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
            name = str(path.relative_to(folder))
            images.append(CachedImage(name, offset, rgb.shape[0], rgb.shape[1], pixel_digest(rgb)))
            offset += rgb.nbytes
        if not images:
            file.write(b"\0")  # an empty file cannot be mapped
        length = file.tell()
    directory = {
        "name": index.stem,
        "bytes": length,
        "images": [asdict(image) for image in images],
        "skipped": skipped,
    }
    with atomic_write(index) as file:  # written last, since its existence means that the pixels are complete
        file.write(json.dumps({"checksum": _checksum(directory), "index": directory}).encode())


def flat_rgb8(image: Image) -> NDArray[np.uint8]:
    """Converts an image to H, W, 3 uint8; transparent ones are composited on white."""
    pixels = image.rgb().astype(np.float32) / np.iinfo(image.pixels.dtype).max
    if image.alpha is not None:
        alpha = image.alpha[:, :, None].astype(np.float32) / np.iinfo(image.alpha.dtype).max
        pixels = pixels * alpha + (1.0 - alpha)
    return np.rint(pixels * 255.0).astype(np.uint8)
