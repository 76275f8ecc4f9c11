"""Boxes of ISO base media files (ISO/IEC 14496-12), and the colour of AVIF and HEIC images in them."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from srgan_fast.data.image_files.image import Metadata

_MAX_FILE = 1 << 62  # bytes; seeking further is an error of its own
_MAX_META = 1 << 24  # limit in bytes of the box of properties
_FULL = 4  # bytes of version and flags
_SRGB_PRIMARIES, _SRGB_CURVES = (1, 2), (1, 2, 6, 13)
_PNG_LIGHT = 10_000  # PNG's units of luminance in a candela per square metre


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the boxes in the content of a box; the last one may be incomplete."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if length == 1:
            if at + 16 > len(data):
                return
            (length,) = struct.unpack_from(">Q", data, at + 8)
            head = 16
        end = len(data) if length == 0 else at + length
        if end < at + head:
            return
        yield kind, data[at + head : end]
        at = end


def file_boxes(file: BinaryIO) -> Iterator[tuple[bytes, int, int]]:
    """Type, offset of the content, and length of the content (-1: to the end of the file) of a file's boxes."""
    at = 0
    while True:
        file.seek(at)
        head = file.read(16)
        if len(head) < 8:
            return
        length, kind = struct.unpack_from(">I4s", head)
        size = 8
        if length == 1 and len(head) == 16:
            (length,) = struct.unpack_from(">Q", head, 8)
            size = 16
        if (length and length < size) or at + length > _MAX_FILE:
            return
        yield kind, at + size, length - size if length else -1
        if not length:
            return
        at += length


def read_colour(file: BinaryIO, metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Adds the colour that the primary image of a file tells in numbers, and HDR metadata.

    Returns:
        The metadata, and notes on properties that are dropped.
    """
    notes: list[str] = []
    try:
        properties = _properties(file)
        for kind, data in properties:
            if kind == b"colr" and data[:4] == b"nclx" and metadata.icc is None:
                metadata = replace(metadata, cicp=cicp(*struct.unpack_from(">HH", data, 4)))
            elif kind == b"mdcv":
                metadata = replace(metadata, mastering_display=_mastering_display(data))
            elif kind == b"clli":
                levels = (value * _PNG_LIGHT for value in struct.unpack_from(">HH", data))
                metadata = replace(metadata, light_levels=struct.pack(">II", *levels))
            elif kind == b"pasp":
                x, y = struct.unpack_from(">II", data)
                if x != y:
                    notes.append(f"shape of its pixels ({x}:{y} instead of square)")
    except (struct.error, IndexError):
        notes.append("colour in numbers (it is damaged)")
    return metadata, notes


def cicp(primaries: int, transfer: int) -> tuple[int, int, int, int] | None:
    """Content of PNG's cICP chunk for an image converted to RGB of the full range; None if it is sRGB's or unknown.

    Args:
        primaries: primaries, numbered as in ITU-T H.273.
        transfer: transfer function, likewise.
    """
    if primaries in _SRGB_PRIMARIES and transfer in _SRGB_CURVES:
        return None
    return primaries & 255, transfer & 255, 0, 1


def _mastering_display(data: bytes) -> bytes:
    """Content of PNG's mDCV chunk: red before green and blue, where the box has green, blue, red."""
    values = struct.unpack_from(">8HII", data)
    return struct.pack(">8HII", *values[4:6], *values[:4], *values[6:])


def _properties(file: BinaryIO) -> list[tuple[bytes, bytes]]:
    """Properties of the primary item, as type and content."""
    for kind, at, length in file_boxes(file):
        if kind == b"meta":
            file.seek(at + _FULL)
            meta = dict(boxes(file.read(min(length - _FULL, _MAX_META) if length >= 0 else _MAX_META)))
            break
    else:
        return []
    if b"pitm" not in meta or b"iprp" not in meta:
        return []
    wide = meta[b"pitm"][0] > 0
    (primary,) = struct.unpack_from(">I" if wide else ">H", meta[b"pitm"], _FULL)
    parts = list(boxes(meta[b"iprp"]))
    found = [entry for kind, data in parts if kind == b"ipco" for entry in boxes(data)]
    numbers = [number for kind, data in parts if kind == b"ipma" for number in _associated(data, primary)]
    return [found[number - 1] for number in numbers if 1 <= number <= len(found)]


def _associated(data: bytes, item: int) -> list[int]:
    """Numbers of an item's properties, counted from 1, in a box of associations."""
    item_code = "I" if data[0] > 0 else "H"
    code, mask = ("H", 0x7FFF) if data[3] & 1 else ("B", 0x7F)
    (count,) = struct.unpack_from(">I", data, _FULL)
    at, found = _FULL + 4, list[int]()
    for _ in range(count):
        number, several = struct.unpack_from(f">{item_code}B", data, at)
        at += struct.calcsize(f">{item_code}B")
        values = struct.unpack_from(f">{several}{code}", data, at)
        at += struct.calcsize(f">{several}{code}")
        found += [value & mask for value in values] if number == item else []
    return found
