"""Decoding with libvips, which preserves 16-bit samples and provides metadata separately from pixels.

Every decoder error is raised: with a lower `fail_on` than "error", libvips silently leaves black pixels.
"""

import io
import re
import stat
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips

from srgan_fast.data.image_files import apng, boxes, decode_extra, exif, gif, jpeg, png, tiff, webp
from srgan_fast.data.image_files.forks import check_not_forked
from srgan_fast.data.image_files.image import Header, Image, ImageFile, Metadata, Pixels, Text, Timing
from srgan_fast.data.image_files.libvips_messages import libvips_users
from srgan_fast.data.image_files.samples import convert, full_range, has_field, orientation_of
from srgan_fast.errors import ImageError
from srgan_fast.files import shown

# Disables the decoders that libvips marks as unsafe for untrusted files (ImageMagick's among them).
pyvips.block_untrusted_set(True)

_JPEG = ("jpegload", "uhdrload")
_TIMED = ("gifload", "webpload")
_DEFAULT_DELAY = 100  # milliseconds, for files without delays
_GAIN_MAP_NOTE = "gain map (HDR)"
_GAIN_MAP = (b"hdrgm:Version", b"HDRGainMap")


_error_buffer = threading.RLock()  # all threads share libvips' error buffer


@contextmanager
def tiles_checked(tiled: bool) -> Iterator[None]:
    """Context that raises an error if libvips fails to decode a tile of a TIFF within it.

    Whatever `fail_on` is, libvips' tile cache replaces such a tile by black and continues; the error is only left as
    text in the error buffer.

    Args:
        tiled: whether the file is a tiled TIFF; nothing is checked otherwise.

    Raises:
        pyvips.Error: a tile cannot be decoded.
    """
    if not tiled:
        yield
        return
    with _error_buffer:
        pyvips.vips_lib.vips_error_clear()
        yield
        if b"tiff2vips" in pyvips.ffi.string(pyvips.vips_lib.vips_error_buffer()):
            raise pyvips.Error("a tile cannot be decoded")


class Contents(bytes):
    """An encoded image in memory, with a name for messages."""

    name = "standard input"


@dataclass(frozen=True, slots=True)
class Source:
    """Source of an image: a file, or its bytes.

    Attributes:
        name: name for messages.
        path: path of the file; None if `data` holds its contents.
        data: contents of the file.
    """

    name: str
    path: str | None = None
    data: bytes = b""

    @staticmethod
    def of(source: Path | bytes) -> "Source":
        """The source for a path or for bytes; paths are checked before a decoder opens them.

        Raises:
            ImageError: missing, or not a regular file.
        """
        if isinstance(source, bytes):
            return Source(getattr(source, "name", Contents.name), None, source)
        name = shown(source)
        try:
            mode = source.stat().st_mode
            if stat.S_ISDIR(mode):
                raise ImageError(f"{name}: is a folder, not an image")
            if not stat.S_ISREG(mode):  # opening a FIFO could block forever
                raise ImageError(f"{name}: is not a regular file")
            try:
                str(source).encode()
            except UnicodeEncodeError:  # libvips accepts UTF-8 file names only
                return Source(name, None, source.read_bytes())
        except FileNotFoundError:
            raise ImageError(f"{name}: no such file") from None
        except (OSError, RuntimeError) as error:
            raise ImageError(f"{name}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
        return Source(name, str(source))

    def open(self, **options: Any) -> pyvips.Image:
        """The image as a libvips image; only its header is decoded."""
        check_not_forked()
        options = {"access": "sequential", "fail_on": "error", "revalidate": True, **options}
        with _error_buffer:
            # Otherwise messages about an earlier image would become part of this one's.
            pyvips.vips_lib.vips_error_clear()
            if self.path is None:
                image = pyvips.Image.new_from_buffer(self.data, "", **options)
            else:
                image = pyvips.Image.new_from_file(self.path, **options)
        return self._with_orientation(image)

    def _with_orientation(self, image: pyvips.Image) -> pyvips.Image:
        """The image with a PNG's orientation where libvips does not look for it."""
        if not str(image.get("vips-loader")).startswith("pngload") or has_field(image, "orientation"):
            return image
        with self.file() as file:
            orientation = png.orientation(file)
        if orientation == 1:
            return image
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        return image

    def file(self) -> AbstractContextManager[BinaryIO]:
        """The contents, as a file opened for reading."""
        return io.BytesIO(self.data) if self.path is None else Path(self.path).open("rb")

    def head(self) -> bytes:
        """The first 64 bytes."""
        with self.file() as file:
            return file.read(64)


def decode(source: Source, all_frames: bool) -> ImageFile:
    """Decodes a file; thread-safe.

    Args:
        source: file of any supported format.
        all_frames: whether to decode the frames and pages after the first.

    Raises:
        ImageError: not an image, damaged, or its sample format cannot be converted.
    """
    return libvips_users.run(lambda: _decoded(source, all_frames))


def _decoded(source: Source, all_frames: bool) -> ImageFile:
    try:
        try:
            opened = source.open()
            return _decode(source, opened, all_frames)
        except pyvips.Error:
            with source.file() as file:
                data = file.read()
            original = decode_extra.jpeg_inside(data, source.name)
            if original is not None:
                return _decoded(Source(source.name, None, original), all_frames)
            other = decode_extra.decode(data, source.name)
            if other is None:
                raise
            return other
    except pyvips.Error as error:
        raise ImageError(f"{source.name}: cannot be read as an image ({first_statement(error)})") from None
    except UnicodeDecodeError:  # libvips' message quotes bytes of the file
        raise ImageError(f"{source.name}: cannot be read as an image (it is damaged)") from None


def header(source: Source) -> Header:
    """Size and number of frames; pixels are not decoded.

    Raises:
        ImageError: not an image.
    """
    return libvips_users.run(lambda: _header(source))


def _header(source: Source) -> Header:
    try:
        image = source.open()
    except pyvips.Error as error:
        with source.file() as file:
            found = decode_extra.header(file, source.name)
        if found is None:
            raise ImageError(f"{source.name}: cannot be read as an image ({first_statement(error)})") from None
        return found
    except UnicodeDecodeError:
        raise ImageError(f"{source.name}: cannot be read as an image (it is damaged)") from None
    # Orientations 5 to 8 swap width and height.
    height, width = (image.width, image.height) if orientation_of(image) >= 5 else (image.height, image.width)
    loader = str(image.get("vips-loader"))
    if loader.startswith("tiffload"):
        with source.file() as file:
            count = len(tiff.pages(file)[0])
        return Header(height, width, count, "pages" if count > 1 else "image", height * width * count)
    if loader.startswith("pngload"):
        with source.file() as file:
            count = png.frame_count(file)
    else:
        count = int(image.get("n-pages")) if loader.startswith(_TIMED) and has_field(image, "n-pages") else 1
    return Header(height, width, count, "animation" if count > 1 else "image", height * width * count)


def _decode(source: Source, image: pyvips.Image, all_frames: bool) -> ImageFile:
    loader = str(image.get("vips-loader"))
    count = int(image.get("n-pages")) if has_field(image, "n-pages") else 1
    if loader.startswith("tiffload"):
        return _tiff(source, image, all_frames)
    if loader.startswith("gifload"):
        with source.file() as file:
            if gif.is_cut(file):
                raise ImageError(f"{source.name}: cannot be read as an image (it is truncated)")
    if loader.startswith(_TIMED) and count > 1 and all_frames:
        return _upright_frames(_animation(source, image, count), orientation_of(image))
    if loader.startswith("pngload") and all_frames:
        with source.file() as file:
            animated = png.frame_count(file) > 1
        if animated:
            return _upright_frames(_animated_png(source, image), orientation_of(image))
    metadata, notes = describe(source, image, loader)
    if count > 1 and not loader.startswith(_TIMED):
        notes.append(f"{count - 1} further images in the file")
    frame, more = convert(image, metadata, source.name)
    if loader.startswith("heifload") and frame.pixels.dtype == np.uint16 and has_field(image, "bits-per-sample"):
        frame = full_range(frame, int(image.get("bits-per-sample")))
    return ImageFile((frame,), None, (*notes, *more))


def _tiff(source: Source, first: pyvips.Image, all_frames: bool) -> ImageFile:
    with source.file() as file:
        numbers, has_exif = tiff.pages(file)
        tiled, codecs = tiff.is_tiled(file), tiff.compressions(file)
    numbers = numbers if all_frames else numbers[:1]
    frames: dict[int, Image] = {}
    notes = ["EXIF of the TIFF"] if has_exif else []
    rare: list[int] = []
    contents: bytes | None = None
    if len(codecs) > 1 and any(decode_extra.is_rare(codec) for codec in codecs):
        with source.file() as file:
            contents = file.read()
    for number in numbers:
        try:
            if contents is not None:
                # A page whose codec libvips lacks makes it fail in the others, too.
                page = Source(source.name, None, tiff.single_page(contents, number)).open()
            else:
                page = source.open(page=number) if number else first
            metadata, more = describe(source, page, "tiffload")
            if orientation_of(page) > 1:
                with tiles_checked(tiled):  # at once: turning clears the error buffer
                    page = page.copy_memory()
            with tiles_checked(tiled):
                frames[number], other = convert(page, metadata, source.name)
        except pyvips.Error:
            if number >= len(codecs) or not decode_extra.is_rare(codecs[number]):
                raise
            rare.append(number)
            continue
        notes += [note for note in (*more, *other) if note not in notes]
    if rare:
        with source.file() as file:
            frames.update(zip(rare, decode_extra.tiff_pages(file, source.name, rare), strict=True))
    return ImageFile(tuple(frames[number] for number in numbers), None, tuple(notes))


def _animated_png(source: Source, first: pyvips.Image) -> ImageFile:
    metadata, notes = describe(source, first, "pngload")
    with source.file() as file:
        data = file.read()

    def decoded(part: bytes) -> Image:
        image, more = convert(Source(source.name, None, part).open(), metadata, source.name, turn=False)
        notes.extend(note for note in more if note not in notes)
        return image

    try:
        parts, loop = apng.split(data)
    except ValueError as error:
        raise ImageError(f"{source.name}: cannot be read as an image ({error})") from None
    frames = apng.draw(parts, first.height, first.width, decoded)
    return ImageFile(tuple(frames), Timing(tuple(part.delay for part in parts), loop), tuple(notes))


def _animation(source: Source, first: pyvips.Image, count: int) -> ImageFile:
    metadata, notes = describe(source, first, str(first.get("vips-loader")))
    image = source.open(n=-1)
    height = int(image.get("page-height"))
    whole, more = convert(image, metadata, source.name, turn=False)
    if whole.alpha is not None and whole.alpha.min() == np.iinfo(whole.alpha.dtype).max:
        whole = replace(
            whole, alpha=None
        )  # libvips adds an alpha channel if a frame leaves parts of the previous one unchanged
    rows = [slice(i * height, (i + 1) * height) for i in range(whole.height // height)]
    frames = tuple(Image(whole.pixels[at], None if whole.alpha is None else whole.alpha[at], metadata) for at in rows)
    delays = [int(delay) for delay in first.get("delay")] if has_field(first, "delay") else []
    delays += [_DEFAULT_DELAY] * (count - len(delays))
    loop = int(first.get("loop")) if has_field(first, "loop") else 1
    return ImageFile(frames, Timing(tuple(delays[:count]), loop), (*notes, *more))


def _upright_frames(file: ImageFile, orientation: int) -> ImageFile:
    """Turns the frames of an animation, whose metadata are upright already."""
    if orientation == 1:
        return file

    def turned(array: Pixels) -> Pixels:
        return np.ascontiguousarray(decode_extra.turned(array, orientation))

    frames = (
        replace(frame, pixels=turned(frame.pixels), alpha=None if frame.alpha is None else turned(frame.alpha))
        for frame in file.frames
    )
    return replace(file, frames=tuple(frames))


def first_statement(error: Exception) -> str:
    """The first line of libvips' message after its heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    detail = lines[1:] or ["it is damaged or truncated"]
    return detail[0]


def describe(source: Source, image: pyvips.Image, loader: str) -> tuple[Metadata, list[str]]:
    """Metadata of the upright image, and notes on metadata that was dropped."""

    def blob(name: str) -> bytes | None:
        return bytes(image.get(name)) or None if has_field(image, name) else None

    block, packet = blob("exif-data"), blob("xmp-data")
    notes: list[str] = []
    metadata = Metadata(
        icc=blob("icc-profile-data"),
        exif=exif.without_prefix(block) if block else None,
        xmp=packet,
        iptc=blob("iptc-data"),
    )
    if metadata.iptc and not metadata.iptc.startswith(b"\x1c"):
        metadata = replace(metadata, iptc=jpeg.iptc_of_photoshop(metadata.iptc))
    with source.file() as file:
        if loader.startswith("pngload"):
            metadata, notes = png.read_png(file, metadata)
        elif loader.startswith(_JPEG) and source.head()[:2] == b"\xff\xd8":
            metadata, notes = jpeg.read_jpeg(file, metadata)
        elif loader.startswith("heifload"):
            metadata, notes = boxes.read_colour(file, metadata)
        elif loader.startswith("gifload"):
            metadata, notes = gif.read_gif(file, metadata)
        elif loader.startswith("webpload"):
            notes = webp.unknown_chunks(file)
    if loader.startswith("tiffload"):
        metadata = _tiff_words(metadata, image)
    metadata, more = _upright(metadata, orientation_of(image))
    if has_field(image, "gainmap-data") and _GAIN_MAP_NOTE not in more:
        more.append(_GAIN_MAP_NOTE)
    return metadata, notes + more


def _tiff_words(metadata: Metadata, image: pyvips.Image) -> Metadata:
    if has_field(image, "resolution-unit"):
        metadata = replace(metadata, density=(image.xres * 25.4, image.yres * 25.4))
    elif has_field(image, "photoshop-data"):
        metadata = replace(metadata, density=jpeg.density_of_photoshop(bytes(image.get("photoshop-data"))))
    # tifffile stores the array's shape as the description; it would be wrong for a result.
    if has_field(image, "image-description") and not str(image.get("image-description")).startswith('{"shape"'):
        metadata = replace(metadata, texts=(Text("Description", str(image.get("image-description"))),))
    return metadata


def _upright(metadata: Metadata, orientation: int) -> tuple[Metadata, list[str]]:
    notes: list[str] = []
    block, packet, density = metadata.exif, metadata.xmp, metadata.density
    if block:
        block = exif.upright(block, lambda thumbnail: _turned(thumbnail, orientation))
        if block is None:
            notes.append("EXIF (it is damaged)")
    if packet:
        packet = re.sub(rb'(tiff:Orientation\s*=\s*["\'])[2-8]', rb"\g<1>1", packet)
        packet = re.sub(rb"(<tiff:Orientation>\s*)[2-8]", rb"\g<1>1", packet)
        if any(mark in packet for mark in _GAIN_MAP):
            notes.append(_GAIN_MAP_NOTE)
            # Readers that find these entries would look for the gain map.
            packet = re.sub(rb'\s[\w]*hdrgm:\w+\s*=\s*"[^"]*"', b"", packet)
            packet = re.sub(rb"<Container:Directory>.*?</Container:Directory>", b"", packet, flags=re.DOTALL)
    if density and orientation >= 5:
        density = density[::-1]
    return replace(metadata, exif=block, xmp=packet, density=density), notes


def _turned(thumbnail: bytes, orientation: int) -> bytes:
    if orientation == 1:
        return thumbnail
    try:
        image = pyvips.Image.new_from_buffer(thumbnail, "").copy_memory()
        image = image.copy()
        image.set_type(pyvips.GValue.gint_type, "orientation", orientation)
        return bytes(image.autorot().jpegsave_buffer(Q=85, keep="none"))
    except pyvips.Error as error:
        raise ValueError(str(error)) from None
