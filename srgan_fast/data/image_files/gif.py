"""Blocks of GIF files (GIF89a specification): truncation, which libvips decodes without an error, and metadata."""

from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO

from srgan_fast.data.image_files.image import Metadata, Text

_IMAGE, _EXTENSION = 0x2C, 0x21
_CONTROL, _COMMENT, _APPLICATION, _PLAIN_TEXT = 0xF9, 0xFE, 0xFF, 0x01  # labels of extensions
_LOOPS = (b"NETSCAPE2.0", b"ANIMEXTS1.0")
_XMP, _ICC = b"XMP DataXMP", b"ICCRGBG1012"
_XMP_TRAILER = b"\x01\xff\xfe"  # beginning of the bytes after a packet that make it a series of blocks
_SQUARE = 49  # aspect ratio 64/64


def is_cut(file: BinaryIO) -> bool:
    """Whether a file ends inside a block; a file that only lacks its last byte, the trailer, counts as complete."""
    try:
        for _ in _extensions(file):
            pass
    except EOFError:
        return True
    return False


def read_gif(file: BinaryIO, metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Adds comments, XMP and profile.

    Returns:
        The metadata, and notes on contents that are dropped.
    """
    texts: list[Text] = []
    notes: list[str] = []

    def note(text: str) -> None:
        if text not in notes:
            notes.append(text)

    try:
        for label, blocks in _extensions(file):
            name, *data = blocks or [b""]
            if label == _COMMENT:
                texts.append(Text("Comment", b"".join(blocks).decode("utf-8", "replace")))
            elif label == _APPLICATION and name == _XMP:
                metadata = replace(metadata, xmp=metadata.xmp or _packet(data))
            elif label == _APPLICATION and name == _ICC:
                metadata = replace(metadata, icc=metadata.icc or b"".join(data) or None)
            elif label == _APPLICATION and name not in _LOOPS:
                note(f"data of {name.decode('ascii', 'replace')}")
            elif label == _PLAIN_TEXT:
                note("text drawn by the viewer")
            elif label not in (_CONTROL, _APPLICATION):
                note(f"extension {label:#x}")
    except EOFError:
        pass  # `is_cut` says so
    file.seek(12)
    ratio = (file.read(1) or b"\0")[0]
    if ratio not in (0, _SQUARE):
        note(f"shape of its pixels ({(ratio + 15) / 64:.3g}:1 instead of square)")
    return replace(metadata, texts=tuple(texts)), notes


def _packet(blocks: list[bytes]) -> bytes | None:
    """XMP, which is stored without lengths, but ends in such a way that it can be skipped as a series of blocks."""
    data = b"".join(bytes([len(block)]) + block for block in blocks)
    end = data.rfind(_XMP_TRAILER)
    return data[: end if end >= 0 else len(data)] or None


def _extensions(file: BinaryIO) -> Iterator[tuple[int, list[bytes]]]:
    """Label and blocks of the extensions, up to the trailer; data after the images are not looked at.

    Raises:
        EOFError: the file ends inside a block.
    """
    file.seek(0)
    _skip_colours(file, _read(file, 13)[10])
    while kind := file.read(1):
        if kind[0] == _EXTENSION:
            label = _read(file, 1)[0]
            yield label, list(_blocks(file))
        elif kind[0] == _IMAGE:
            _skip_colours(file, _read(file, 9)[8])
            _read(file, 1)  # size of codes
            for _ in _blocks(file):
                pass
        else:  # the trailer, or data after the images
            return


def _read(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise EOFError
    return data


def _skip_colours(file: BinaryIO, flags: int) -> None:
    if flags & 0x80:
        _read(file, 3 << ((flags & 7) + 1))


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    while length := _read(file, 1)[0]:
        yield _read(file, length)
