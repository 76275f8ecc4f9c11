"""Encoding by rows: writes the same files as `encode`, without the whole image in memory.

libvips requests pixels in an order and at times that it chooses, unless it reads them from a file. Rows are therefore
passed to it as a virtual uncompressed TIFF, and its encoder runs in a thread that waits for them.
"""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, BinaryIO, ParamSpec, Self, TypeVar

import numpy as np
import pyvips

from srgan_fast.data.image_files import exif, jpeg, png, tiff
from srgan_fast.data.image_files.encode import (
    check_size,
    jpeg_options,
    lost,
    on_white,
    png_options,
    prepared,
    reason,
    space_of,
    tiff_described,
    tiff_options,
    to_8_bits,
)
from srgan_fast.data.image_files.forks import check_not_forked
from srgan_fast.data.image_files.formats import TRAITS, Format
from srgan_fast.data.image_files.image import Image, Metadata
from srgan_fast.data.image_files.libvips_messages import libvips_users
from srgan_fast.errors import ImageError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
_Wrong = TypeVar("_Wrong")

ROW_FORMATS: tuple[Format, ...] = ("png", "jpg", "tif")
_STRIP = 16  # rows per strip of the TIFF that libvips reads
# Rows of up to `_WHOLE_STRIP` bytes are passed to the encoder in one piece, which it encodes while the next rows are
# computed; larger ones are passed in pieces of `_PIECE` bytes.
_WHOLE_STRIP, _PIECE = 16 << 20, 4 << 20


class RowWriter:
    """Encodes an image whose rows are written from top to bottom; a context manager that always ends the encoder.

    Args:
        file: output file, which must also be readable; nothing else may use it before the context ends.
        fmt: one of `ROW_FORMATS`.
        height: number of rows of the image.
        width: number of columns of the image.
        like: image of any size with the same dtype and channels; its metadata is written.
        quality: see `encode`.
        compression: see `encode`.

    Raises:
        ImageError: the image is too large for the format.
    """

    def __init__(
        self,
        file: BinaryIO,
        fmt: Format,
        height: int,
        width: int,
        like: Image,
        quality: int = 95,
        compression: int | None = None,
    ) -> None:
        check_size(fmt, width, height)
        self.file, self.fmt, self.height, self.width = file, fmt, height, width
        self.quality, self.compression = quality, compression
        self.like = like
        self.ready = prepared(_pixel_of(like, transparent=False), fmt, [])
        self.written, self.transparent, self.more = 0, False, list[str]()
        bands = self.ready.pixels.shape[2] + (self.ready.alpha is not None)
        bits = 8 * self.ready.pixels.itemsize
        head = tiff.head_of_raw(width, height, bands, bits, min(_STRIP, height))
        self.feed = _Feed(head, len(head) + height * width * bands * bits // 8)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._encode, name="encoder", daemon=True)
        self.thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.feed.end()
        self.thread.join()

    def write(self, rows: Image) -> None:
        """Encodes the next rows.

        Raises:
            ImageError: the encoder failed.
            OSError: the file cannot be written.
        """
        if rows.alpha is not None and not TRAITS[self.fmt].alpha:
            self.transparent |= bool((rows.alpha < np.iinfo(rows.alpha.dtype).max).any())
        if rows.pixels.dtype != self.ready.pixels.dtype:
            rows = to_8_bits(rows)
        self.written += rows.height
        samples = rows.pixels.shape[2] + (rows.alpha is not None)
        line = self.width * samples * rows.pixels.itemsize
        # A copy of many rows at once would take more memory than anything except the network.
        step = rows.height if rows.height * line <= _WHOLE_STRIP else max(1, _PIECE // line)
        for first in range(0, rows.height, step):
            part = slice(first, first + step)
            array = rows.pixels[part]
            if rows.alpha is not None:
                array = np.concatenate([array, rows.alpha[part, :, None]], axis=2)
            if not self.feed.put(memoryview(np.ascontiguousarray(array).data).cast("B")):
                self._join()

    def finish(self) -> tuple[str, ...]:
        """Waits for the encoder after the last row.

        Returns:
            Contents of the image that were dropped, as in `Encoded.notes`.

        Raises:
            ImageError: the encoder failed.
            OSError: the file cannot be written.
        """
        if self.written != self.height:
            raise ValueError(f"{self.written} rows of {self.height} were written")
        self._join()
        notes: list[str] = []
        metadata = prepared(_pixel_of(self.like, self.transparent), self.fmt, notes).metadata
        return (*notes, *lost(metadata, self.fmt), *self.more)

    def _join(self) -> None:
        self.thread.join()
        if self.failure is not None:
            raise self.failure

    def _encode(self) -> None:
        try:
            self._save()
            # libvips' caches may silently replace an error by black pixels.
            self.failure = self.feed.failure
        except pyvips.Error as error:
            self.failure = self.feed.failure or ImageError(f"cannot be encoded as {self.fmt} ({reason(error)})")
        except BaseException as error:
            self.failure = error
        finally:
            self.feed.close()

    def _save(self) -> None:
        check_not_forked()
        metadata = self.ready.metadata
        source = pyvips.SourceCustom()
        source.on_read(self.feed.guarded(self.feed.read, None))
        source.on_seek(self.feed.guarded(self.feed.seek, -1))
        with libvips_users.using():  # reads the header only, which needs no rows
            image = pyvips.Image.new_from_source(source, "", access="sequential", fail_on="error")
            gray, wide = self.ready.is_gray, self.ready.pixels.dtype == np.uint16
            image = _bare(image).copy(interpretation=space_of(wide, gray))
        if self.fmt == "tif":
            image = tiff_described(image, metadata)
            size = image.width * image.height * image.bands * self.ready.pixels.itemsize
            image.tiffsave_target(self._target(self.file), **tiff_options(metadata, size))
            if not metadata.density:
                tiff.remove_resolution(self.file)
            return
        head = _Head(self.file, self._describe(metadata))
        if self.fmt == "png":
            image.pngsave_target(self._target(head), **png_options(self.compression))
        else:
            flat = image if self.ready.alpha is None else on_white(image)
            flat.jpegsave_target(self._target(head), **jpeg_options(self.quality))
        head.finish()

    def _target(self, file: "BinaryIO | _Head") -> pyvips.TargetCustom:
        target = pyvips.TargetCustom()
        target.on_write(self.feed.guarded(file.write, -1))
        if not isinstance(file, _Head):
            target.on_read(self.feed.guarded(file.read, None))
            target.on_seek(self.feed.guarded(file.seek, -1))
        return target

    def _describe(self, metadata: Metadata) -> Callable[[bytes], bytes | None]:
        block = metadata.exif and exif.with_size(metadata.exif, self.width, self.height)

        def of_png(data: bytes) -> bytes | None:
            end = png.start_of_pixels(data)
            return None if end is None else png.write_png(data[:end], metadata, block) + data[end:]

        def of_jpeg(data: bytes) -> bytes | None:
            if not jpeg.has_metadata(data):
                return None
            result, self.more = jpeg.write_jpeg(data, metadata, block)
            return result

        return of_png if self.fmt == "png" else of_jpeg


def _pixel_of(like: Image, transparent: bool) -> Image:
    """A white image of one pixel with the same dtype, channels and metadata."""
    white = np.iinfo(like.pixels.dtype).max
    pixels = np.full((1, 1, like.pixels.shape[2]), white, like.pixels.dtype)
    alpha = None if like.alpha is None else np.full((1, 1), 0 if transparent else white, like.pixels.dtype)
    return Image(pixels, alpha, like.metadata)


def _bare(image: pyvips.Image) -> pyvips.Image:
    """Removes the metadata that libvips attached when reading the file."""
    image = image.copy()
    for name in ("n-pages", "resolution-unit", "orientation", "bits-per-sample", "vips-loader", "page-height"):
        if image.get_typeof(name):
            image.remove(name)
    return image


class _Head:
    """Buffers the beginning of a file until metadata can be inserted; later data are written directly.

    Args:
        file: output file.
        rewrite: inserts the metadata into the beginning of a file; returns None if it needs more of the file.
    """

    def __init__(self, file: BinaryIO, rewrite: Callable[[bytes], bytes | None]) -> None:
        self.file, self.rewrite = file, rewrite
        self.held: bytes | None = b""

    def write(self, data: Any) -> int:
        """Receives output of the encoder."""
        if self.held is None:
            return self.file.write(data)
        self.held += bytes(data)
        done = self.rewrite(self.held)
        if done is not None:
            self.file.write(done)
            self.held = None
        return len(data)

    def finish(self) -> None:
        """To be called after the last byte.

        Raises:
            ImageError: the output ended before the metadata could be inserted.
        """
        if self.held is not None:
            raise ImageError("cannot be encoded (the encoder wrote no pixels)")


class _Feed:
    """A virtual file that libvips reads: a header, followed by rows that another thread passes piece by piece.

    Args:
        head: header of the file.
        size: size of the whole file in bytes.
    """

    def __init__(self, head: bytes, size: int) -> None:
        self.head, self.size = memoryview(head), size
        self.failure: BaseException | None = None
        self._changed = threading.Condition()
        self._piece: memoryview | None = None
        self._begin = len(head)  # offset of the piece in the file
        self._place = 0
        self._ended = self._closed = False

    def put(self, piece: memoryview) -> bool:
        """Passes the next piece after the previous one was read; returns False if the encoder has ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._piece is None or self._closed)
            if self._closed:
                return False
            self._piece = piece
            self._changed.notify_all()
            return True

    def end(self) -> None:
        """Declares that no more pieces follow; the encoder fails if it needs more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Declares that the encoder has ended."""
        with self._changed:
            self._closed, self._piece = True, None
            self._changed.notify_all()

    def read(self, count: int) -> memoryview | None:
        """Reads at most `count` bytes from the current position; returns None at the end.

        Raises:
            ImageError: the rows ended early.
            RuntimeError: the position is outside the current piece.
        """
        place = self._place
        if place >= self.size:
            return None
        if place < len(self.head):
            data = self.head[place : place + count]
        else:
            with self._changed:
                self._changed.wait_for(lambda: self._piece is not None or self._ended)
                if self._piece is None:
                    raise ImageError("rows are missing")
                at = place - self._begin
                if not 0 <= at < len(self._piece):
                    raise RuntimeError(f"libvips reads at {place}, rows are at {self._begin}")
                data = self._piece[at : at + count]
                if at + len(data) == len(self._piece):
                    self._begin, self._piece = place + len(data), None
                    self._changed.notify_all()
        self._place += len(data)
        return data

    def seek(self, offset: int, whence: int) -> int:
        """Sets the position, as `seek` of a file does."""
        self._place = offset + (0, self._place, self.size)[whence]
        return self._place

    def guarded(self, call: Callable[_Arguments, _Result], wrong: _Wrong) -> Callable[_Arguments, _Result | _Wrong]:
        """Wraps a callback for libvips, which does not support exceptions.

        The first exception is stored as `failure`; the callback then returns `wrong`.
        """

        def guarded(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result | _Wrong:
            try:
                return call(*arguments, **options)
            except BaseException as error:
                self.failure = self.failure or error
                return wrong

        return guarded
