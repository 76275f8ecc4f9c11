"""Processing by rows: buffers an image's rows, prepares them for a network, and assembles rows of the result."""

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.images import Image, NextRows, Pixels, RowSource
from srgan_fast.runtime.borders import extended_index
from srgan_fast.runtime.strength import CONTEXT, blend, interpolate_rows
from srgan_fast.runtime.transparency import REACH, fill_transparent

_PASS = 64  # rows that are read at a time to compute the mean colour


class Window:
    """Buffer of an image's rows for several readers, each of which moves from top to bottom independently.

    Args:
        following: returns the given number of next rows.
        readers: number of readers; their indices start at 0.
        slack: number of rows that a reader may go back.

    Attributes:
        end: number of rows that have been read from the image.
    """

    def __init__(self, following: NextRows, readers: int = 1, slack: int = 0) -> None:
        self.following, self.slack = following, slack
        self._marks = [0] * readers
        self._strips: list[Image] = []
        self._first = self.end = 0

    def rows(self, first: int, end: int, reader: int = 0) -> Image:
        """Rows `first` to `end` (exclusive); rows that no reader needs any more are dropped."""
        if end > self.end:
            self._strips.append(self.following(end - self.end))
            self.end = end
        self._marks[reader] = max(self._marks[reader], first - self.slack)
        while self._first + self._strips[0].height <= min(self._marks):
            self._first += self._strips.pop(0).height
        pixels, alphas = [], []
        at = self._first
        for strip in self._strips:
            part = slice(max(first - at, 0), max(end - at, 0))
            at += strip.height
            pixels.append(strip.pixels[part])
            if strip.alpha is not None:
                alphas.append(strip.alpha[part])
        return Image(np.concatenate(pixels), np.concatenate(alphas) if alphas else None, strip.metadata)


class Feed:
    """Prepares rows of an image for a network, and converts rows of the network's result to rows of the final result.

    Args:
        source: the image.
        channels: channels of the network; with one channel, the image must be gray.
        scale: scale of the network.
        margin: width of the repeated border in pixels.
        multiple: factor of the network's pixel-unshuffle; extended sides are multiples of it.
        strength: weight of the network's result, see `runtime.strength`; must be 1 for images with alpha.
    """

    def __init__(
        self, source: RowSource, channels: int, scale: int, margin: int, multiple: int, strength: float = 1.0
    ) -> None:
        self.source, self.channels, self.scale, self.margin = source, channels, scale, margin
        self._strength = strength
        self._rows = extended_index(source.height, margin, multiple)
        self._columns = extended_index(source.width, margin, multiple)
        self.height, self.width = len(self._rows), len(self._columns)
        self._hidden = _visible_mean(source, channels) if source.has_alpha else None
        self._reach = 0 if self._hidden is None else REACH
        self._interpolates_alpha = source.has_alpha and channels != 4
        readers = 2 if self._interpolates_alpha or strength < 1 else 1
        self._window = Window(source.begin(), readers, multiple + self._reach)

    def read(self, first: int, rows: int) -> Pixels:
        """Rows of the extended image, with the network's channels."""
        index = self._rows[first : first + rows]
        low, high = int(index.min()), int(index.max()) + 1
        begin, end = max(0, low - self._reach), min(self.source.height, high + self._reach)
        strip = self._window.rows(begin, end)
        image = self._network_channels(strip)[low - begin : high - begin]
        return image[index - low][:, self._columns]

    def _network_channels(self, strip: Image) -> Pixels:
        colours = strip.pixels if self.channels == 1 else strip.rgb()
        if self._hidden is not None and strip.alpha is not None:
            colours = fill_transparent(colours, strip.alpha, hidden=self._hidden)
        if self.channels != 4:
            return colours
        white = np.iinfo(colours.dtype).max
        alpha = np.full(colours.shape[:2], white, colours.dtype) if strip.alpha is None else strip.alpha
        return np.concatenate([colours, alpha[..., None]], axis=2)

    def result(self, first: int, pixels: Pixels) -> Image | None:
        """Converts rows of the extended image's result to rows of the final result.

        Args:
            first: index of the first row in the extended image's result.
            pixels: the rows.

        Returns:
            The rows without borders; None if all of them belong to the border.
        """
        s = self.scale
        top, left = self.margin * s, self.margin * s
        begin, end = (min(max(y - top, 0), self.source.height * s) for y in (first, first + len(pixels)))
        if begin >= end:
            return None
        part = pixels[begin + top - first : end + top - first, left : left + self.source.width * s]
        if self._strength < 1:
            part = blend(part, self._interpolated_rows(begin, end).pixels, self._strength)
        alpha: Pixels | None = None
        if self.source.has_alpha:
            alpha = (
                self._interpolated_rows(begin, end).alpha
                if self._interpolates_alpha
                else np.ascontiguousarray(part[..., 3])
            )
        if self.channels == 4:
            part = part[..., :3]
        if self.source.is_gray and part.shape[2] > 1:
            part = gray_of(part)
        return Image(part, alpha, self.source.metadata)

    def _interpolated_rows(self, begin: int, end: int) -> Image:
        """Rows `begin` to `end` (exclusive) of the interpolated image; alpha is interpolated if there is any."""
        s = self.scale
        low, high = max(0, begin // s - CONTEXT), min(self.source.height, -(-end // s) + CONTEXT)
        strip, part = self._window.rows(low, high, 1), slice(begin, end)
        if strip.alpha is not None:
            return Image(strip.pixels, interpolate_rows(strip.alpha[..., None], low, part, s)[..., 0])
        colours = strip.pixels if self.channels == 1 else strip.rgb()
        return Image(interpolate_rows(colours, low, part, s))


def can_interpolate(scale: int) -> bool:
    """Whether interpolation by rows gives the same result as interpolation of the whole image, bit for bit."""
    return scale & (scale - 1) == 0  # sample positions of powers of two are exact in binary


def gray_of(pixels: Pixels) -> Pixels:
    """Mean of a network's three channels, its best estimate of gray; they differ by less than its error."""
    mean = np.rint(pixels.mean(axis=2, keepdims=True, dtype=np.float32))
    result: Pixels = mean.astype(pixels.dtype)
    return result


def _visible_mean(source: RowSource, channels: int) -> NDArray[np.float64] | None:
    """Mean colour of the pixels that are not fully transparent; None if no pixel is, or all are, fully transparent."""
    following = source.begin()
    total, count = np.zeros(1 if channels == 1 else 3), 0
    for first in range(0, source.height, _PASS):
        strip = following(min(_PASS, source.height - first))
        assert strip.alpha is not None
        known = strip.alpha > 0
        colours = strip.pixels if channels == 1 else strip.rgb()
        total += colours[known].sum(axis=0, dtype=np.uint64)
        count += int(known.sum())
    return None if count in (0, source.height * source.width) else total / count
