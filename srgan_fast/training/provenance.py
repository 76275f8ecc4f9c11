"""Images and seed of a run, recorded so that a run is not resumed with different ones unnoticed.

Images are identified by their pixels, in the order of their names, not by folder and date: a data set that was moved,
copied, or saved in another lossless format is still the same.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from srgan_fast.data.cache import CachedImage

FOLDERS = ("train", "targets", "lr", "validation")  # keys of [data]


class ImageSet(TypedDict):
    """Number of images in a folder, and a SHA-256 digest of their pixels in order."""

    count: int
    digest: str


ImageSets = Mapping[str, ImageSet]  # by key of the section `data`


def image_set(digests: Sequence[str]) -> ImageSet:
    """The record of a folder's images.

    Args:
        digests: digest of each image (`data.cache.pixel_digest`), in order.
    """
    return {"count": len(digests), "digest": hashlib.sha256("\n".join(digests).encode()).hexdigest()}


def what_differs(
    before: Mapping[str, Any],
    now: Mapping[str, Any],
    recorded: ImageSets | None,
    found: ImageSets,
) -> list[str]:
    """Differences in images and seed between a checkpoint and the run that resumes from it, each as a short text.

    Folders that only one of the two has are not compared.

    Args:
        before: configuration in the checkpoint.
        now: configuration of the resumed run.
        recorded: images recorded in the checkpoint; None if it is older than this record, then folders are compared.
        found: images that the folders have now.
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
                different.append(f"data.{name} was {was} and is {folder}, and its images were not recorded")
        elif name in recorded and name in found and recorded[name] != found[name]:
            different.append(f"data.{name} {_difference(recorded[name], found[name], folder)}")
    return different


def _difference(was: ImageSet, now: ImageSet, folder: str) -> str:
    if was["count"] != now["count"]:
        return f"had {was['count']} images and has {now['count']} ({folder})"
    return f"has {now['count']} images as before, but others or in another order ({folder})"


def shared_images(validation: Sequence[tuple[Path, str]], training: Sequence[CachedImage]) -> str | None:
    """A warning about images in both the training and a validation set, under any name; None if there are none.

    Args:
        validation: files and the digests of their pixels.
        training: training images.
    """
    trained = {image.digest: image.path for image in training}
    shared = [(path, trained[digest]) for path, digest in validation if digest in trained]
    if not shared:
        return None
    path, same = shared[0]
    first = path.name if path.name == same else f"{path.name}, in training {same}"
    return (
        f"{len(shared)} of {len(validation)} validation images are also training images (first: {first}): "
        "its figures will be better than the model"
    )
