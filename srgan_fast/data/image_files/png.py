"""Reading and writing metadata chunks of PNG files (PNG specification, third edition)."""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import BinaryIO, cast

from srgan_fast.data.image_files import exif, jpeg
from srgan_fast.data.image_files.image import Chromaticities, Metadata, Text

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_XMP = "XML:com.adobe.xmp"
_RAW, _XMP_IN_JPEG = "Raw profile type ", b"http://ns.adobe.com/xap/1.0/\0"
_RAW_KINDS = ("exif", "app1", "xmp", "iptc", "8bim", "icc", "icm")
_INCH = 0.0254
_MAX_TEXT = 1 << 24  # limit in bytes of a decompressed text
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_READ = (*_TEXTS, b"pHYs", b"eXIf", b"gAMA", b"cHRM", b"cICP", b"sRGB", b"mDCV", b"cLLI")
# Chunks of pixels, of the file's structure (Apple's iDOT holds offsets of pixels), and iCCP, which libvips reads.
_STRUCTURE = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT", b"iDOT", b"iCCP")
_MEANINGS = {
    b"bKGD": "background",
    b"caBX": "content credentials",
    b"dSIG": "signature",
    b"hIST": "histogram",
    b"oFFs": "position on a page",
    b"pCAL": "physical values of samples",
    b"sBIT": "significant bits",
    b"sCAL": "physical size of the subject",
    b"sPLT": "suggested palette",
    b"sTER": "stereo pair",
    b"tIME": "time of last modification",
}


def chunk(kind: bytes, data: bytes) -> bytes:
    """Encodes a chunk with its length and checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of every chunk of a complete file."""
    at = len(SIGNATURE)
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def _metadata_chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Type of every chunk before the end, with the content of those in `_READ`; contents of others are skipped."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND" or not kind.isalpha():  # the latter is damage
            return
        if kind in _READ:
            yield kind, file.read(length)
            file.seek(4, 1)
        else:
            yield kind, b""
            file.seek(length + 4, 1)


def read_png(file: BinaryIO, metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Adds density, texts, colour chunks, and EXIF in places that libvips does not read.

    Returns:
        The metadata, and notes on chunks that are dropped.
    """
    texts: list[Text] = []
    notes: list[str] = []
    dropped: list[bytes] = []
    for kind, data in _metadata_chunks(file):
        if kind == b"iCCP" and metadata.icc is None:
            notes.append("profile (it is damaged)")
        if kind not in _READ:
            dropped += [kind] if kind not in _STRUCTURE and kind not in dropped else []
            continue
        try:
            if kind in _TEXTS:
                metadata = _with_text(metadata, _text(kind, data), texts)
            elif kind == b"pHYs":
                metadata = _with_density(metadata, data, notes)
            elif kind == b"eXIf":
                metadata = replace(metadata, exif=metadata.exif or exif.without_prefix(data) or None)
            else:
                metadata = _with_colour(metadata, kind, data)
        except (struct.error, ValueError, IndexError, zlib.error):
            # Damaged metadata do not make the image invalid.
            note = f"{kind.decode()} chunk (it is damaged)"
            notes += [note] if note not in notes else []
    notes += [_dropped(kind) for kind in dropped]
    return replace(metadata, texts=tuple(texts)), notes


def _with_density(metadata: Metadata, data: bytes, notes: list[str]) -> Metadata:
    x, y, unit = struct.unpack(">IIB", data)
    if unit == 1 and x and y:
        return replace(metadata, density=(x * _INCH, y * _INCH))
    if unit == 0 and x and y and x != y:
        notes.append(f"shape of its pixels ({y}:{x} instead of square)")
    return metadata


def _with_colour(metadata: Metadata, kind: bytes, data: bytes) -> Metadata:
    if kind == b"gAMA":
        return replace(metadata, gamma=struct.unpack(">I", data)[0] / 1e5 or None)
    if kind == b"cHRM":
        values = tuple(value / 1e5 for value in struct.unpack(">8I", data))
        return replace(metadata, chromaticities=cast(Chromaticities, values))
    if kind == b"cICP":
        return replace(metadata, cicp=struct.unpack(">4B", data))
    if kind == b"sRGB":
        return replace(metadata, srgb_intent=data[0])
    if kind == b"mDCV":
        struct.unpack(">8HII", data)
        return replace(metadata, mastering_display=data)
    struct.unpack(">II", data)
    return replace(metadata, light_levels=data)


def _with_text(metadata: Metadata, text: Text, texts: list[Text]) -> Metadata:
    """Adds a text to the metadata if it is one of the kinds with a place of their own, else to `texts`."""
    if text.keyword == _XMP:
        return replace(metadata, xmp=metadata.xmp or text.text.encode())
    if text.keyword.startswith(_RAW) and text.keyword.removeprefix(_RAW).lower() in _RAW_KINDS:
        return _with_raw(metadata, text)
    texts.append(text)
    return metadata


def _dropped(kind: bytes) -> str:
    name = f"{kind.decode()} chunk"
    return f"{_MEANINGS[kind]} ({name})" if kind in _MEANINGS else name


def orientation(file: BinaryIO) -> int:
    """EXIF orientation where libvips does not look: in ImageMagick's texts, and in EXIF after the pixels; 1 if none."""
    metadata, _ = read_png(file, Metadata())
    return exif.orientation(metadata.exif) if metadata.exif else 1


def _with_raw(metadata: Metadata, text: Text) -> Metadata:
    """Adds what ImageMagick and others store in hexadecimal digits; a chunk of its own comes first.

    Raises:
        ValueError: the text is damaged.
    """
    kind = text.keyword.removeprefix(_RAW).lower()
    data = bytes.fromhex("".join(text.text.split()[2:]))  # after the kind and the length
    if kind in ("exif", "app1") and not data.startswith(_XMP_IN_JPEG):
        return replace(metadata, exif=metadata.exif or exif.without_prefix(data) or None)
    if kind in ("xmp", "app1"):
        return replace(metadata, xmp=metadata.xmp or data.removeprefix(_XMP_IN_JPEG) or None)
    if kind in ("iptc", "8bim"):
        density = metadata.density or jpeg.density_of_photoshop(data)
        return replace(metadata, iptc=metadata.iptc or jpeg.iptc_of_photoshop(data), density=density)
    return replace(metadata, icc=metadata.icc or data or None)


def _text(kind: bytes, data: bytes) -> Text:
    keyword, _, rest = data.partition(b"\0")
    name = keyword.decode("latin-1")
    if kind == b"tEXt":
        return Text(name, rest.decode("latin-1"))
    if kind == b"zTXt":
        return Text(name, _inflate(rest[1:]).decode("latin-1"))
    packed, rest = rest[0], rest[2:]
    _, _, rest = rest.partition(b"\0")  # language tag
    _, _, rest = rest.partition(b"\0")  # translated keyword
    return Text(name, (_inflate(rest) if packed else rest).decode())


def _inflate(data: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    text = unpacker.decompress(data, _MAX_TEXT)
    if unpacker.unconsumed_tail:
        raise ValueError("a text of more than 16 MB")
    return text


def write_png(encoded: bytes, metadata: Metadata, block: bytes | None) -> bytes:
    """Replaces the metadata of an encoded file.

    Args:
        encoded: a PNG file; its ancillary chunks, except transparency and animation, are dropped.
        metadata: metadata to write, except EXIF and IPTC.
        block: EXIF block to write.
    """
    head = _colour_chunks(metadata)
    if metadata.density:
        x, y = (min(round(value / _INCH), 2**31 - 1) for value in metadata.density)
        head.append(chunk(b"pHYs", struct.pack(">IIB", x, y, 1)))
    if block:
        head.append(chunk(b"eXIf", block))
    if metadata.xmp:
        head.append(chunk(b"iTXt", _XMP.encode() + b"\0\0\0\0\0" + metadata.xmp))
    head += [_text_chunk(text) for text in metadata.texts]
    parts = [SIGNATURE]
    for kind, data in chunks(encoded):
        if kind == b"IHDR":
            parts += [chunk(kind, data), *head]
        elif kind in (b"PLTE", b"tRNS", b"IDAT", b"IEND", b"acTL", b"fcTL", b"fdAT"):
            parts.append(chunk(kind, data))
    return b"".join(parts)


def _colour_chunks(metadata: Metadata) -> list[bytes]:
    head: list[bytes] = []
    if metadata.cicp:
        head.append(chunk(b"cICP", bytes(metadata.cicp)))
    if metadata.mastering_display:
        head.append(chunk(b"mDCV", metadata.mastering_display))
    if metadata.light_levels:
        head.append(chunk(b"cLLI", metadata.light_levels))
    if metadata.icc:
        head.append(chunk(b"iCCP", b"icc\0\0" + zlib.compress(metadata.icc, 9)))
    elif metadata.srgb_intent is not None:
        head.append(chunk(b"sRGB", bytes([metadata.srgb_intent])))
    if metadata.gamma:
        head.append(chunk(b"gAMA", struct.pack(">I", round(metadata.gamma * 1e5))))
    if metadata.chromaticities:
        head.append(chunk(b"cHRM", struct.pack(">8I", *(round(v * 1e5) for v in metadata.chromaticities))))
    return head


def start_of_pixels(data: bytes) -> int | None:
    """Offset of the first chunk of pixels; None if the given beginning of a file does not include it."""
    at = len(SIGNATURE)
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        if kind == b"IDAT":
            return at
        at += 12 + length
    return None


def _text_chunk(text: Text) -> bytes:
    keyword = text.keyword.encode("latin-1", "replace")[:79] or b"Comment"
    try:
        return chunk(b"tEXt", keyword + b"\0" + text.text.encode("latin-1"))
    except UnicodeEncodeError:
        return chunk(b"iTXt", keyword + b"\0\0\0\0\0" + text.text.encode())


def frame_count(file: BinaryIO) -> int:
    """Number of frames from the acTL chunk, which precedes the pixels; 1 if there is none."""
    file.seek(len(SIGNATURE))
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"acTL" and length == 8:
            return max(1, int(struct.unpack(">I", file.read(4))[0]))
        if kind in (b"IDAT", b"IEND"):
            break
        file.seek(length + 4, 1)
    return 1
