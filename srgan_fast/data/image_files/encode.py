"""Encoding: contents that a format does not support are converted where that is sensible; all losses are noted."""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyvips

from srgan_fast.data.image_files import apng, colour, exif, jpeg, png, tiff, webp
from srgan_fast.data.image_files.forks import check_not_forked
from srgan_fast.data.image_files.formats import TRAITS, Format
from srgan_fast.data.image_files.image import Image, ImageFile, Metadata, Pixels, Timing
from srgan_fast.data.image_files.libvips_messages import libvips_users
from srgan_fast.data.image_files.samples import to_16_bits
from srgan_fast.errors import ImageError

# Measured on a result of 12 million pixels: 0.50 s of CPU time and 1.9 % more bytes than level 6 with a filter selected
# per row (1.05 s). Selection per row at level 4 takes 0.66 s for the same bytes; level 3 gives 3.6 % more (0.39 s),
# level 9 takes 5.8 s for 3.8 % fewer, and no filter at level 6, libvips' default, gives 88 % more (libvips 8.18, Zen 4,
# srresnet-x4 on a mosaic of test photographs). Charts are 0.5 % larger with this filter than with selection per row.
PNG_COMPRESSION, PNG_FILTER = 4, "paeth"
_XMP_TAG, _IPTC_TAG = 700, 33723
_BIG_TIFF = 3 << 30  # bytes of pixels; compression may increase the size, and classic TIFF is limited to 4 GB


@dataclass(frozen=True, slots=True)
class Encoded:
    """An encoded image.

    Attributes:
        data: contents of the file.
        notes: contents of the image that were dropped, one clause each.
    """

    data: bytes
    notes: tuple[str, ...] = ()


def encode(file: ImageFile, fmt: Format, quality: int = 95, compression: int | None = None) -> Encoded:
    """Encodes images.

    Args:
        file: frames with their metadata; that of the first frame is written.
        fmt: file format.
        quality: JPEG, WebP and AVIF quality, 1..100; WebP and AVIF are lossless at 100.
        compression: PNG compression level, 0..9; `PNG_COMPRESSION` if None.

    Raises:
        ImageError: the images are too large for the format.
    """
    with libvips_users.using():
        return _encoded(file, fmt, quality, compression)


def _encoded(file: ImageFile, fmt: Format, quality: int, compression: int | None) -> Encoded:
    first = file.frames[0]
    check_size(fmt, first.width, first.height)
    notes: list[str] = []
    frames, timing = _frames_that_fit(file, fmt, notes)
    frames = [prepared(frame, fmt, notes if i == 0 else []) for i, frame in enumerate(frames)]
    metadata = frames[0].metadata
    block = metadata.exif and exif.with_size(metadata.exif, frames[0].width, frames[0].height)
    notes += lost(metadata, fmt)
    try:
        if fmt in ("png", "apng"):
            data = _png(frames, timing, compression)
            data = png.write_png(data, metadata, block)
        elif fmt == "jpg":
            data, more = jpeg.write_jpeg(_jpeg(frames[0], quality), metadata, block)
            notes += more
        elif fmt == "webp":
            alpha = frames[0].alpha is not None
            data = webp.write_webp(
                _webp(frames, timing, quality), metadata, block, (frames[0].width, frames[0].height), alpha
            )
        elif fmt == "tif":
            data = _tiff(frames)
        elif fmt == "gif":
            data = _gif(frames, timing)
        else:
            data = _avif(frames[0], quality, block)
    except pyvips.Error as error:
        raise ImageError(f"cannot be encoded as {fmt} ({reason(error)})") from None
    return Encoded(data, tuple(notes))


def check_size(fmt: Format, width: int, height: int) -> None:
    """Checks that a format supports images of a size.

    Raises:
        ImageError: it does not.
    """
    limit = TRAITS[fmt].max_side
    if limit and max(width, height) > limit:
        raise ImageError(
            f"{fmt} supports at most {limit} pixels per side, the result has {width}x{height}; use --format png"
        )


def frames_held(kind: str, count: int, fmt: Format) -> int:
    """Number of frames or pages of a file that the format can store.

    Args:
        kind: `animation`, `pages` or `image`, see `Header.kind`.
        count: number of frames or pages in the file.
        fmt: file format of the result.
    """
    several = TRAITS[fmt].several
    return count if several == "pages" or (several == "animation" and kind == "animation") else 1


def reason(error: Exception) -> str:
    """The first line of libvips' message after its heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[1:] or lines or ["unknown error"])[0]


def _frames_that_fit(file: ImageFile, fmt: Format, notes: list[str]) -> tuple[list[Image], Timing | None]:
    count = len(file.frames)
    kind = "pages" if file.timing is None else "animation"
    if count == 1:
        return list(file.frames), None
    if frames_held(kind, count, fmt) == 1:
        notes.append(f"the {count - 1} {'pages' if kind == 'pages' else 'frames'} after the first ({fmt} holds one)")
        return [file.frames[0]], None
    if file.timing is not None and TRAITS[fmt].several == "pages":
        notes.append("timing of the frames (they are stored as pages)")
        return list(file.frames), None
    return list(file.frames), file.timing


def prepared(image: Image, fmt: Format, notes: list[str]) -> Image:
    """Converts an image to what the format supports, and appends notes on losses."""
    traits = TRAITS[fmt]
    if image.pixels.dtype == np.uint16 and traits.bits < 16:
        if traits.bits == 8:
            image = to_8_bits(image)
        notes.append(f"the lower {16 - traits.bits} of 16 bits")
    if image.alpha is not None and not traits.alpha and (image.alpha < np.iinfo(image.alpha.dtype).max).any():
        notes.append("transparency (composited on white)")
    metadata = image.metadata
    if fmt == "tif" and metadata.density is None and metadata.exif:  # which is not written
        metadata = replace(metadata, density=exif.density(metadata.exif))
    if fmt not in ("png", "apng"):
        profile, note = colour.profile_of(metadata, image.is_gray)
        notes += [note] if note else []
        metadata = replace(metadata, icc=profile)
    if metadata.icc and (not traits.icc or (image.is_gray and not traits.gray)):
        image = _to_srgb(replace(image, metadata=metadata))
        notes.append(f"profile (converted to sRGB; {fmt} cannot store it)")
        metadata = replace(metadata, icc=None)
    return replace(image, metadata=metadata)


def lost(metadata: Metadata, fmt: Format) -> list[str]:
    """Metadata that the format cannot store, one clause each."""
    found = []
    if metadata.exif and fmt in ("tif", "gif"):
        found.append("EXIF")
    if metadata.xmp and fmt == "gif":
        found.append("XMP")
    if metadata.iptc and fmt not in ("jpg", "tif"):
        found.append("IPTC")
    hdr = [
        name
        for name, data in (("mDCV", metadata.mastering_display), ("cLLI", metadata.light_levels))
        if data and fmt not in ("png", "apng")
    ]
    if hdr:
        found.append(f"HDR display and light levels ({' and '.join(hdr)})")
    if metadata.density and fmt in ("webp", "gif", "avif"):
        found.append(f"resolution ({metadata.density[0]:.4g} dpi)")
    if metadata.texts and fmt in ("webp", "avif", "gif"):
        found.append("comments (" + ", ".join(text.keyword for text in metadata.texts) + ")")
    if fmt == "tif" and len(metadata.texts) > 1:
        found.append("comments after the first")
    return found


def to_8_bits(image: Image) -> Image:
    """Rounds 16-bit samples to 8 bits."""

    def shrink(values: Pixels) -> Pixels:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)

    return replace(image, pixels=shrink(image.pixels), alpha=None if image.alpha is None else shrink(image.alpha))


def _to_srgb(image: Image) -> Image:
    wide = image.pixels.dtype == np.uint16
    plain = _vips(replace(image, alpha=None))
    plain.set_type(pyvips.GValue.blob_type, "icc-profile-data", image.metadata.icc)
    try:
        done = plain.icc_transform("srgb", embedded=True, depth=16 if wide else 8).numpy()
    except pyvips.Error:  # damaged profile: keep the values unconverted
        return image
    return replace(image, pixels=done.reshape(image.height, image.width, -1))


def _vips(image: Image) -> pyvips.Image:
    check_not_forked()
    array = image.pixels
    if image.alpha is not None:
        array = np.concatenate([array, image.alpha[:, :, None]], axis=2)
    vips = pyvips.Image.new_from_array(np.ascontiguousarray(array))
    wide = array.dtype == np.uint16
    return vips.copy(interpretation=space_of(wide, image.is_gray))


def space_of(wide: bool, gray: bool) -> str:
    """Libvips' name of the colour space.

    Args:
        wide: whether samples have 16 bits instead of 8.
        gray: whether the image is gray.
    """
    return ("grey16" if wide else "b-w") if gray else ("rgb16" if wide else "srgb")


def _png(frames: Sequence[Image], timing: Timing | None, compression: int | None) -> bytes:
    files = [bytes(_vips(frame).pngsave_buffer(**png_options(compression))) for frame in _alike(frames)]
    return files[0] if timing is None else apng.join(files, timing)


def png_options(compression: int | None) -> dict[str, int | str]:
    """Options of libvips' PNG encoder; the default level if `compression` is None."""
    level = PNG_COMPRESSION if compression is None else compression
    return {"compression": level, "filter": PNG_FILTER, "keep": "none"}


def _alike(frames: Sequence[Image]) -> list[Image]:
    """Converts frames to a common number of channels and a common depth."""
    alpha, gray = any(f.alpha is not None for f in frames), all(f.is_gray for f in frames)
    wide = any(f.pixels.dtype == np.uint16 for f in frames)
    result = []
    for frame in (to_16_bits(frame) if wide else frame for frame in frames):
        opaque = np.full(frame.pixels.shape[:2], np.iinfo(frame.pixels.dtype).max, frame.pixels.dtype)
        result.append(
            Image(
                frame.pixels if gray else frame.rgb(),
                (opaque if frame.alpha is None else frame.alpha) if alpha else None,
                frame.metadata,
            )
        )
    return result


def _jpeg(image: Image, quality: int) -> bytes:
    vips = _vips(image)
    if image.alpha is not None:
        vips = on_white(vips)
    return bytes(vips.jpegsave_buffer(**jpeg_options(quality)))


def on_white(image: pyvips.Image) -> pyvips.Image:
    """Composites a libvips image on white."""
    return image.flatten(background=255)


def jpeg_options(quality: int) -> dict[str, int | str]:
    """Options of libvips' JPEG encoder."""
    # Full-resolution chroma at high quality: subsampling would discard detail that was just computed.
    return {"Q": quality, "subsample_mode": "off" if quality >= 90 else "auto", "keep": "none"}


def _film(frames: Sequence[Image], timing: Timing | None) -> pyvips.Image:
    """Stacks frames vertically, which is libvips' layout of animations."""
    images = [_vips(frame) for frame in _alike(frames)]
    if len(images) == 1:
        return images[0]
    film = pyvips.Image.arrayjoin(images, across=1).copy()
    film.set_type(pyvips.GValue.gint_type, "page-height", images[0].height)
    if timing is not None:
        film.set_type(pyvips.GValue.array_int_type, "delay", list(timing.delays))
        film.set_type(pyvips.GValue.gint_type, "loop", timing.loop)
    return film


def _webp(frames: Sequence[Image], timing: Timing | None, quality: int) -> bytes:
    return bytes(_film(frames, timing).webpsave_buffer(Q=quality, lossless=quality == 100, keep="none"))


def _gif(frames: Sequence[Image], timing: Timing | None) -> bytes:
    return bytes(_film(frames, timing).gifsave_buffer(keep="none"))


def _avif(image: Image, quality: int, block: bytes | None) -> bytes:
    vips = _vips(image).copy()
    metadata = image.metadata
    kept = {"icc": metadata.icc, "exif": block, "xmp": metadata.xmp}
    for kind, data in kept.items():
        if data:
            name = "icc-profile-data" if kind == "icc" else f"{kind}-data"
            vips.set_type(pyvips.GValue.blob_type, name, data)
    # libvips generates an EXIF block if it may write one and the image has none.
    keep = "|".join(kind for kind, data in kept.items() if data) or "none"
    bits = 12 if image.pixels.dtype == np.uint16 else 8
    return bytes(
        vips.heifsave_buffer(
            compression="av1", Q=quality, lossless=quality == 100, bitdepth=bits, keep=keep,
            subsample_mode="off" if quality >= 90 else "auto",
        )
    )  # fmt: skip


def _tiff(frames: Sequence[Image]) -> bytes:
    if len({(frame.pixels.shape, frame.metadata.icc) for frame in frames}) > 1:
        return _tiff_of_pages(frames)
    metadata = frames[0].metadata
    film = tiff_described(_film(frames, None), metadata)
    size = film.width * film.height * film.bands * frames[0].pixels.itemsize
    data = bytes(film.tiffsave_buffer(**tiff_options(metadata, size)))
    if metadata.density:
        return data
    file = io.BytesIO(data)
    tiff.remove_resolution(file)
    return file.getvalue()


def tiff_described(image: pyvips.Image, metadata: Metadata) -> pyvips.Image:
    """Attaches the metadata that libvips' TIFF encoder writes."""
    image = image.copy()
    for name, data in (
        ("icc-profile-data", metadata.icc),
        ("xmp-data", metadata.xmp),
        # libvips divides the length by four, for old versions of libtiff that count in units of four bytes; current
        # ones count bytes.
        ("iptc-data", metadata.iptc and metadata.iptc + bytes(3 * len(metadata.iptc))),
    ):
        if data:
            image.set_type(pyvips.GValue.blob_type, name, data)
    if metadata.texts:
        image.set_type(pyvips.GValue.gstr_type, "image-description", metadata.texts[0].text)
    return image


def tiff_options(metadata: Metadata, size: int) -> dict[str, str | float]:
    """Options of libvips' TIFF encoder.

    Args:
        metadata: metadata of the image.
        size: bytes of uncompressed pixels.
    """
    x, y = metadata.density or (25.4, 25.4)
    return {
        "compression": "deflate",
        "predictor": "horizontal",
        "bigtiff": size > _BIG_TIFF,
        "xres": x / 25.4,
        "yres": y / 25.4,
        "resunit": "inch",
        "keep": "icc|xmp|iptc|other",
    }


def _tiff_of_pages(frames: Sequence[Image]) -> bytes:
    """Encodes pages of different sizes or profiles, which libvips does not support."""
    try:
        import tifffile  # noqa: PLC0415 (an extra)
    except ImportError:
        raise ImageError(
            "pages of several sizes or profiles need tifffile to be written: pip install 'srgan_fast[formats]'"
        ) from None
    target = io.BytesIO()
    with tifffile.TiffWriter(target) as writer:
        for frame in frames:
            array = frame.pixels if frame.alpha is None else np.dstack([frame.pixels, frame.alpha])
            writer.write(
                array[:, :, 0] if array.shape[2] == 1 else array,
                photometric="minisblack" if frame.is_gray else "rgb",
                extrasamples=None if frame.alpha is None else ["unassalpha"],
                compression="zlib",
                predictor=True,
                iccprofile=frame.metadata.icc,
                resolution=frame.metadata.density,
                resolutionunit="INCH" if frame.metadata.density else None,
                metadata=None,
                description=frame.metadata.texts[0].text.encode() if frame.metadata.texts else None,
                extratags=[
                    (tag, 1, len(data), data, True)  # 1: bytes
                    for tag, data in ((_XMP_TAG, frame.metadata.xmp), (_IPTC_TAG, frame.metadata.iptc))
                    if data
                ],
            )
    return target.getvalue()
