"""What pictures and random numbers a run has, so that it is not gone on with on others without a word.

Pictures are told by their pixels in the order of their names, not by folders and dates: a data set that was moved, or
copied, or saved in another lossless format, is the same one.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from srgan_fast.data.cache import CachedImage

FOLDERS = ("train", "targets", "lr", "validation")  # keys of [data]


class Pictures(TypedDict):
    """The pictures of a folder: how many, and what stands for their pixels in their order."""

    count: int
    digest: str


def pictures_of(digests: Sequence[str]) -> Pictures:
    """What is recorded about a folder.

    Args:
        digests: of its pictures (`data.cache.pixel_digest`), in their order.
    """
    return {"count": len(digests), "digest": hashlib.sha256("\n".join(digests).encode()).hexdigest()}


def what_differs(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    recorded: Mapping[str, Pictures] | None,
    found: Mapping[str, Pictures],
) -> list[str]:
    """Where the pictures and the seed of a resumed run are not those that it began with, each in a few words.

    Args:
        before: its configuration, as of the checkpoint.
        now: the configuration that it is resumed with.
        recorded: the checkpoint's pictures; None in one from before they were recorded, whose folders are compared.
        found: those that are there now. Folders that only one of both has are left out.
    """
    different = []
    seeds = before["run"].get("seed", 0), now["run"]["seed"]
    if seeds[0] != seeds[1]:
        different.append(f"run.seed was {seeds[0]} and is {seeds[1]}")
    for name in FOLDERS:
        was, folder = before["data"].get(name), now["data"][name]
        if was is None or folder is None:
            continue
        if recorded is None:
            if was != folder and name != "validation":
                different.append(f"data.{name} was {was} and is {folder}, and what it held was not recorded")
        elif name in recorded and name in found and recorded[name] != found[name]:
            different.append(f"data.{name} {_difference(recorded[name], found[name], folder)}")
    return different


def _difference(was: Pictures, now: Pictures, folder: str) -> str:
    if was["count"] != now["count"]:
        return f"had {was['count']} pictures and has {now['count']} ({folder})"
    return f"has other pictures or another order of them, though as many, {now['count']} ({folder})"


def shared_pictures(validation: Sequence[tuple[Path, str]], training: Sequence[CachedImage]) -> str | None:
    """A line about pictures that are both trained and validated on, whatever their names; None if there are none.

    Args:
        validation: files and the digests of their pixels.
        training: the pictures that are trained on.
    """
    trained = {image.digest: image.path for image in training}
    shared = [(path, trained[digest]) for path, digest in validation if digest in trained]
    if not shared:
        return None
    path, same = shared[0]
    first = path.name if path.name == same else f"{path.name}, there {same}"
    return (
        f"{len(shared)} of {len(validation)} validation pictures are training pictures too (first: {first}): "
        "validation will look better than the model is"
    )
