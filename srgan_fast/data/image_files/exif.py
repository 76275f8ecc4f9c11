"""Updates of EXIF blocks: orientation 1, a thumbnail turned like the image, and the new size.

Values are overwritten in place and the new thumbnail is appended, so that offsets inside maker notes remain valid.
"""

import struct
from collections.abc import Callable, Iterator

_PREFIX = b"Exif\0\0"
_SHORT, _LONG = 3, 4
_RATIONAL, _NO_UNIT, _CENTIMETRE = 5, 1, 3
_X_RESOLUTION, _Y_RESOLUTION, _UNIT = 0x011A, 0x011B, 0x0128
_ORIENTATION, _EXIF_IFD, _WIDTH, _HEIGHT = 0x0112, 0x8769, 0xA002, 0xA003
_THUMBNAIL_OFFSET, _THUMBNAIL_LENGTH = 0x0201, 0x0202


def without_prefix(data: bytes) -> bytes:
    """Removes the prefix `Exif` and two zero bytes, which JPEG and some encoders of other formats add."""
    return data[len(_PREFIX) :] if data.startswith(_PREFIX) else data


class _Block:
    """A TIFF block with its byte order."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
        if order is None or len(data) < 8:
            raise ValueError("no TIFF header")
        self.order = order
        (self.first,) = struct.unpack_from(f"{order}I", data, 4)

    def entries(self, offset: int) -> Iterator[tuple[int, int]]:
        """Tag and offset of every entry of a directory."""
        (count,) = struct.unpack_from(f"{self.order}H", self.data, offset)
        for i in range(count):
            place = offset + 2 + 12 * i
            (tag,) = struct.unpack_from(f"{self.order}H", self.data, place)
            yield tag, place

    def following(self, offset: int) -> int:
        """Offset of the next directory; 0 if there is none."""
        (count,) = struct.unpack_from(f"{self.order}H", self.data, offset)
        (result,) = struct.unpack_from(f"{self.order}I", self.data, offset + 2 + 12 * count)
        return int(result)

    def value(self, place: int) -> int:
        """The value of an entry that holds one short or long."""
        (kind,) = struct.unpack_from(f"{self.order}H", self.data, place + 2)
        (value,) = struct.unpack_from(f"{self.order}{'H' if kind == _SHORT else 'I'}", self.data, place + 8)
        return int(value)

    def ratio(self, place: int) -> float:
        """The value of an entry that holds one rational; 0 for other entries and undefined values."""
        (kind,) = struct.unpack_from(f"{self.order}H", self.data, place + 2)
        if kind != _RATIONAL:
            return 0.0
        (at,) = struct.unpack_from(f"{self.order}I", self.data, place + 8)
        above, below = struct.unpack_from(f"{self.order}II", self.data, at)
        return above / below if below else 0.0

    def set_value(self, place: int, value: int) -> None:
        """Writes the value of an entry; the type becomes long if the value does not fit into a short."""
        (kind,) = struct.unpack_from(f"{self.order}H", self.data, place + 2)
        if kind == _SHORT and value < 65536:
            struct.pack_into(f"{self.order}HH", self.data, place + 8, value, 0)
        else:
            struct.pack_into(f"{self.order}HII", self.data, place + 2, _LONG, 1, value)


def orientation(exif: bytes) -> int:
    """The orientation, 1..8; 1 if it is missing or damaged."""
    try:
        block = _Block(exif)
        place = dict(block.entries(block.first)).get(_ORIENTATION)
        value = 1 if place is None else block.value(place)
    except (struct.error, ValueError):
        return 1
    return value if 1 <= value <= 8 else 1


def density(exif: bytes) -> tuple[float, float] | None:
    """Horizontal and vertical resolution in dots per inch; None if it is missing or damaged."""
    try:
        block = _Block(exif)
        tags = dict(block.entries(block.first))
        if _X_RESOLUTION not in tags or _Y_RESOLUTION not in tags:
            return None
        unit = block.value(tags[_UNIT]) if _UNIT in tags else None  # inch by default
        if unit == _NO_UNIT:
            return None
        factor = 2.54 if unit == _CENTIMETRE else 1.0
        x, y = (factor * block.ratio(tags[tag]) for tag in (_X_RESOLUTION, _Y_RESOLUTION))
    except (struct.error, ValueError):
        return None
    return (x, y) if x > 0 and y > 0 else None


def upright(exif: bytes, turn_thumbnail: Callable[[bytes], bytes]) -> bytes | None:
    """Sets the orientation to 1 and turns the thumbnail.

    Args:
        exif: a TIFF block.
        turn_thumbnail: function that turns an encoded JPEG image.

    Returns:
        The new block, or None if it is damaged.
    """
    try:
        block = _Block(exif)
        for tag, place in block.entries(block.first):
            if tag == _ORIENTATION:
                block.set_value(place, 1)
        second = block.following(block.first)
        if second:
            tags = dict(block.entries(second))
            if _ORIENTATION in tags:
                block.set_value(tags[_ORIENTATION], 1)
            if _THUMBNAIL_OFFSET in tags and _THUMBNAIL_LENGTH in tags:
                begin = block.value(tags[_THUMBNAIL_OFFSET])
                turned = turn_thumbnail(bytes(block.data[begin : begin + block.value(tags[_THUMBNAIL_LENGTH])]))
                block.data += b"\0" * (len(block.data) % 2)
                block.set_value(tags[_THUMBNAIL_OFFSET], len(block.data))
                block.set_value(tags[_THUMBNAIL_LENGTH], len(turned))
                block.data += turned
    except (struct.error, ValueError):
        return None
    return bytes(block.data)


def with_size(exif: bytes, width: int, height: int) -> bytes:
    """Updates the image size in the tags that hold it; returns damaged blocks unchanged."""
    try:
        block = _Block(exif)
        pointer = dict(block.entries(block.first)).get(_EXIF_IFD)
        if pointer is None:
            return exif
        for tag, place in block.entries(block.value(pointer)):
            if tag in (_WIDTH, _HEIGHT):
                block.set_value(place, width if tag == _WIDTH else height)
    except (struct.error, ValueError):
        return exif
    return bytes(block.data)
