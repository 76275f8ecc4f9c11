"""Antialiased bicubic resizing, identical to MATLAB's, with which super-resolution data sets are defined."""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from srgan_fast import _imaging
from srgan_fast.errors import ImageError

Pixel = TypeVar("Pixel", bound=np.uint8 | np.uint16 | np.float32)

# Extension of the image beyond its borders. MATLAB mirrors since R2014; earlier versions, with which Set5, Set14 and
# most published low-resolution images were made, repeated the border pixels. Two low-resolution pixels at each border
# differ.
Edges = Literal["mirror", "replicate"]


def resize_bicubic(image: NDArray[Pixel], height: int, width: int, edges: Edges = "mirror") -> NDArray[Pixel]:
    """MATLAB's `imresize(image, [height width], 'bicubic')`, antialiased when shrinking.

    Integer images are rounded and saturated after each axis, as in MATLAB; float images are not clamped. Also equal to
    MATLAB's resizing by a scale *factor* if the factor divides the size exactly.

    Args:
        image: H, W or H, W, C with C in 1..4; uint8, uint16 or float32.
        height: number of rows of the result, >= 1.
        width: number of columns of the result, >= 1.
        edges: extension beyond the borders.

    Returns:
        A new array of the same rank and dtype.

    Raises:
        ValueError: a shape or size out of range.
        TypeError: unsupported dtype.
    """
    if image.ndim == 2:
        return resize_bicubic(image[:, :, None], height, width, edges)[:, :, 0]
    if image.ndim != 3:
        raise ValueError(f"image must have shape (H, W) or (H, W, C), got {image.shape}")
    return _imaging.resize_region(image, 0, 0, image.shape[0], image.shape[1], height, width, edges)


def downscale(image: NDArray[Pixel], scale: int) -> NDArray[Pixel]:
    """The low-resolution version of an image whose sides are multiples of `scale` (see `crop_to_multiple`).

    Reproduces the low-resolution images of the usual test sets bit for bit.

    Raises:
        ImageError: sides that are not multiples of `scale`.
        ValueError: an empty image, or unsupported rank.
        TypeError: dtype other than uint8, uint16 or float32.
    """
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise ImageError(f"an image of {width}x{height} pixels does not divide by {scale}; crop it first")
    return resize_bicubic(image, height // scale, width // scale, edges="replicate")


def downscale_region(image: NDArray[Pixel], top: int, left: int, height: int, width: int, scale: int) -> NDArray[Pixel]:
    """The low-resolution version of a region, computed with the surrounding image as context.

    If `top` and `left` are multiples of `scale`, the result equals that part of `downscale(image, scale)`; other
    offsets shift the sampling grid.

    Args:
        image: H, W, C.
        top: first row of the region, >= 0.
        left: first column of the region, >= 0.
        height: number of rows of the region, a multiple of `scale`.
        width: number of columns of the region, a multiple of `scale`.
        scale: downscaling factor.

    Raises:
        ValueError: the region exceeds the image, or its sides are not multiples of `scale`.
        TypeError: dtype other than uint8, uint16 or float32.
    """
    if height % scale or width % scale:
        raise ValueError(f"a region of {width}x{height} pixels does not divide by {scale}")
    return _imaging.resize_region(image, top, left, height, width, height // scale, width // scale, "replicate")


def crop_centre(image: NDArray[Pixel], height: int, width: int) -> NDArray[Pixel]:
    """A view of the centre, of at most that size."""
    height, width = min(height, image.shape[0]), min(width, image.shape[1])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def crop_to_multiple(image: NDArray[Pixel], multiple: int) -> NDArray[Pixel]:
    """A view cropped at the bottom and right to sides that are multiples of `multiple` (known as `modcrop`)."""
    height, width = image.shape[:2]
    return image[: height - height % multiple, : width - width % multiple]
