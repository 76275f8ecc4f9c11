"""Training pairs: random high-resolution crops with their low-resolution versions.

A batch is a pure function of the seed and its number. A resumed run therefore continues with exactly the batches of an
uninterrupted one, and every process of a distributed run can compute its own part.
"""

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.cache import PixelCache
from srgan_fast.data.companions import Companions
from srgan_fast.data.degradations import Degradations
from srgan_fast.data.resize import downscale_region
from srgan_fast.data.second_order import MARGIN, SecondOrder
from srgan_fast.errors import DataError


class CropSampler:
    """Draws crops uniformly from all positions in all images, so that pixels have equal weight in images of any size.

    Crops may start at any pixel, not only at multiples of the scale; the low-resolution grid shifts with them. Targets
    and given low-resolution images were computed on the grid of the whole image; with them, crops start at multiples of
    the scale. One of the eight symmetries of the square is then applied to each pair and its target.

    Args:
        cache: decoded images.
        crop: side of a high-resolution crop in pixels, a multiple of `scale`.
        scale: downscaling factor.
        batch: number of pairs in a batch.
        seed: seed of the run.
        degradations: degradations of low-resolution images in addition to downscaling; none if None.
        targets: images of the originals' size that a network is trained to approximate.
        low: low-resolution versions of the originals, used instead of downscaling them.

    Attributes:
        too_small: paths of images that are smaller than a crop, which are ignored.

    Raises:
        DataError: the crop is not a multiple of the scale, all images are smaller than a crop, or degradations are
            combined with given low-resolution images.
    """

    def __init__(
        self,
        cache: PixelCache,
        crop: int = 96,
        scale: int = 4,
        batch: int = 16,
        seed: int = 0,
        degradations: Degradations | None = None,
        targets: Companions | None = None,
        low: Companions | None = None,
    ) -> None:
        if crop < scale or crop % scale:
            raise DataError(f"crop is {crop} pixels; it must be a multiple of the scale {scale}")
        if batch < 1:
            raise DataError(f"batch is {batch}; it must be at least 1")
        self._cache, self.crop, self.scale, self.batch, self.seed = cache, crop, scale, batch, seed
        self._degradations = degradations or Degradations()
        if low is not None and self._degradations != Degradations():
            raise DataError("given low-resolution images are not degraded; leave out one of the two")
        self._targets, self._low = targets, low
        self._grid = 1 if targets is None and low is None else scale
        places = np.array([self._starts(i.height) * self._starts(i.width) for i in cache.images], dtype=np.int64)
        self.too_small = [i.path for i, count in zip(cache.images, places, strict=True) if count == 0]
        self._ends = np.cumsum(places)
        if self._ends.size == 0 or self._ends[-1] == 0:
            raise DataError(f"every image is smaller than a crop of {crop}x{crop}; lower the crop size")

    def _starts(self, side: int) -> int:
        """Number of positions of a crop along a side."""
        return max(0, (side - self.crop) // self._grid + 1)

    def __call__(self, number: int, part: range | None = None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Computes batch `number` of the run.

        Args:
            number: index of the batch, from 0.
            part: indices of the pairs to compute; all if None. A pair does not depend on the part that contains it.

        Returns:
            hr of shape N, crop, crop, 3 and lr of shape N, crop / scale, crop / scale, 3; uint8.
        """
        hr, lr, _ = self.with_targets(number, part)
        return hr, lr

    def with_targets(
        self, number: int, part: range | None = None
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Batch `number` as from `__call__`, and the same crops of the targets; None if there are no targets."""
        wanted = range(self.batch) if part is None else part
        low = self.crop // self.scale
        hr = np.empty((len(wanted), self.crop, self.crop, 3), np.uint8)
        lr = np.empty((len(wanted), low, low, 3), np.uint8)
        targets = None if self._targets is None else np.empty_like(hr)
        for n, pair in enumerate(wanted):
            hr[n], lr[n], target = self._pair(np.random.default_rng((self.seed, number, pair)))
            if targets is not None and target is not None:
                targets[n] = target
        return hr, lr, targets

    def _pair(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8] | None]:
        place = int(rng.integers(self._ends[-1]))
        index = int(np.searchsorted(self._ends, place, side="right"))
        image = self._cache[index]
        place -= int(self._ends[index - 1]) if index else 0
        top, left = (self._grid * start for start in divmod(place, self._starts(image.shape[1])))
        symmetry = int(rng.integers(8))
        hr = _cut(image, top, left, self.crop)
        if self._low is None and self._degradations.second_order is not None:
            lr = self._degraded(self._degradations.second_order, image, top, left, rng)
        elif self._low is None:
            lr = self._degradations.add_noise_and_jpeg(self._shrunk(image, top, left, rng), rng)
        else:
            scale = self.scale
            lr = _cut(self._low[index], top // scale, left // scale, self.crop // scale)
        target = None if self._targets is None else _cut(self._targets[index], top, left, self.crop)
        return turn(hr, symmetry), turn(lr, symmetry), None if target is None else turn(target, symmetry)

    def _shrunk(self, image: NDArray[np.uint8], top: int, left: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """The low-resolution version of a crop; the image is blurred first if degradations include blur."""
        if self._degradations.blurs:
            # The halo that blur and resize depend on.
            margin = self._degradations.margin + 4 * self.scale
            rows = slice(max(0, top - margin), top + self.crop + margin)
            columns = slice(max(0, left - margin), left + self.crop + margin)
            image = self._degradations.blur_original(image[rows, columns], rng)
            top, left = top - rows.start, left - columns.start
        return downscale_region(image, top, left, self.crop, self.crop, self.scale)

    def _degraded(
        self, second_order: SecondOrder, image: NDArray[np.uint8], top: int, left: int, rng: np.random.Generator
    ) -> NDArray[np.uint8]:
        """The low-resolution version of a crop after two rounds of degradations, computed with a halo.

        The halo is a whole number of low-resolution pixels on each side.
        """
        scale = self.scale
        most = -(-MARGIN // scale)
        above, before = min(most, top // scale), min(most, left // scale)
        below, after = (
            min(most, (side - start - self.crop) // scale)
            for side, start in zip(image.shape[:2], (top, left), strict=True)
        )
        part = image[
            top - above * scale : top + self.crop + below * scale,
            left - before * scale : left + self.crop + after * scale,
        ]
        low = second_order.degraded(part, scale, rng)
        side = self.crop // scale
        return low[above : above + side, before : before + side]


def _cut(image: NDArray[np.uint8], top: int, left: int, side: int) -> NDArray[np.uint8]:
    return image[top : top + side, left : left + side]


def turn(image: NDArray[np.uint8], symmetry: int) -> NDArray[np.uint8]:
    """Applies one of the square's eight symmetries to an H, W, C image.

    Args:
        image: H, W, C.
        symmetry: 0..7; bit 0 reverses the rows, bit 1 the columns, bit 2 then swaps the axes.
    """
    if symmetry & 1:
        image = image[::-1]
    if symmetry & 2:
        image = image[:, ::-1]
    return image.transpose(1, 0, 2) if symmetry & 4 else image
