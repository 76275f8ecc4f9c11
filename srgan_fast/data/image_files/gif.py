"""Detection of truncated GIF files, which libvips decodes without an error (GIF89a specification)."""

from typing import BinaryIO

_IMAGE, _EXTENSION, _TRAILER = 0x2C, 0x21, 0x3B


def is_cut(file: BinaryIO) -> bool:
    """Whether a file ends inside a block; a file that only lacks its last byte, the trailer, counts as complete."""
    file.seek(0)
    head = file.read(13)
    if len(head) < 13 or not _skip_colours(file, head[10]):
        return True
    while kind := file.read(1):
        if kind[0] == _TRAILER:
            return False
        if kind[0] == _EXTENSION:
            whole = len(file.read(1)) == 1
        elif kind[0] == _IMAGE:
            descriptor = file.read(9)
            whole = len(descriptor) == 9 and _skip_colours(file, descriptor[8]) and len(file.read(1)) == 1
        else:
            return False  # data after the images are not checked
        if not whole or not _skip_blocks(file):
            return True
    return False


def _skip_colours(file: BinaryIO, flags: int) -> bool:
    size = 3 << ((flags & 7) + 1) if flags & 0x80 else 0
    return len(file.read(size)) == size


def _skip_blocks(file: BinaryIO) -> bool:
    while length := file.read(1):
        if length[0] == 0:
            return True
        if len(file.read(length[0])) < length[0]:
            return False
    return False
