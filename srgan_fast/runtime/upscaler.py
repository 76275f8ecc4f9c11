"""Upscaling of arrays of any size with a model and a runtime."""

import copy
import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Literal, ParamSpec, TypedDict, TypeVar

import numpy as np
from numpy.typing import NDArray

from srgan_fast import memory
from srgan_fast.data.images import Image, Pixels, RowSource
from srgan_fast.data.resize import resize_bicubic
from srgan_fast.errors import BackendError, ImageError, ModelError, SrganFastError, UsageError
from srgan_fast.models import DEFAULT_MODEL, ModelFile, read_model
from srgan_fast.models.sharpness import with_sharpness
from srgan_fast.network.analysis import receptive_radius, scale_of
from srgan_fast.network.interpreter import pad_to_multiple
from srgan_fast.runtime import Precision, RequestedPrecision, choose_precision, create_backend
from srgan_fast.runtime.borders import MARGIN, crop_in_place, extend, inside
from srgan_fast.runtime.protocol import (
    FloatImages,
    LimitedBackend,
    OnBuild,
    PixelBackend,
    RowsBackend,
    SharingBackend,
    TilingBackend,
)
from srgan_fast.runtime.registry import first_line, usable_cpus
from srgan_fast.runtime.rows import Feed, Window, can_interpolate, gray_of
from srgan_fast.runtime.strength import blend_in_place, checked_strength
from srgan_fast.runtime.tiling import Tile, choose_halo, plan_tiles
from srgan_fast.runtime.transparency import fill_transparent

Pixel = TypeVar("Pixel", bound=np.uint8 | np.uint16)
_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")
OnTile = Callable[[Tile], None]
Border = Literal["repeat", "zero"]

_PATTERN_SIDE = 32  # side in pixels of the random image with which a model is checked


class UpscalerOptions(TypedDict, total=False):
    """Arguments of `Upscaler` that determine its results, except the model."""

    backend: str
    precision: RequestedPrecision
    tile: int | None
    halo: int | None
    border: Border
    strength: float
    sharpness: float | None


class Upscaler:
    """A model on a runtime, ready to upscale images.

    Args:
        model: Name of a model, path of a model file (see `read_model`), or a model that was read.
        backend: Name of a backend, or `auto`.
        precision: Precision of the computation; `auto` is fp16 with the `cuda` backend, else fp32.
        threads: Number of CPU threads; all that this process may use if None.
        tile: Side of a tile in low-resolution pixels; 0 for no tiling; if None, chosen to bound memory. The native
            backend does not need tiles.
        halo: Context around a tile in low-resolution pixels; if None, the network's receptive radius, or 32 if that
            exceeds 64.
        border: Padding at image borders: `repeat` repeats border pixels, `zero` is the network's zero padding, which
            changes colours near the border. `run` always pads with zeros.
        strength: Weight of the network's result, 0..1; the rest is bicubic interpolation. `run` ignores it.
        sharpness: 0..1, between a bundled faithful model (0) and its sharp partner (1); None for the model itself.
        on_build: Called with the progress of a backend that builds an engine first, which can take minutes.

    Attributes:
        model: Name of the model.
        network: The list of convolutions.
        backend: The backend that computes it.
        precision: Precision of the computation.
        threads: Number of CPU threads.
        tile: Requested side of a tile.
        halo: Context around a tile in low-resolution pixels.
        strength: Weight of the network's result.

    Raises:
        ModelError: The model cannot be read, or its result for a test image is not finite or constant.
        BackendError: The backend is not installed or cannot run the model.
        UsageError: Negative tile or halo, an unknown border, a strength or sharpness outside 0..1, or a sharpness for
            a model without a partner.
    """

    def __init__(
        self,
        model: str | Path | ModelFile = DEFAULT_MODEL,
        *,
        backend: str = "auto",
        precision: RequestedPrecision = "auto",
        threads: int | None = None,
        tile: int | None = None,
        halo: int | None = None,
        border: Border = "repeat",
        strength: float = 1.0,
        sharpness: float | None = None,
        on_build: OnBuild | None = None,
    ) -> None:
        if tile is not None and tile < 0:
            raise UsageError(f"tile is {tile}; it must be 0 (no tiles) or a number of pixels")
        if border not in ("repeat", "zero"):
            raise UsageError(f"border is {border!r}; it must be repeat or zero")
        self.strength = checked_strength(strength)
        file = model if isinstance(model, ModelFile) else read_model(model)
        if sharpness is not None:
            file = with_sharpness(file, sharpness)
        self.model = file.name
        self.network = file.network
        self._scale = scale_of(file.network)
        self.tile = tile
        radius = receptive_radius(file.network)
        self.halo = choose_halo(radius, halo)
        self._margin = min(radius, MARGIN) if border == "repeat" else 0
        self.precision: Precision = choose_precision(precision, backend)
        self.backend = create_backend(file, backend, self.precision, threads, on_build)
        if isinstance(self.backend, TilingBackend):
            self.backend.halo = self.halo
        self._check_model(file)
        self.threads = threads or usable_cpus()
        self._choose_paths()

    def _choose_paths(self) -> None:
        # A backend that bounds its memory itself gets whole images.
        self._pixel_backend = self.backend if isinstance(self.backend, PixelBackend) and not self.tile else None
        self._rows_backend = self.backend if isinstance(self.backend, RowsBackend) and not self.tile else None

    def siblings(self, count: int) -> "list[Upscaler]":
        """Upscalers that can run at the same time; they divide the threads and share one copy of the weights.

        Results are bit-identical. The list is empty for a count of 1 and for backends without such engines.
        """
        if count < 2 or not isinstance(self.backend, SharingBackend):
            return []
        made = [copy.copy(self) for _ in range(count)]
        for i, one in enumerate(made):
            # The first ones get the remaining threads.
            one.threads = max(1, self.threads // count + (i < self.threads % count))
            one.backend = self.backend.sibling(one.threads)
            one._choose_paths()
        return made

    def working_memory(self, height: int, width: int) -> int:
        """Bytes that the backend needs in addition to an image of that size and its result; 0 if unknown."""
        if self._pixel_backend is None:
            return 0
        step, margin = self.network.unshuffle, 2 * self._margin
        height, width = (-(-(side + margin) // step) * step for side in (height, width))
        return self._pixel_backend.working_memory(height, width)

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self._scale

    def __call__(self, image: NDArray[Pixel], on_tile: OnTile | None = None) -> NDArray[Pixel]:
        """Upscales an image.

        Args:
            image: Array of shape (H, W, C) with the network's channels (RGB for 3), uint8 or uint16, full range.
            on_tile: Called with each finished tile.

        Returns:
            Array of shape (scale * H, scale * W, C) and the same dtype, rounded and clamped.

        Raises:
            ImageError: Wrong shape or dtype, or not enough memory for the result.
            BackendError: The runtime failed.
        """
        if image.dtype not in (np.uint8, np.uint16):
            raise ImageError(f"pixels must be uint8 or uint16, got {image.dtype}; for float images use .run()")
        channels = self.network.channels
        if image.ndim != 3 or image.shape[2] != channels or image.size == 0:
            raise ImageError(f"an image must have shape (H, W, {channels}) with H, W >= 1, got {image.shape}")
        height, width = image.shape[:2]
        margin, s = self._margin, self.scale
        self._check_memory(height, width, image.dtype.itemsize)
        whole = extend(image, margin, self.network.unshuffle)
        result: NDArray[Pixel]
        if whole.shape == image.shape:
            result = self._upscaled(image, on_tile)
        else:
            report = None if on_tile is None else lambda tile: on_tile(inside(tile, margin, height, width))
            extended = self._upscaled(np.ascontiguousarray(whole), report)
            result = crop_in_place(extended, margin * s, margin * s, height * s, width * s)
        if self.strength < 1:
            blend_in_place(result, image, self.strength, s)
        return result

    def _upscaled(self, image: NDArray[Pixel], on_tile: OnTile | None) -> NDArray[Pixel]:
        """Upscales an image without extending its borders."""
        height, width, channels = image.shape
        s = self.scale
        if self._pixel_backend is not None and self._has_memory(self._pixel_backend.working_memory(height, width)):
            return self._untiled(self._pixel_backend, image, on_tile)
        result = np.empty((height * s, width * s, channels), image.dtype)
        for tile in self._tiles(height, width):
            self._tile(image[tile.region], tile, result[tile.core(s)])
            if on_tile:
                on_tile(tile)
        return result

    def _tile(self, region: NDArray[Pixel], tile: Tile, target: NDArray[Pixel]) -> None:
        """Upscales the region of a tile into the tile's part of the result."""
        white = np.iinfo(region.dtype).max
        lr = np.ascontiguousarray(region.transpose(2, 0, 1)[None], np.float32) / np.float32(white)
        sr = self._core(lr, tile)[0].transpose(1, 2, 0)
        # Clipped before the multiplication, so that values outside 0..1 cannot overflow.
        target[...] = np.rint(np.clip(sr, 0.0, 1.0) * white)

    def run(self, x: FloatImages) -> FloatImages:
        """Upscales a batch of float images.

        Args:
            x: Array of shape (N, C, H, W) with the network's channels, float32 in 0..1.

        Returns:
            Array of shape (N, C, scale * H, scale * W), float32, nominally in 0..1, not clamped.

        Raises:
            ImageError: Wrong shape or dtype, values that are not finite, or not enough memory for the result.
            BackendError: The runtime failed.
        """
        if x.dtype != np.float32:
            raise ImageError(f"images must be float32, got {x.dtype}")
        channels = self.network.channels
        if x.ndim != 4 or x.shape[1] != channels or x.size == 0:
            raise ImageError(f"images must have shape (N, {channels}, H, W) with N, H, W >= 1, got {x.shape}")
        if not np.isfinite(x).all():
            raise ImageError("images hold values that are not finite (NaN or infinity)")
        count, _, height, width = x.shape
        s = self.scale
        padded = pad_to_multiple(x, self.network.unshuffle)
        if padded.shape != x.shape:
            return np.ascontiguousarray(self.run(padded)[:, :, : height * s, : width * s])
        self._check_memory(count * height, width, x.dtype.itemsize)
        result = np.empty((count, channels, height * s, width * s), np.float32)
        whole = self._pixel_backend is not None and self._has_memory(self._pixel_backend.working_memory(height, width))
        tiles = plan_tiles(height, width, 0, 0) if whole else self._tiles(height, width)
        for tile in tiles:
            region, target = x[:, :, *tile.region], result[:, :, *tile.core(s)]
            for n in range(count):  # one at a time: batches take more memory and are no faster on a CPU
                target[n : n + 1] = self._core(np.ascontiguousarray(region[n : n + 1]), tile)
        return result

    def upscale(self, image: Image, outscale: float | None = None, on_tile: OnTile | None = None) -> Image:
        """Upscales a decoded image, gray, colour or transparent, with its metadata.

        Gray images remain gray. Alpha is resized by bicubic interpolation, or computed by the network if it has four
        channels. The colours of fully transparent pixels, which are often arbitrary, are replaced by those of their
        neighbours first, so that they do not bleed into visible edges. A network with one channel computes one colour
        channel at a time.

        Args:
            image: The image.
            outscale: Final factor; None for the model's own. The result is resized to it (bicubic, antialiased).
            on_tile: Called with each finished tile.

        Raises:
            ImageError: An outscale that leaves no pixels, or not enough memory for the result.
            BackendError: The runtime failed.
        """
        factor = float(self.scale) if outscale is None else outscale
        if not (math.isfinite(factor) and factor > 0):
            raise ImageError(f"outscale is {factor:g}; it must be a number above 0")
        height, width = round(image.height * factor), round(image.width * factor)
        if height < 1 or width < 1:
            raise ImageError(f"outscale {factor:g} leaves nothing of an image of {image.width}x{image.height} pixels")
        self._check_memory(image.height, image.width, image.pixels.dtype.itemsize, factor)
        pixels, alpha = self._pixels(image, on_tile)
        if image.is_gray and pixels.shape[2] > 1:
            pixels = gray_of(pixels)
        if pixels.shape[:2] != (height, width):
            pixels = resize_bicubic(pixels, height, width)
        if alpha is not None and alpha.shape != (height, width):
            alpha = resize_bicubic(alpha, height, width)
        return Image(pixels, alpha, image.metadata)

    def supports_rows(self, is_gray: bool, has_alpha: bool) -> bool:
        """Whether `upscale_rows` can process images of this kind.

        A network with one channel reads a colour image once per channel. Interpolation by rows, of alpha and of colours
        for a strength below 1, equals interpolation of the whole image bit for bit only for powers of two. A strength
        below 1 is not supported for transparent images.
        """
        channels = self.network.channels
        if self.strength < 1 and (has_alpha or not can_interpolate(self.scale)):
            return False
        return (is_gray or channels != 1) and (not has_alpha or channels == 4 or can_interpolate(self.scale))

    def upscale_rows(self, source: RowSource, write: Callable[[Image], None], on_tile: OnTile | None = None) -> None:
        """Upscales an image by rows, with the same result as `upscale`, bit for bit.

        Memory depends on the image's width, not on its height. Exceptions raised by the callbacks end the computation.

        Args:
            source: The image; read twice if it has alpha.
            write: Called with the next rows of the result.
            on_tile: Called after rows were written, with the part of the image to which they correspond.

        Raises:
            ImageError: An unsupported image (see `supports_rows`), or not enough memory.
            BackendError: The runtime failed.
        """
        if not self.supports_rows(source.is_gray, source.has_alpha):
            raise ImageError(f"{self.model} at x{self.scale} cannot process such an image by rows; use .upscale()")
        s, margin = self.scale, self._margin
        feed = Feed(source, self.network.channels, s, margin, self.network.unshuffle, self.strength)

        def take(first: int, pixels: Pixels) -> None:
            part = feed.result(first, pixels)
            if part is not None:
                write(part)
            if on_tile:
                end = (first + len(pixels)) // s
                tile = Tile(first // s, end, 0, feed.width, first // s, end, 0, feed.width)
                on_tile(inside(tile, margin, source.height, source.width))

        backend = self._rows_backend
        if backend is not None and self._has_memory(backend.rows_memory(feed.height, feed.width, source.dtype)):
            self._by_rows(backend, feed, take)
        else:
            self._by_bands(feed, take)

    def _by_rows(self, backend: RowsBackend, feed: Feed, take: Callable[[int, Pixels], None]) -> None:
        raised: BaseException | None = None

        def guarded(call: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
            def guarded(*arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result:
                nonlocal raised
                try:
                    return call(*arguments, **options)
                except BaseException as error:
                    raised = error
                    raise

            return guarded

        try:
            backend.upscale_rows(feed.height, feed.width, feed.source.dtype, guarded(feed.read), guarded(take))
        except (SrganFastError, MemoryError):
            raise
        except Exception as error:
            if error is raised:  # raised by the caller's callback, not by the backend
                raise
            raise BackendError(
                f"{backend.name} failed on {feed.width}x{feed.height} pixels ({first_line(error)})"
            ) from error

    def _by_bands(self, feed: Feed, take: Callable[[int, Pixels], None]) -> None:
        """Computes one row of tiles at a time, and passes on its pixel rows."""
        s, channels = self.scale, self.network.channels
        tiles = self._tiles(feed.height, feed.width)
        halo = max(tile.top - tile.region_top for tile in tiles)
        need = max(tile.bottom - tile.top for tile in tiles) * feed.width * s**2 * channels * feed.source.dtype.itemsize
        have = memory.available()
        if have is not None and need > have:
            raise ImageError(
                f"a band of tiles across {feed.source.width} pixels needs {need / 2**30:.1f} GiB, "
                f"{have / 2**30:.1f} GiB are available; give a smaller tile"
            )
        window = Window(lambda rows: Image(feed.read(window.end, rows)), slack=halo)
        for top, beside in itertools.groupby(tiles, lambda tile: tile.top):
            row = list(beside)
            first, end = row[0].region_top, row[0].region_bottom
            pixels = window.rows(first, end).pixels
            band = np.empty(((row[0].bottom - top) * s, feed.width * s, channels), feed.source.dtype)
            for tile in row:
                region = pixels[:, tile.region_left : tile.region_right]
                self._tile(region, tile, band[:, tile.left * s : tile.right * s])
            take(top * s, band)

    def _pixels(self, image: Image, on_tile: OnTile | None) -> tuple[Pixels, Pixels | None]:
        """Colours from the network, and alpha, which is the image's unless the network has four channels."""
        rgb, alpha = image.pixels if self.network.channels == 1 else image.rgb(), image.alpha
        if alpha is not None:
            rgb = fill_transparent(rgb, alpha)
        if self.network.channels == 3:
            return self(rgb, on_tile), alpha
        if self.network.channels == 1:
            planes = [self(np.ascontiguousarray(rgb[..., i : i + 1]), on_tile) for i in range(rgb.shape[2])]
            return np.concatenate(planes, axis=2), alpha
        opaque = np.full(rgb.shape[:2], np.iinfo(rgb.dtype).max, rgb.dtype) if alpha is None else alpha
        result = self(np.concatenate([rgb, opaque[..., None]], axis=2), on_tile)
        return np.ascontiguousarray(result[..., :3]), None if alpha is None else np.ascontiguousarray(result[..., 3])

    def _check_model(self, file: ModelFile) -> None:
        """Checks the result for a random image: finite weights may overflow, and untrained ones may all be zero."""
        sides = (_PATTERN_SIDE, _PATTERN_SIDE)  # a multiple of every pixel-unshuffle
        pattern = np.random.default_rng(0).random((1, file.network.channels, *sides), np.float32)
        with np.errstate(all="ignore"):
            result = self._run(pattern)
        if not np.isfinite(result).all():
            raise ModelError(
                f"{file.path or file.name}: its result is not finite in {self.precision}: weights are too large; "
                f"the file is damaged, training diverged, or it needs another precision"
            )
        if np.ptp(result) == 0:
            raise ModelError(
                f"{file.path or file.name}: its result is the same everywhere, whatever the image; the file is damaged "
                f"or was never trained"
            )

    def _untiled(self, backend: PixelBackend, image: NDArray[Pixel], on_tile: OnTile | None) -> NDArray[Pixel]:
        height, width = image.shape[:2]
        done = 0
        raised: BaseException | None = None

        def report(rows: int) -> None:
            nonlocal done, raised
            began, done = done, rows // self.scale
            if on_tile and done > began:
                try:
                    on_tile(Tile(began, done, 0, width, 0, height, 0, width))
                except BaseException as error:
                    raised = error
                    raise

        try:
            return backend.upscale(image, report)
        except (SrganFastError, MemoryError):
            raise
        except Exception as error:
            if error is raised:  # raised by the caller's callback, not by the backend
                raise
            raise BackendError(f"{backend.name} failed on {width}x{height} pixels ({first_line(error)})") from error

    def _tiles(self, height: int, width: int) -> list[Tile]:
        """Plans tiles of the requested size, or of the largest size that the backend supports.

        Raises:
            UsageError: The requested tiles are too large for the backend.
        """
        multiple = self.network.unshuffle
        tiles = plan_tiles(height, width, self.halo, self.tile, multiple)
        if not isinstance(self.backend, LimitedBackend):
            return tiles
        limit = self.backend.largest_side
        if all(max(t.region_bottom - t.region_top, t.region_right - t.region_left) <= limit for t in tiles):
            return tiles
        largest = limit - 2 * (self.halo + multiple - 1)
        if self.tile is not None or largest < 1:
            what = (
                f"backend {self.backend.name} accepts images of at most {limit}x{limit} including a halo of {self.halo}"
            )
            advice = f"give a tile of at most {largest}, or none" if largest > 0 else "use another backend"
            raise UsageError(f"tile is {self.tile}; {what}: {advice}")
        return plan_tiles(height, width, self.halo, largest, multiple)

    def _core(self, lr: FloatImages, tile: Tile) -> FloatImages:
        """Upscales a tile's region and cuts the halo off."""
        return self._run(lr)[:, :, *tile.core_in_region(self.scale)]

    def _run(self, lr: FloatImages) -> FloatImages:
        try:
            return self.backend.run(lr)
        except (SrganFastError, MemoryError):
            raise
        except Exception as error:  # each runtime raises its own exceptions
            raise BackendError(
                f"{self.backend.name} failed on {lr.shape[3]}x{lr.shape[2]} pixels ({first_line(error)}); "
                f"if memory ran out, try a smaller tile"
            ) from error

    def _has_memory(self, need: int) -> bool:
        """Whether a backend may use that many bytes; if not, tiles bound its memory."""
        have = memory.available()
        return have is None or need < have / 2

    def _check_memory(self, height: int, width: int, item: int, outscale: float = 0.0) -> None:
        factor = max(float(self.scale), outscale)
        need = int(height * width * self.network.channels * item * (1 + factor**2))
        have = memory.available()
        if have is not None and need > have:
            raise ImageError(
                f"an image of {width}x{height} pixels at x{factor:g} needs {need / 2**30:.1f} GiB, "
                f"{have / 2**30:.1f} GiB are available; cut it into parts"
            )
