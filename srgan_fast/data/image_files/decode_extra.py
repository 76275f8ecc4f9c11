"""Decoding of formats that packaged libvips does not support: BMP, PPM, TGA, HEIC, JPEG XL, TIFF codecs.

Uses the libraries of the extra `formats`: Pillow, pillow-heif, imagecodecs and tifffile. Each is imported on first use.
"""

import importlib
import io
import logging
import struct
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.image_files import boxes, exif, icc, jpeg, jxl
from srgan_fast.data.image_files.formats import EXTRA_HINT
from srgan_fast.data.image_files.image import Header, Image, ImageFile, Metadata, Pixels, Text
from srgan_fast.data.image_files.samples import full_range, to_16_bits
from srgan_fast.errors import ImageError

_PILLOW, _HEIF, _JXL, _TIFF = "Pillow", "pillow-heif", "imagecodecs", "tifffile"
_MODULES = {_PILLOW: "PIL.Image", _HEIF: "pillow_heif", _JXL: "imagecodecs", _TIFF: "tifffile"}
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_NAMES = {_HEIF: "HEIC", _JXL: "JPEG XL", _TIFF: "this TIFF's codec", _PILLOW: "this format"}

_ORIENTATION, _X_RESOLUTION, _Y_RESOLUTION, _UNIT, _XMP, _IPTC = 274, 282, 283, 296, 700, 33723
_PHOTOSHOP = 34377
_INCH, _CENTIMETRE, _PREMULTIPLIED = 2, 3, 1  # values of ResolutionUnit and ExtraSamples

# TIFF's codec numbers: none, CCITT, LZW, JPEG, deflate, PackBits. libvips' messages do not reliably indicate a missing
# codec, since another thread may have disabled them.
_CODECS_OF_LIBVIPS = (None, 1, 2, 3, 4, 5, 6, 7, 8, 32773, 32946)


# Without a handler, what tifffile logs about a damaged file would be lines beside our own.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


def _library(head: bytes, name: str) -> str | None:
    """The library that may decode a file, judging by its first bytes."""
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        return _HEIF
    if jxl.is_jxl(head):
        return _JXL
    if head[:2] == b"BM" or (head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace()):
        return _PILLOW
    return _PILLOW if name.lower().endswith(".tga") else None  # TGA has no signature


def _load(library: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(_MODULES[library])
    except ImportError:
        raise ImageError(f"{name}: {_NAMES[library]} needs {library}: {EXTRA_HINT}") from None


def decode(data: bytes, name: str) -> ImageFile | None:
    """Decodes a file with another library than libvips.

    Args:
        data: contents of the file.
        name: name of the file for messages.

    Returns:
        The decoded file; None if no other library supports it.

    Raises:
        ImageError: the library is not installed, or cannot decode the file either.
    """
    library = _library(data[:64], name)
    if library is None:
        return None
    module = _load(library, name)
    try:
        if library == _JXL:
            return _jxl(module, data, name)
        return _heif(module, data, name) if library == _HEIF else _pillow(module, data, name)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # each library raises its own exceptions
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> ImageError:
    """The error for a file that a library refused, with the first line of its message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ImageError(f"{name}: cannot be read as an image ({(lines or [type(error).__name__])[0]})")


def header(file: BinaryIO, name: str) -> Header | None:
    """Header of a file that libvips does not support; None if no other library does.

    Raises:
        ImageError: the library is not installed, or cannot read the file either.
    """
    data = file.read(64)
    library = _library(data, name)
    if library is None:
        return None
    data += file.read()
    if library == _HEIF:
        return _header_of_heif(_load(library, name), data, name)
    module = _load(library, name)
    if library == _JXL:
        found = _header_of_jxl(data, name)
        return Header(found.height, found.width, 1, "image", found.height * found.width)
    try:
        with module.open(io.BytesIO(data)) as image:
            return Header(image.height, image.width, 1, "image", image.height * image.width)
    except Exception as error:
        raise _unreadable(name, error) from None


def _header_of_heif(module: ModuleType, data: bytes, name: str) -> Header:
    try:
        file = module.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False)
        width, height = file[file.primary_index].size
    except Exception as error:
        raise _unreadable(name, error) from None
    return Header(height, width, 1, "image", height * width)


def _of_array(array: NDArray[Any], name: str, metadata: Metadata | None = None) -> Image:
    """Converts an array of H, W or H, W, C, uint8 or uint16, to an image; the second or fourth channel is alpha."""
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] > 4 or array.dtype not in (np.uint8, np.uint16):
        raise ImageError(f"{name}: has samples of type {array.dtype} in shape {array.shape}; convert it to PNG first")
    channels = 1 if array.shape[2] <= 2 else 3
    alpha = np.ascontiguousarray(array[:, :, -1]) if array.shape[2] in (2, 4) else None
    return Image(np.ascontiguousarray(array[:, :, :channels]), alpha, metadata or Metadata())


def _header_of_jxl(data: bytes, name: str) -> jxl.JxlHeader:
    try:
        found = jxl.read_header(io.BytesIO(data))
    except (ValueError, struct.error) as error:
        raise _unreadable(name, error) from None
    if found.animated:
        raise ImageError(f"{name}: is an animated JPEG XL; convert it to APNG first")
    if found.black:
        raise ImageError(f"{name}: is a CMYK JPEG XL; convert it to RGB first")
    if found.bits is None:
        raise ImageError(
            f"{name}: has floating-point samples, whose black and white are not defined; convert them to 8 or 16 bits "
            f"first"
        )
    return found


def jpeg_inside(data: bytes, name: str) -> bytes | None:
    """The JPEG file from which a JPEG XL was made without loss; None for other files.

    Raises:
        ImageError: the library is not installed.
    """
    if not jxl.is_jxl(data[:12]) or not jxl.has_jpeg(io.BytesIO(data)):
        return None
    module = _load(_JXL, name)
    try:
        return bytes(module.jpegxl_decode_jpeg(data, numthreads=1))
    except RuntimeError:  # the pixels may be decodable nevertheless
        return None


def _jxl(module: ModuleType, data: bytes, name: str) -> ImageFile:
    head = _header_of_jxl(data, name)
    array = np.asarray(module.jpegxl_decode(data))  # upright
    if array.shape[:2] != (head.height, head.width):
        raise ImageError(f"{name}: has samples of shape {array.shape}; convert it to PNG first")
    metadata, more = jxl.read_boxes(io.BytesIO(data), head.metadata)
    notes = [*head.notes, *more]
    frame = _of_array(array, name, metadata)
    if head.bits is not None:
        frame = _stretched(frame, head.bits)
    if head.others:
        notes.append(f"{head.others} extra channels")
    if frame.alpha is not None and head.premultiplied:
        frame = replace(frame, pixels=_divided(frame.pixels, frame.alpha))
    if head.has_icc and head.xyb:
        # Without colour management libjxl decodes such files to linear sRGB.
        values = icc.linear_to_srgb(frame.pixels / np.iinfo(frame.pixels.dtype).max)
        frame = to_16_bits(replace(frame, pixels=np.rint(values * 65535).astype(np.uint16)))
        notes.append("profile of the JPEG XL (converted to sRGB)")
    elif head.has_icc:
        notes.append("profile of the JPEG XL (it is taken as sRGB)")
    return ImageFile((frame,), None, tuple(notes))


def _stretched(image: Image, bits: int) -> Image:
    """Scales samples of fewer bits than their type has, as imagecodecs returns them, to the range of the type."""
    white = np.iinfo(image.pixels.dtype).max
    stored = (1 << bits) - 1
    if stored >= white:
        return image

    def stretch(values: Pixels) -> Pixels:
        wide = np.minimum(values, stored).astype(np.uint32)
        return ((wide * white + stored // 2) // stored).astype(values.dtype)

    return replace(image, pixels=stretch(image.pixels), alpha=None if image.alpha is None else stretch(image.alpha))


def _pillow(module: ModuleType, data: bytes, name: str) -> ImageFile:
    with module.open(io.BytesIO(data)) as image:
        image.load()
        dpi = image.info.get("dpi")
        metadata = Metadata(density=(float(dpi[0]), float(dpi[1])) if dpi and all(dpi) else None)
        if image.mode.startswith("I;16"):
            return ImageFile((_of_array(np.asarray(image).astype(np.uint16), name, metadata),))
        if image.mode in ("I", "F"):
            # Pillow decodes a 16-bit PGM to 32 bits, with the same values.
            values = np.asarray(image)
            if image.mode == "F" or values.min() < 0 or values.max() > 65535:
                raise ImageError(f"{name}: has samples of 32 bits; convert it to 8 or 16 bits first")
            return ImageFile((_of_array(values.astype(np.uint16), name, metadata),))
        mode = "L" if image.mode in ("1", "L") else "RGBA" if image.has_transparency_data else "RGB"
        return ImageFile((_of_array(np.asarray(image.convert(mode)), name, metadata),))


def _heif(module: ModuleType, data: bytes, name: str) -> ImageFile:
    file = module.open_heif(data, convert_hdr_to_8bit=False)
    image = file[file.primary_index]  # upright: the library applies the container's rotation
    width, height = image.size
    info = image.info
    block = info.get("exif")
    upright = exif.upright(exif.without_prefix(block), lambda thumbnail: thumbnail) if block else None
    metadata = Metadata(icc=info.get("icc_profile"), exif=upright, xmp=info.get("xmp"), cicp=_cicp(info))
    metadata, notes = boxes.read_colour(io.BytesIO(data), metadata)
    notes += [f"{len(file) - 1} further images in the file"] if len(file) > 1 else []
    if info.get("aux"):
        notes.append("gain map and other images beside the main one")
    frame = _of_array(np.asarray(image), name, metadata)
    if (frame.width, frame.height) != (width, height):
        found = f"{frame.width}x{frame.height} pixels instead of {width}x{height}"
        raise ImageError(f"{name}: cannot be read as an image (it has {found})")
    if frame.pixels.dtype == np.uint16:
        frame = full_range(frame, int(info["bit_depth"]))
    return ImageFile((frame,), None, tuple(notes))


def _cicp(info: dict[str, Any]) -> tuple[int, int, int, int] | None:
    """Colour of a HEIC without an ICC profile, as PNG's cICP chunk has it; None if it is sRGB's or unknown."""
    found = info.get("nclx_profile")
    if not found or info.get("icc_profile"):
        return None
    # The library converts to RGB of the full range.
    return boxes.cicp(int(found["color_primaries"]), int(found["transfer_characteristics"]))


def is_rare(codec: int | None) -> bool:
    """Whether a codec number of a TIFF page is one that packaged libvips may lack."""
    return codec not in _CODECS_OF_LIBVIPS


def tiff_pages(file: BinaryIO, name: str, numbers: Sequence[int]) -> list[Image]:
    """Decodes pages of a TIFF whose codec libvips lacks.

    Args:
        file: the file.
        name: name of the file for messages.
        numbers: indices of the directories.

    Raises:
        ImageError: tifffile is not installed, or cannot decode a page either.
    """
    module = _load(_TIFF, name)
    try:
        with module.TiffFile(file) as opened:
            return [_tiff_page(opened.pages[number], name) for number in numbers]
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # tifffile and imagecodecs raise their own exceptions
        raise _unreadable(name, error) from None


def _tiff_page(page: Any, name: str) -> Image:
    photometric = page.photometric.name
    if photometric not in ("MINISBLACK", "MINISWHITE", "RGB", "YCBCR"):
        raise ImageError(f"{name}: is a TIFF of kind {photometric} with a rare codec; convert it to PNG first")
    array = page.asarray()
    if page.axes.startswith("S"):
        array = np.moveaxis(array, 0, -1)
    if photometric == "MINISWHITE":
        array = np.iinfo(array.dtype).max - array
    orientation = _tag(page, _ORIENTATION) or 1
    frame = _of_array(turned(array, orientation), name, _of_tags(page, orientation))
    if frame.alpha is not None and _PREMULTIPLIED in map(int, page.extrasamples):
        frame = replace(frame, pixels=_divided(frame.pixels, frame.alpha))
    return frame


def _tag(page: Any, number: int) -> Any:
    found = page.tags.get(number)
    return None if found is None else found.value


def _of_tags(page: Any, orientation: int) -> Metadata:
    """Metadata of a page, as libvips reads them of other TIFF files."""
    density = None
    x, y, unit = (_tag(page, number) for number in (_X_RESOLUTION, _Y_RESOLUTION, _UNIT))
    if x and y and all((*x, *y)) and unit in (_INCH, _CENTIMETRE):
        factor = 1.0 if unit == _INCH else 2.54
        density = (x[0] / x[1] * factor, y[0] / y[1] * factor)
    elif isinstance(resources := _tag(page, _PHOTOSHOP), bytes):
        density = jpeg.density_of_photoshop(resources)
    density = density[::-1] if density and orientation >= 5 else density
    # tifffile stores the array's shape as the description; it would be wrong for a result.
    text = "" if page.description.startswith('{"shape"') else page.description
    xmp, iptc = (_tag(page, number) for number in (_XMP, _IPTC))
    return Metadata(
        icc=page.iccprofile,
        xmp=xmp if isinstance(xmp, bytes) else None,
        iptc=iptc if isinstance(iptc, bytes) else None,
        density=density,
        texts=(Text("Description", text),) if text else (),
    )


def turned(array: NDArray[Any], orientation: int) -> NDArray[Any]:
    """The upright array of rows and columns that are stored with an EXIF orientation."""
    if orientation >= 5:
        array = np.swapaxes(array, 0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array[::-1] if orientation in (3, 4, 7, 8) else array


def _divided(pixels: Pixels, alpha: Pixels) -> Pixels:
    """Pixels without the alpha that they were multiplied with."""
    white = np.iinfo(pixels.dtype).max
    values = np.rint(pixels * (white / np.maximum(alpha, 1)[:, :, None]))
    return np.minimum(values, white).astype(pixels.dtype)
