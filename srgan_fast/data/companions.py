"""Pictures that belong to originals by their names: a stronger network's results for them, or low-resolution versions.

Each folder has a map of its own (`data.cache`), so that a change in any of them is noticed, and originals that were
decoded once serve with every folder beside them. Whatever does not fit is refused before training begins: a picture
that is silently left out, or paired with the wrong one, would only show as a worse model.
"""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.cache import CachedImage, OnNote, PixelCache, open_cache
from srgan_fast.errors import DataError


class Companions:
    """The pictures of a folder, by the index of the original that each belongs to.

    Args:
        cache: the folder's pictures.
        order: for each original the index of its picture in `cache`.
    """

    def __init__(self, cache: PixelCache, order: list[int]) -> None:
        self._cache, self._order = cache, order

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """A read-only H, W, 3 view of the picture that belongs to original `index`."""
        return self._cache[self._order[index]]

    def digests(self) -> list[str]:
        """What stands for the pixels of each original's picture."""
        return [self._cache.images[index].digest for index in self._order]


def open_targets(
    originals: PixelCache, folder: Path, maps: Path | None = None, on_note: OnNote | None = None
) -> Companions:
    """Pictures of the originals' names and sizes; a name may have another suffix.

    Args:
        originals: what they belong to.
        folder: searched in depth; its subfolders are those of the originals.
        maps: see `open_cache`.
        on_note: see `open_cache`.

    Raises:
        DataError: a picture that is missing, ambiguous, unreadable or of another size; the message names the first and
            counts them.
    """
    return _open(originals, folder, maps, 1, on_note)


def open_low_resolution(
    originals: PixelCache, folder: Path, scale: int, maps: Path | None = None, on_note: OnNote | None = None
) -> Companions:
    """Low-resolution versions: pictures of the originals' names, also with `xN` of the scale behind, and 1/scale size.

    Args:
        originals: what they belong to.
        folder: searched in depth; its subfolders are those of the originals.
        scale: of the originals to them, exactly, in both directions.
        maps: see `open_cache`.
        on_note: see `open_cache`.

    Raises:
        DataError: a picture that is missing, ambiguous, unreadable or of another size; the message names the first and
            counts them.
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
            f"{folder}: {len(differing)} of {len(order)} pictures have not {fitting} size; first: {differing[0]}"
        )
    return Companions(cache, order)


def _count(bad: list[str], good: list[CachedImage]) -> str:
    return f"{len(bad)} of {len(bad) + len(good)} pictures"


def _matched(originals: list[CachedImage], found: list[CachedImage], folder: Path, ending: str | None) -> list[int]:
    """For each original the index of the picture of its name: of the same suffix if there is one, else of any."""
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
            f"{folder}: {len(missing)} of {len(originals)} originals have no picture of their name there; "
            f"first: {missing[0]}"
        )
    if ambiguous:
        raise DataError(
            f"{folder}: for {len(ambiguous)} of {len(originals)} originals names alone do not tell which picture is "
            f"theirs, since several differ only in their suffix; first: {ambiguous[0]}"
        )
    return order


def _name(path: str) -> str:
    return str(PurePath(path).with_suffix(""))


def _grouped(images: Iterable[CachedImage]) -> defaultdict[str, list[int]]:
    groups: defaultdict[str, list[int]] = defaultdict(list)
    for index, image in enumerate(images):
        groups[_name(image.path)].append(index)
    return groups
