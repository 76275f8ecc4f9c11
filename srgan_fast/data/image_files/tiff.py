"""Directories of TIFF and BigTIFF files: which are pages, and which only smaller copies of one."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

_SUBFILE_TYPE, _COMPRESSION, _RESOLUTION_UNIT, _EXIF, _UNIT_NONE = 254, 259, 296, 34665, 1
_REDUCED, _MASK = 1, 4
_MAX_DIRECTORIES = 65535


def is_tiff(head: bytes) -> bool:
    """Whether a file that begins so is a TIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _directories(file: BinaryIO) -> Iterator[tuple[str, bool, list[tuple[int, int]]]]:
    """Byte order, whether 64 bits wide, and (tag, place) of the entries of each directory."""
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    big = head[2:4] in (b"+\0", b"\0+")
    offset = struct.unpack_from(f"{order}Q" if big else f"{order}I", head, 8 if big else 4)[0]
    count_format, entry, pointer = (f"{order}Q", 20, f"{order}Q") if big else (f"{order}H", 12, f"{order}I")
    seen: set[int] = set()
    while offset and offset not in seen and len(seen) < _MAX_DIRECTORIES:
        seen.add(offset)
        file.seek(offset)
        start = offset + struct.calcsize(count_format)
        (count,) = struct.unpack(count_format, file.read(struct.calcsize(count_format)))
        if count > 65535:
            return
        body = file.read(count * entry + struct.calcsize(pointer))
        tags = [(struct.unpack_from(f"{order}H", body, i * entry)[0], start + i * entry) for i in range(count)]
        (offset,) = struct.unpack_from(pointer, body, count * entry)
        yield order, big, tags


def _number(file: BinaryIO, order: str, big: bool, place: int) -> int:
    file.seek(place + 2)
    entry = file.read(18 if big else 10)
    kind = struct.unpack_from(f"{order}H", entry, 0)[0]
    code = {1: "B", 3: "H", 4: "I", 16: "Q"}.get(kind, "I")
    return int(struct.unpack_from(f"{order}{code}", entry, 10 if big else 6)[0])


def pages(file: BinaryIO) -> tuple[list[int], bool]:
    """Numbers of the directories that are pages, and whether the first has EXIF.

    Smaller copies of a page and masks are none. A damaged chain ends where it is damaged.
    """
    found: list[int] = []
    has_exif = False
    try:
        for number, (order, big, entries) in enumerate(_directories(file)):
            tags = dict(entries)
            kind = _number(file, order, big, tags[_SUBFILE_TYPE]) if _SUBFILE_TYPE in tags else 0
            if number == 0 or not kind & (_REDUCED | _MASK):
                found.append(number)
            has_exif |= number == 0 and _EXIF in tags
    except struct.error:
        pass
    return found or [0], has_exif


def compression(file: BinaryIO) -> int | None:
    """Number of the codec of the first directory, None if there is none."""
    try:
        for order, big, entries in _directories(file):
            place = dict(entries).get(_COMPRESSION)
            return None if place is None else _number(file, order, big, place)
    except struct.error:
        pass
    return None


def without_resolution(encoded: bytes, file: BinaryIO) -> bytes:
    """The file saying that its resolution, which the format demands, has no unit."""
    result = bytearray(encoded)
    for order, big, tags in _directories(file):
        for tag, place in tags:
            if tag == _RESOLUTION_UNIT:
                struct.pack_into(f"{order}H", result, place + (12 if big else 8), _UNIT_NONE)
    return bytes(result)
