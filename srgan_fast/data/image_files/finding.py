"""Search for images in a folder, by suffix."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from srgan_fast.data.image_files.formats import known_suffixes, readable_suffixes
from srgan_fast.errors import ImageError
from srgan_fast.files import shown

LINKED_FOLDER = "linked folder"


def find_images(
    folder: Path,
    recursive: bool = True,
    on_unreadable: Callable[[str], None] | None = None,
    left_out: Counter[str] | None = None,
    skip: str | None = None,
) -> list[Path]:
    """Finds the images in a folder; hidden files, which include our temporary files, are ignored.

    Symbolic links to files are followed; those to folders are not, since they may lead anywhere or back.

    Args:
        folder: folder to search.
        recursive: whether to search its subfolders.
        on_unreadable: called with a message for each subfolder that cannot be listed; such a folder is an error if
            None.
        left_out: counter of images of unsupported formats, by suffix, and of symbolic links to subfolders, as
            `LINKED_FOLDER`.
        skip: real path of a subfolder to ignore.

    Returns:
        The paths, sorted.

    Raises:
        ImageError: not a folder, or it cannot be listed.
    """
    if not folder.is_dir():
        raise ImageError(f"{shown(folder)}: no such folder")
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        line = f"{shown(Path(error.filename))}: cannot be listed ({error.strerror})"
        if on_unreadable is None or Path(error.filename) == folder:
            raise ImageError(line) from None
        on_unreadable(line)

    readable, known = readable_suffixes(), known_suffixes()
    for root, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = sorted(f for f in folders if not f.startswith(".")) if recursive else []
        if left_out is not None and (links := sum((Path(root) / f).is_symlink() for f in folders)):
            left_out[LINKED_FOLDER] += links
        if skip is not None:
            folders[:] = [f for f in folders if os.path.realpath(Path(root) / f) != skip]
        for file in files:
            suffix = Path(file).suffix.lower()
            if file.startswith("."):
                continue
            if suffix in readable:
                found.append(Path(sys.intern(root)) / file)
            elif left_out is not None and suffix in known:
                left_out[suffix] += 1
    return sorted(found)


def counted(left_out: Counter[str]) -> str:
    """Counts of files that were left out as text, such as `3 .exr, 1 .psd, 2 linked folders`."""
    kinds = sorted(left_out.items(), key=lambda entry: (not entry[0].startswith("."), entry))
    return ", ".join(
        f"{count} {kind}" + ("s" if count > 1 and not kind.startswith(".") else "") for kind, count in kinds
    )
