"""MATLAB-exact antialiased bicubic resizing: the operation that defines super-resolution data sets."""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from srgan_fast import _imaging
from srgan_fast.errors import ImageError

Pixel = TypeVar("Pixel", bound=np.uint8 | np.uint16 | np.float32)

# What lies beyond the border. MATLAB mirrors since R2014; earlier versions repeated the border pixels, and with those
# Set5, Set14 and most published low-resolution images were made. Two low-resolution pixels at each border differ.
Edges = Literal["mirror", "replicate"]


def resize_bicubic(image: NDArray[Pixel], height: int, width: int, edges: Edges = "mirror") -> NDArray[Pixel]:
    """MATLAB's `imresize(image, [height width], 'bicubic')`, antialiased when shrinking.

    Integer images are rounded and saturated after each axis, as MATLAB does; float images are not clamped. Equal to
    MATLAB for a scale *factor* too where the factor divides the size exactly.

    Args:
        image: H, W or H, W, C with C in 1..4; uint8, uint16 or float32.
        height: rows of the result, >= 1.
        width: columns of the result, >= 1.
        edges: what lies beyond the border.

    Returns:
        A new array of the same rank and dtype.

    Raises:
        ValueError: a shape or size out of range.
        TypeError: another dtype.
    """
    if image.ndim == 2:
        return resize_bicubic(image[:, :, None], height, width, edges)[:, :, 0]
    if image.ndim != 3:
        raise ValueError(f"image must have shape (H, W) or (H, W, C), got {image.shape}")
    return _imaging.resize_region(image, 0, 0, image.shape[0], image.shape[1], height, width, edges)


def downscale(image: NDArray[Pixel], scale: int) -> NDArray[Pixel]:
    """The low-resolution version of an image whose sides are multiples of `scale` (see `crop_to_multiple`).

    Reproduces the low-resolution images of the usual test sets to the last bit.

    Raises:
        ImageError: sides that are no multiples of `scale`.
        ValueError: an empty image or one of another rank.
        TypeError: another dtype than uint8, uint16 or float32.
    """
    height, width = image.shape[:2]
    if height % scale or width % scale:
        raise ImageError(f"an image of {width}x{height} pixels does not divide by {scale}; crop it first")
    return resize_bicubic(image, height // scale, width // scale, edges="replicate")


def downscale_region(image: NDArray[Pixel], top: int, left: int, height: int, width: int, scale: int) -> NDArray[Pixel]:
    """The low-resolution version of a region, computed with the image around it as context.

    For `top` and `left` that are multiples of `scale` it equals that part of `downscale(image, scale)`; other offsets
    sample the grid that lies between.

    Args:
        image: H, W, C.
        top: first row of the region, >= 0.
        left: first column of the region, >= 0.
        height: rows of the region, a multiple of `scale`.
        width: columns of the region, a multiple of `scale`.
        scale: shrinking factor.

    Raises:
        ValueError: a region that leaves the image, or sides that are no multiples of `scale`.
        TypeError: another dtype than uint8, uint16 or float32.
    """
    if height % scale or width % scale:
        raise ValueError(f"a region of {width}x{height} pixels does not divide by {scale}")
    return _imaging.resize_region(image, top, left, height, width, height // scale, width // scale, "replicate")


def crop_to_multiple(image: NDArray[Pixel], multiple: int) -> NDArray[Pixel]:
    """A view without the last rows and columns that make the sides indivisible (`modcrop` in the field)."""
    height, width = image.shape[:2]
    return image[: height - height % multiple, : width - width % multiple]
