"""Headers of JPEG XL files: size, colour and metadata, which imagecodecs does not report (ISO/IEC 18181-1 and -2).

Only the fields before the ICC profile are read; the profile itself is entropy-coded. Names are those of the standard.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO

from srgan_fast.data.image_files import boxes, exif
from srgan_fast.data.image_files.image import Chromaticities, Metadata

_CODESTREAM, _CONTAINER = b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"
_HEAD = 1 << 16  # bytes of the codestream that are read; the fields need at most some names of extra channels
_MAX_TEXT = 1 << 26  # limit in bytes of EXIF and XMP
_DROPPED = {b"jumb": "content credentials", b"jhgm": "gain map (HDR)"}
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_ALPHA, _SPOT_COLOUR, _BLACK, _CFA = 0, 2, 4, 5  # types of extra channels
_RGB, _GRAY, _XYB = 0, 1, 2  # colour spaces
_CUSTOM = 2  # of white points and primaries
_WHITES = {1: (0.3127, 0.3290), 10: (1 / 3, 1 / 3), 11: (0.3140, 0.3510)}
_PRIMARIES = {
    1: (0.640, 0.330, 0.300, 0.600, 0.150, 0.060),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
# Numbers of ITU-T H.273 for primaries with a white point.
_CICP_PRIMARIES = {(1, 1): 1, (9, 1): 9, (11, 1): 12, (11, 11): 11}
_UNKNOWN, _LINEAR, _SRGB = 2, 8, 13  # transfer functions, numbered as in ITU-T H.273


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """What a codestream's header tells.

    Attributes:
        height: number of rows, upright.
        width: number of columns, upright.
        animated: whether the file is an animation.
        bits: bits per sample; None for floating point.
        premultiplied: whether colours are multiplied with alpha.
        black: whether the image has a black channel (CMYK).
        others: number of extra channels besides the first alpha.
        has_icc: whether an ICC profile tells the colour.
        xyb: whether pixels are stored in XYB, which libjxl decodes to linear sRGB if a profile tells the colour.
        metadata: colour in numbers.
        notes: colour that `metadata` cannot hold.
    """

    height: int
    width: int
    animated: bool
    bits: int | None
    premultiplied: bool
    black: bool
    others: int
    has_icc: bool
    xyb: bool
    metadata: Metadata
    notes: tuple[str, ...]


class _Bits:
    """Reads fields of a codestream, least significant bit first."""

    def __init__(self, data: bytes) -> None:
        self.value, self.size, self.at = int.from_bytes(data, "little"), 8 * len(data), 0

    def u(self, count: int) -> int:
        if self.at + count > self.size:
            raise ValueError("its header is cut off")
        result = (self.value >> self.at) & ((1 << count) - 1)
        self.at += count
        return result

    def bool(self) -> bool:
        return bool(self.u(1))

    def u32(self, *choices: tuple[int, int]) -> int:
        """One of four choices of an offset and a number of bits."""
        offset, count = choices[self.u(2)]
        return offset + self.u(count)

    def enum(self) -> int:
        return self.u32((0, 0), (1, 0), (2, 4), (18, 6))


def is_jxl(head: bytes) -> bool:
    """Whether a file with these first bytes is a JPEG XL image."""
    return head.startswith((_CODESTREAM, _CONTAINER))


def read_header(file: BinaryIO) -> JxlHeader:
    """Reads the header of a file.

    Raises:
        ValueError: it is damaged, or not a JPEG XL image.
    """
    head = _codestream(file)
    if not head.startswith(_CODESTREAM):
        raise ValueError("it has no codestream")
    bits = _Bits(head[2:])
    height, width = _size(bits)
    orientation, animated = 1, False
    depth: int | None = 8
    alphas: list[bool] = []
    kinds: list[int] = []
    has_icc, xyb, metadata, notes = False, True, Metadata(), list[str]()
    if not bits.bool():  # all_default
        if bits.bool():  # extra_fields
            orientation, animated = _extra_fields(bits)
        depth = _depth(bits)
        bits.u(1)  # modular_16bit_buffers
        for _ in range(bits.u32((0, 0), (1, 0), (2, 4), (1, 12))):
            kind, multiplied = _extra_channel(bits)
            kinds.append(kind)
            alphas += [multiplied] if kind == _ALPHA else []
        xyb = bits.bool()
        has_icc, metadata, notes = _colour(bits)
    if orientation >= 5:
        height, width = width, height
    return JxlHeader(
        height, width, animated, depth, bool(alphas) and alphas[0], _BLACK in kinds, len(kinds) - (1 if alphas else 0),
        has_icc, xyb, metadata, tuple(notes),
    )  # fmt: skip


def _codestream(file: BinaryIO) -> bytes:
    """The beginning of the codestream."""
    file.seek(0)
    if not (head := file.read(12)).startswith(_CONTAINER):
        file.seek(len(head))
        return head + file.read(_HEAD)
    parts = b""
    for kind, at, length in boxes.file_boxes(file):
        skip = {b"jxlc": 0, b"jxlp": 4}.get(kind)  # a part begins with its number
        if skip is not None and len(parts) < _HEAD:
            file.seek(at + skip)
            parts += file.read(min(length - skip, _HEAD) if length >= skip else _HEAD)
    return parts


def _size(bits: _Bits) -> tuple[int, int]:
    small = bits.bool()

    def side() -> int:
        return 8 * (1 + bits.u(5)) if small else bits.u32((1, 9), (1, 13), (1, 18), (1, 30))

    height = side()
    ratio = bits.u(3)
    if ratio == 0:
        return height, side()
    above, below = _RATIOS[ratio - 1]
    return height, height * above // below


def _preview(bits: _Bits) -> None:
    small = bits.bool()

    def side() -> None:
        if small:
            bits.u32((16, 0), (32, 0), (1, 5), (33, 9))
        else:
            bits.u32((1, 6), (65, 8), (321, 10), (1345, 12))

    side()
    if bits.u(3) == 0:
        side()


def _extra_fields(bits: _Bits) -> tuple[int, bool]:
    """Orientation, and whether the image is an animation."""
    orientation = 1 + bits.u(3)
    if bits.bool():
        _size(bits)  # intrinsic size
    if bits.bool():
        _preview(bits)
    animated = bits.bool()
    if animated:
        bits.u32((100, 0), (1000, 0), (1, 10), (1, 30))  # ticks per second
        bits.u32((1, 0), (1001, 0), (1, 8), (1, 10))
        bits.u32((0, 0), (0, 3), (0, 16), (0, 32))  # loops
        bits.u(1)  # time codes
    return orientation, animated


def _depth(bits: _Bits) -> int | None:
    """Bits per sample; None for floating point."""
    if bits.bool():
        bits.u32((32, 0), (16, 0), (24, 0), (1, 6))
        bits.u(4)
        return None
    return bits.u32((8, 0), (10, 0), (12, 0), (1, 6))


def _extra_channel(bits: _Bits) -> tuple[int, bool]:
    """Type of an extra channel, and whether it is alpha with which colours are multiplied."""
    if bits.bool():  # all_default
        return _ALPHA, False
    kind = bits.enum()
    _depth(bits)
    bits.u32((0, 0), (3, 0), (4, 0), (1, 3))  # subsampling
    bits.u(8 * bits.u32((0, 0), (0, 4), (16, 5), (48, 10)))  # name
    multiplied = kind == _ALPHA and bits.bool()
    if kind == _SPOT_COLOUR:
        bits.u(64)
    elif kind == _CFA:
        bits.u32((1, 0), (0, 2), (3, 4), (19, 8))
    return kind, multiplied


def _point(bits: _Bits) -> tuple[float, float]:
    """Chromaticity of a custom white point or primary."""
    packed = [bits.u32((0, 19), (524288, 19), (1048576, 20), (2097152, 21)) for _ in "xy"]
    x, y = ((value >> 1 if value % 2 == 0 else -(value + 1 >> 1)) / 1e6 for value in packed)
    return x, y


def _colour(bits: _Bits) -> tuple[bool, Metadata, list[str]]:
    """Whether an ICC profile follows; else colour in numbers, and a note if metadata cannot hold it."""
    if bits.bool():  # all_default: sRGB
        return False, Metadata(), []
    has_icc, space = bits.bool(), bits.enum()
    if has_icc:
        return True, Metadata(), []
    white, primaries = 1, 1
    white_point, points = _WHITES[1], _PRIMARIES[1]
    if space != _XYB:
        white = bits.enum()
        white_point = _point(bits) if white == _CUSTOM else _WHITES.get(white, white_point)
        if space != _GRAY:
            primaries = bits.enum()
            if primaries == _CUSTOM:
                points = (*_point(bits), *_point(bits), *_point(bits))
            else:
                points = _PRIMARIES.get(primaries, points)
    gamma: float | None = None
    transfer = _UNKNOWN
    if space != _XYB and bits.bool():
        gamma = bits.u(24) / 1e7
    else:
        transfer = bits.enum()
    if space not in (_RGB, _GRAY):
        return False, Metadata(), ["colour space of the JPEG XL, which is not RGB"]
    number = _CICP_PRIMARIES.get((primaries, white))
    if number is not None and gamma is None:
        return False, Metadata(cicp=boxes.cicp(number, transfer)), []
    if gamma is None and transfer == _LINEAR:
        gamma = 1.0
    chromaticities: Chromaticities = (*white_point, *points)
    metadata = Metadata(gamma=gamma or None, chromaticities=None if number == 1 else chromaticities)
    known = gamma is not None or transfer in (1, _UNKNOWN, _SRGB)
    return False, metadata, [] if known else [f"transfer curve {transfer} of the JPEG XL, with primaries of its own"]


def read_boxes(file: BinaryIO, metadata: Metadata) -> tuple[Metadata, list[str]]:
    """Adds EXIF and XMP of a container.

    Returns:
        The metadata, and notes on contents that are dropped.
    """
    notes: list[str] = []
    for kind, data in _metadata_boxes(file):
        if kind == b"Exif" and len(data) > 4:
            (offset,) = struct.unpack_from(">I", data)
            block = exif.without_prefix(data[4 + offset :])
            upright = exif.upright(block, lambda thumbnail: thumbnail)
            metadata = replace(metadata, exif=metadata.exif or upright)
            notes += [] if upright else ["EXIF (it is damaged)"]
        elif kind == b"xml " and data:
            metadata = replace(metadata, xmp=metadata.xmp or data)
        else:
            notes.append(_DROPPED.get(kind, f"{kind.decode('latin-1').strip()} box (it is damaged)"))
    return metadata, notes


def _metadata_boxes(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of the boxes of metadata, decompressed; the content is empty if it is damaged."""
    file.seek(0)
    if file.read(12) != _CONTAINER:
        return
    for kind, at, length in boxes.file_boxes(file):
        if kind not in (b"Exif", b"xml ", b"brob", *_DROPPED):
            continue
        file.seek(at)
        data = file.read(min(length, _MAX_TEXT) if length >= 0 else _MAX_TEXT)
        yield (data[:4], _inflated(data[4:])) if kind == b"brob" else (kind, data)


def has_jpeg(file: BinaryIO) -> bool:
    """Whether a JPEG file can be reconstructed from the file."""
    file.seek(0)
    return file.read(12) == _CONTAINER and any(kind == b"jbrd" for kind, _, _ in boxes.file_boxes(file))


def _inflated(data: bytes) -> bytes:
    """Content of a box that Brotli compresses; empty if it is damaged."""
    import imagecodecs  # noqa: PLC0415 (an extra)

    try:
        return bytes(imagecodecs.brotli_decode(data, out=_MAX_TEXT))
    except Exception:  # imagecodecs raises its own exceptions
        return b""
