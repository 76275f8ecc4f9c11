"""The images of a folder, by their suffix."""

import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from srgan_fast.data.image_files.formats import known_suffixes, readable_suffixes
from srgan_fast.errors import ImageError
from srgan_fast.files import shown


def find_images(
    folder: Path,
    recursive: bool = True,
    on_unreadable: Callable[[str], None] | None = None,
    left_out: Counter[str] | None = None,
    skip: str | None = None,
) -> list[Path]:
    """The images of a folder, sorted; hidden files and our own unfinished ones are left out.

    Args:
        folder: where to look.
        recursive: also the folders in folders.
        on_unreadable: told about folders in it that cannot be listed; they are errors if None.
        left_out: counts images of kinds that cannot be read, by suffix.
        skip: real path of a folder in it that is left out.

    Raises:
        ImageError: not a folder, or one that cannot be listed.
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
