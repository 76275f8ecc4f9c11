"""Directories of TIFF and BigTIFF files: detection of pages, tiles and codecs, and headers for raw pixels."""

import io
import itertools
import struct
import sys
from collections.abc import Iterator
from typing import BinaryIO

_SUBFILE_TYPE, _COMPRESSION, _RESOLUTION_UNIT, _EXIF, _UNIT_NONE = 254, 259, 296, 34665, 1
_WIDTH, _HEIGHT, _BITS, _PHOTOMETRIC, _STRIP_OFFSETS, _SAMPLES, _STRIP_ROWS, _STRIP_BYTES, _EXTRA_SAMPLES = (
    *(256, 257, 258, 262, 273, 277, 278, 279, 338),
)
_TILE_WIDTH = 322
_UNCOMPRESSED, _GRAY, _RGB, _UNASSOCIATED_ALPHA = 1, 1, 2, 2
_SHORT, _LONG, _LONG8 = 3, 4, 16
_REDUCED, _MASK = 1, 4
_MAX_DIRECTORIES = 65535


def is_tiff(head: bytes) -> bool:
    """Whether a file with these first bytes is a TIFF."""
    return head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def _directories(file: BinaryIO) -> Iterator[tuple[str, bool, list[tuple[int, int]]]]:
    """For each directory: byte order, whether it is a BigTIFF, and tag and offset of the entries."""
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
    """Indices of the directories that are pages, and whether the first one has EXIF.

    Reduced copies and masks are not pages. A damaged chain of directories ends at the damage.
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


def is_tiled(file: BinaryIO) -> bool:
    """Whether any directory stores its pixels in tiles."""
    try:
        return any(tag == _TILE_WIDTH for _, _, entries in _directories(file) for tag, _ in entries)
    except struct.error:
        return False


def compressions(file: BinaryIO) -> list[int | None]:
    """TIFF's codec number of each directory; None for those without one. A damaged chain ends at the damage."""
    found: list[int | None] = []
    try:
        for order, big, entries in _directories(file):
            place = dict(entries).get(_COMPRESSION)
            found.append(None if place is None else _number(file, order, big, place))
    except struct.error:
        pass
    return found


def single_page(data: bytes, number: int) -> bytes:
    """The file with one directory only; its pixels stay where they are.

    Args:
        data: the file.
        number: index of the directory, as in `pages`.

    Raises:
        IndexError: there is no such directory.
    """
    file = io.BytesIO(data)
    order, big, entries = next(itertools.islice(_directories(file), number, None), ("<", False, []))
    if not entries:
        raise IndexError(f"no directory {number}")
    first = entries[0][1]
    code, entry, count, place = (f"{order}Q", 20, 8, 8) if big else (f"{order}I", 12, 2, 4)
    file.seek(place)
    file.write(struct.pack(code, first - count))
    file.seek(first + entry * len(entries))
    file.write(struct.pack(code, 0))
    return file.getvalue()


def remove_resolution(file: BinaryIO) -> None:
    """Sets the unit of the resolution, which the format requires, to none."""
    found = [
        (place + (12 if big else 8), struct.pack(f"{order}H", _UNIT_NONE))
        for order, big, tags in _directories(file)
        for tag, place in tags
        if tag == _RESOLUTION_UNIT
    ]
    for at, value in found:
        file.seek(at)
        file.write(value)


def head_of_raw(width: int, height: int, bands: int, bits: int, rows: int) -> bytes:
    """Header of an uncompressed BigTIFF, up to the pixels, in this machine's byte order.

    Args:
        width: number of columns.
        height: number of rows.
        bands: number of channels; 1 and 2 are gray, 3 and 4 RGB; 2 and 4 include alpha.
        bits: bits per sample.
        rows: rows per strip, fewer in the last one; strips are contiguous.
    """
    order, strips, line = "<" if sys.byteorder == "little" else ">", -(-height // rows), width * bands * bits // 8
    codes = {_SHORT: "H", _LONG: "I", _LONG8: "Q"}
    tags = [
        (_WIDTH, _LONG, [width]), (_HEIGHT, _LONG, [height]), (_BITS, _SHORT, [bits] * bands),
        (_COMPRESSION, _SHORT, [_UNCOMPRESSED]), (_PHOTOMETRIC, _SHORT, [_GRAY if bands < 3 else _RGB]),
        (_STRIP_OFFSETS, _LONG8, [0] * strips), (_SAMPLES, _SHORT, [bands]), (_STRIP_ROWS, _LONG, [rows]),
        (_STRIP_BYTES, _LONG8, [line * min(rows, height - rows * i) for i in range(strips)]),
    ]  # fmt: skip
    if bands in (2, 4):
        tags.append((_EXTRA_SAMPLES, _SHORT, [_UNASSOCIATED_ALPHA]))
    values = 16 + 8 + 20 * len(tags) + 8  # offset of the values that do not fit into their entries
    pixels = -(-(values + 16 * strips) // 16) * 16
    entries, body = b"", b""
    for tag, kind, numbers in tags:
        if tag == _STRIP_OFFSETS:
            numbers = [pixels + line * rows * i for i in range(strips)]  # noqa: PLW2901
        data = struct.pack(f"{order}{len(numbers)}{codes[kind]}", *numbers)
        entries += struct.pack(f"{order}HHQ", tag, kind, len(numbers))
        entries += data.ljust(8, b"\0") if len(data) <= 8 else struct.pack(f"{order}Q", values + len(body))
        body += b"" if len(data) <= 8 else data
    start = b"II" if order == "<" else b"MM"
    start += struct.pack(f"{order}HHHQ", 43, 8, 0, 16) + struct.pack(f"{order}Q", len(tags))
    return (start + entries + bytes(8) + body).ljust(pixels, b"\0")
