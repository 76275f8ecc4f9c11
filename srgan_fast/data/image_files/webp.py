"""Profile, EXIF and XMP of WebP files: rewrites the RIFF container around the encoded frames (RFC 9649)."""

import struct
from collections.abc import Iterator
from typing import BinaryIO

from srgan_fast.data.image_files.image import Metadata

_KNOWN = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP ")
_ICC, _ALPHA, _EXIF, _XMP, _ANIMATION = 0x20, 0x10, 0x08, 0x04, 0x02


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2


def _chunk(kind: bytes, data: bytes) -> bytes:
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def unknown_chunks(file: BinaryIO) -> list[str]:
    """Notes on the chunks of a file that the format does not define; their contents are skipped."""
    notes: list[str] = []
    at = 12
    while True:
        file.seek(at)
        head = file.read(8)
        if len(head) < 8:
            return notes
        kind, length = struct.unpack("<4sI", head)
        name = kind.decode("latin-1")
        note = f"{name.strip()} chunk"
        if kind not in _KNOWN and name.isascii() and name.isprintable() and note not in notes:
            notes.append(note)
        at += 8 + length + length % 2


def write_webp(encoded: bytes, metadata: Metadata, exif: bytes | None, size: tuple[int, int], alpha: bool) -> bytes:
    """Replaces the metadata of an encoded file.

    Args:
        encoded: a WebP file.
        metadata: metadata to write; only profile and XMP are supported.
        exif: EXIF block to write.
        size: width and height of the canvas.
        alpha: whether the image has alpha.
    """
    found = {kind: data for kind, data in _chunks(encoded) if kind == b"VP8X"}
    if not (metadata.icc or exif or metadata.xmp or found):
        return encoded
    flags = found[b"VP8X"][0] & (_ALPHA | _ANIMATION) if found else (_ALPHA if alpha else 0)
    flags |= (_ICC if metadata.icc else 0) | (_EXIF if exif else 0) | (_XMP if metadata.xmp else 0)
    width, height = (struct.pack("<I", side - 1)[:3] for side in size)
    parts = [b"WEBP", _chunk(b"VP8X", bytes([flags, 0, 0, 0]) + width + height)]
    if metadata.icc:
        parts.append(_chunk(b"ICCP", metadata.icc))
    parts += [_chunk(kind, data) for kind, data in _chunks(encoded) if kind not in (b"VP8X", b"ICCP", b"EXIF", b"XMP ")]
    if exif:
        parts.append(_chunk(b"EXIF", exif))
    if metadata.xmp:
        parts.append(_chunk(b"XMP ", metadata.xmp))
    body = b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
