"""Images paired with originals by name: results of a stronger network, or low-resolution versions.

Each folder has its own map (`data.cache`), so that a change in any folder is detected, and decoded originals are reused
with any other folder. Every mismatch is rejected before training begins: an image that is silently ignored, or paired
with the wrong original, would only be visible as a worse model.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.cache import CachedImage, OnNote, PixelCache, open_cache
from srgan_fast.errors import DataError


class Companions:
    """The images of a folder, indexed by the original that each belongs to.

    Args:
        cache: images of the folder.
        order: for each original, the index of its companion in `cache`.
    """

    def __init__(self, cache: PixelCache, order: list[int]) -> None:
        self._cache, self._order = cache, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A read-only H, W, 3 view of the companion of original `index`."""
        return self._cache[self._order[index]]

    def digests(self) -> list[str]:
        """Digests of the companions' pixels, in the order of the originals."""
        return [self._cache.images[index].digest for index in self._order]


def open_targets(
    originals: PixelCache, folder: Path, maps: Path | None = None, on_note: OnNote | None = None
) -> Companions:
    """Opens training targets: images with the names and sizes of the originals; suffixes may differ.

    Args:
        originals: the originals.
        folder: folder of the targets, with the same subfolders as the originals.
        maps: see `open_cache`.
        on_note: see `open_cache`.

    Raises:
        DataError: targets that are missing, ambiguous, unreadable or of another size; the message gives their number
            and names the first.
    """
    return _open(originals, folder, maps, 1, on_note)


def open_low_resolution(
    originals: PixelCache, folder: Path, scale: int, maps: Path | None = None, on_note: OnNote | None = None
) -> Companions:
    """Opens low-resolution versions: images with the names of the originals, optionally followed by `x{scale}`.

    Args:
        originals: the originals.
        folder: folder of the low-resolution images, with the same subfolders as the originals.
        scale: exact ratio of the originals' width and height to theirs.
        maps: see `open_cache`.
        on_note: see `open_cache`.

    Raises:
        DataError: images that are missing, ambiguous, unreadable or of another size; the message gives their number
            and names the first.
    """
    return _open(originals, folder, maps, scale, on_note)


def _open(originals: PixelCache, folder: Path, maps: Path | None, scale: int, on_note: OnNote | None) -> Companions:
    cache = open_cache(folder, maps, on_note=on_note)
    if cache.skipped:
        raise DataError(f"{_count(cache.skipped, cache.images)} cannot be read; first: {cache.skipped[0]}")
    order = _matched(originals.images, cache.images, folder, f"x{scale}" if scale > 1 else None)
    fitting = f"1/{scale} of the original's" if scale > 1 else "the original's"
    differing = [
        f"{theirs.path} has {theirs.width}x{theirs.height}, its original {ours.width}x{ours.height}"
        for ours, theirs in zip(originals.images, (cache.images[i] for i in order), strict=True)
        if (theirs.height * scale, theirs.width * scale) != (ours.height, ours.width)
    ]
    if differing:
        raise DataError(
            f"{folder}: {len(differing)} of {len(order)} images do not have {fitting} size; first: {differing[0]}"
        )
    return Companions(cache, order)


def _count(bad: list[str], good: list[CachedImage]) -> str:
    return f"{len(bad)} of {len(bad) + len(good)} images"


def _matched(originals: list[CachedImage], found: list[CachedImage], folder: Path, ending: str | None) -> list[int]:
    """For each original, the index of the image with its name; the same suffix takes precedence over others."""
    by_path = {image.path: index for index, image in enumerate(found)}
    by_name = _grouped(found)
    shared = {name for name, indices in _grouped(originals).items() if len(indices) > 1}
    order: list[int] = []
    missing: list[str] = []
    ambiguous: list[str] = []
    for image in originals:
        name = _name(image.path)
        if image.path in by_path:
            order.append(by_path[image.path])
            continue
        candidates = by_name[name] or (by_name[name + ending] if ending else [])
        if not candidates:
            missing.append(image.path)
        elif len(candidates) > 1 or name in shared:
            ambiguous.append(image.path)
        else:
            order.append(candidates[0])
    if missing:
        raise DataError(
            f"{folder}: {len(missing)} of {len(originals)} originals have no image of the same name; "
            f"first: {missing[0]}"
        )
    if ambiguous:
        raise DataError(
            f"{folder}: the names of {len(ambiguous)} of {len(originals)} originals match several images, which differ "
            f"only in their suffix; first: {ambiguous[0]}"
        )
    return order


def _name(path: str) -> str:
    return str(PurePath(path).with_suffix(""))


def _grouped(images: Iterable[CachedImage]) -> defaultdict[str, list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[_name(image.path)].append(index)
    return groups
