"""Reading and writing JPEG segments: density, comments, EXIF, XMP, IPTC and ICC profiles (ITU-T T.81, T.871)."""

import struct
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from srgan_fast.data.image_files import exif as exif_block
from srgan_fast.data.image_files.image import Metadata, Text

_SOI, _SOS, _EOI, _COM = 0xD8, 0xDA, 0xD9, 0xFE
_APP0, _APP1, _APP2, _APP13, _APP15 = 0xE0, 0xE1, 0xE2, 0xED, 0xEF
_EXIF, _XMP, _ICC = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_PHOTOSHOP, _IPTC_RESOURCE, _RESOLUTION_RESOURCE = b"Photoshop 3.0\0", 0x0404, 0x03ED
# Beginnings of segments that are read here or by libvips, or that tell an encoder's settings.
_KNOWN = (b"JFIF\0", _EXIF, _XMP, _ICC, _PHOTOSHOP, b"Adobe", b"Ducky")
MAX_SEGMENT = 65533  # bytes of content; the length field takes two of 65535


def _segments(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Marker and content of each segment before the pixels."""
    file.seek(2)
    while file.read(1) == b"\xff":
        while (marker := file.read(1)) == b"\xff":
            pass  # padding
        if not marker or marker[0] in (_SOS, _EOI):
            return
        length = file.read(2)
        if len(length) < 2:
            return
        yield marker[0], file.read(max(0, struct.unpack(">H", length)[0] - 2))


def read_jpeg(file: BinaryIO, metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Adds density, comments, and for Ultra HDR files the metadata that libvips does not report.

    Returns:
        The metadata, and notes on contents that are dropped.
    """
    texts: list[Text] = []
    notes: list[str] = []
    by_photoshop: tuple[float, float] | None = None
    for marker, data in _segments(file):
        if marker == _APP0 and data.startswith(b"JFIF\0") and len(data) >= 12:
            unit, x, y = struct.unpack_from(">BHH", data, 7)
            if unit in (1, 2) and x and y:
                factor = 1.0 if unit == 1 else 2.54
                metadata = replace(metadata, density=(x * factor, y * factor))
            elif unit == 0 and x and y and x != y:
                notes.append(f"shape of its pixels ({y}:{x} instead of square)")
        elif marker == _COM:
            texts.append(Text("Comment", _decoded(data.rstrip(b"\0"))))
        elif marker == _APP1 and data.startswith(_XMP) and metadata.xmp is None:
            metadata = replace(metadata, xmp=data[len(_XMP) :])
        elif marker == _APP1 and data.startswith(_MORE_XMP):
            notes += [] if "the extension of its XMP" in notes else ["the extension of its XMP"]
        elif marker == _APP13 and data.startswith(_PHOTOSHOP):
            metadata = replace(metadata, iptc=metadata.iptc or iptc_of_photoshop(data))
            by_photoshop = by_photoshop or density_of_photoshop(data)
        elif marker == _APP2 and data.startswith(b"MPF\0"):
            notes.append("further images in the file (MPF)")
        elif _APP0 <= marker <= _APP15 and not data.startswith(_KNOWN):
            name = "content credentials (APP11 segment)" if data.startswith(b"JP") else f"APP{marker - _APP0} segment"
            notes += [] if name in notes else [name]
    # The resolution in EXIF stays there; Photoshop's own is the last that readers look at.
    if metadata.density is None and not (metadata.exif and exif_block.density(metadata.exif)):
        metadata = replace(metadata, density=by_photoshop)
    return replace(metadata, texts=tuple(texts)), notes


def _decoded(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


def iptc_of_photoshop(data: bytes) -> bytes | None:
    """The IPTC records in Photoshop image resources (content of an APP13 segment); None if there are none."""
    return dict(_resources(data)).get(_IPTC_RESOURCE)


def density_of_photoshop(data: bytes) -> tuple[float, float] | None:
    """The resolution in dots per inch in Photoshop image resources; None if there is none."""
    found = dict(_resources(data)).get(_RESOLUTION_RESOURCE, b"")
    if len(found) < 12:
        return None
    # Numbers of 16.16 bits, always per inch: the units beside them are those of Photoshop's dialogue.
    x, y = (value / 65536 for value in struct.unpack(">I4xI", found[:12]))
    return (x, y) if x and y else None


def _resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and content of Photoshop image resources."""
    at = len(_PHOTOSHOP) if data.startswith(_PHOTOSHOP) else 0
    while data[at : at + 4] == b"8BIM" and at + 7 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        name = data[at + 6] + 1
        at += 6 + name + name % 2
        if at + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, at)
        at += 4
        yield number, data[at : at + length]
        at += length + length % 2


def _photoshop_of_iptc(iptc: bytes) -> bytes:
    resource = b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + iptc
    return _PHOTOSHOP + resource + b"\0" * (len(iptc) % 2)


def write_jpeg(encoded: bytes, metadata: Metadata, exif: bytes | None) -> tuple[bytes, list[str]]:
    """Replaces the metadata of an encoded file.

    Args:
        encoded: a JPEG file; its comments and application segments, except Adobe's, are dropped.
        metadata: metadata to write.
        exif: EXIF block to write instead of that of `metadata`.

    Returns:
        The file, and notes on metadata that exceed a segment.
    """
    density = metadata.density or (1, 1)
    x, y = (min(max(round(value), 1), 65535) for value in density)
    jfif = struct.pack(">5sHBHHBB", b"JFIF\0", 0x0102, 1 if metadata.density else 0, x, y, 0, 0)
    found: list[tuple[int, bytes, str]] = [(_APP0, jfif, "density")]
    if exif:
        found.append((_APP1, _EXIF + exif, "EXIF"))
    if metadata.xmp:
        found.append((_APP1, _XMP + metadata.xmp, "XMP"))
    if metadata.icc:
        size = MAX_SEGMENT - len(_ICC) - 2
        pieces = [metadata.icc[i : i + size] for i in range(0, len(metadata.icc), size)]
        found += [(_APP2, _ICC + bytes([i + 1, len(pieces)]) + piece, "ICC") for i, piece in enumerate(pieces)]
    if metadata.iptc:
        found.append((_APP13, _photoshop_of_iptc(metadata.iptc), "IPTC"))
    for text in metadata.texts:
        line = text.text if text.keyword == "Comment" else f"{text.keyword}: {text.text}"
        found.append((_COM, line.encode(), f"comment {text.keyword!r}"))
    parts = [b"\xff\xd8"]
    parts += [struct.pack(">BBH", 0xFF, m, len(data) + 2) + data for m, data, _ in found if len(data) <= MAX_SEGMENT]
    parts.append(_without_metadata(encoded))
    return b"".join(parts), [f"{name} of {len(data)} bytes" for _, data, name in found if len(data) > MAX_SEGMENT]


def has_metadata(data: bytes) -> bool:
    """Whether the beginning of a file contains all metadata segments and the start of the next segment."""
    at = 2
    while at + 4 <= len(data):
        if not (_APP0 <= data[at + 1] <= _APP15 or data[at + 1] == _COM):
            return True
        at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    return False


def _without_metadata(encoded: bytes) -> bytes:
    """The file without metadata segments; Adobe's, which defines the colour transform, is preserved."""
    at, kept = 2, []
    while encoded[at] == 0xFF and (_APP0 <= encoded[at + 1] <= _APP15 or encoded[at + 1] == _COM):
        end = at + 2 + struct.unpack_from(">H", encoded, at + 2)[0]
        if encoded[at + 4 : at + 9] == b"Adobe":
            kept.append(encoded[at:end])
        at = end
    return b"".join(kept) + encoded[at:]
