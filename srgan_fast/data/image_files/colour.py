"""Conversion of transfer curves to sRGB's, on which the networks are trained, and back.

Only curves are converted, in 16 bits, and converted back in results; primaries are unchanged. Without this, linear
images or images with gamma 1.8 would be far too dark or too bright for the network.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.image_files import icc
from srgan_fast.data.image_files.icc import Floats
from srgan_fast.data.image_files.image import Chromaticities, Image, Metadata, Pixels

Curve = Callable[[Floats], Floats]
# Exponents of the transfer curves of ITU-T H.273. 13 is sRGB's; those of BT.709 (1, 6, 14, 15) are displayed like it.
_GAMMA_OF_CICP = {4: 2.2, 5: 2.8, 8: 1.0}
_SRGB_LIKE, _HDR = (1, 2, 6, 13, 14, 15), (16, 18)
_PRIMARIES_OF_CICP: dict[int, Chromaticities] = {
    1: icc.SRGB_PRIMARIES,
    4: (0.3100, 0.3160, 0.670, 0.330, 0.210, 0.710, 0.140, 0.080),
    5: (0.3127, 0.3290, 0.640, 0.330, 0.290, 0.600, 0.150, 0.060),
    6: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (0.3127, 0.3290, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (0.3127, 0.3290, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (0.3140, 0.3510, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
_PNG_SRGB_GAMMA = 0.45455
# Curves that differ from sRGB's by at most half an 8-bit step are treated as sRGB's; most files are of this kind and
# are not converted. Profiles store sRGB's curve as tables of 1024 or fewer values.
_SAME = 0.5 / 255


@dataclass(frozen=True, slots=True)
class CurveConversion:
    """Conversion of stored values to sRGB's curve and back.

    Attributes:
        forward: tables from stored values to 16-bit values with sRGB's curve; one per channel, or one for all.
        back: tables from 16-bit values with sRGB's curve to stored values; likewise.
    """

    forward: list[NDArray[np.uint16]]
    back: list[Pixels]

    def to_srgb(self, image: Image) -> Image:
        """Converts an image, or rows of it, to sRGB's curve in 16 bits."""
        return replace(image, pixels=_mapped(image.pixels, self.forward), alpha=_wide(image.alpha))

    def from_srgb(self, result: Image) -> Image:
        """Converts a result, or rows of it, to the curve and the bit depth of the original image."""
        alpha = result.alpha
        if alpha is not None and self.back[0].dtype == np.uint8:
            alpha = ((alpha.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return replace(result, pixels=_mapped(result.pixels, self.back), alpha=alpha)


def network_values(image: Image) -> tuple[Image, Callable[[Image], Image], str]:
    """Converts an image to sRGB's curve.

    Returns:
        The image for the network, the function that converts a result back, and a note on what was not converted (""
        for most images).
    """
    conversion, note = curve_conversion(image.metadata, image.is_gray, image.pixels.dtype)
    if conversion is None:
        return image, _as_it_is, note
    return conversion.to_srgb(image), conversion.from_srgb, note


def curve_conversion(
    metadata: Metadata, gray: bool, dtype: np.dtype[np.uint8 | np.uint16]
) -> tuple[CurveConversion | None, str]:
    """The conversion of images with this metadata and dtype to sRGB's curve.

    Returns:
        The conversion, or None if they are not converted; and a note on what was not converted ("" for most images).
    """
    curves, note = _curves(metadata, gray)
    if curves is None:
        return None, note
    codes = np.linspace(0, 1, np.iinfo(dtype).max + 1)
    linear = [np.clip(curve(codes), 0, 1) for curve in curves]
    if any((np.diff(values) < 0).any() or values[-1] <= values[0] for values in linear):
        return None, "transfer curve, ignored (it is not monotonic)"
    if max(np.abs(icc.linear_to_srgb(values) - codes).max() for values in linear) <= _SAME:
        return None, note
    wanted = icc.srgb_to_linear(np.linspace(0, 1, 65536))
    conversion = CurveConversion(
        [np.rint(icc.linear_to_srgb(values) * 65535).astype(np.uint16) for values in linear],
        [np.rint(np.interp(wanted, values, codes) * np.iinfo(dtype).max).astype(dtype) for values in linear],
    )
    return conversion, note


def _as_it_is(image: Image) -> Image:
    return image


def _wide(alpha: Pixels | None) -> Pixels | None:
    return alpha.astype(np.uint16) * np.uint16(257) if alpha is not None and alpha.dtype == np.uint8 else alpha


def _mapped(pixels: Pixels, tables: list[Pixels] | list[NDArray[np.uint16]]) -> Pixels:
    result = np.empty(pixels.shape, tables[0].dtype)
    for channel in range(pixels.shape[2]):
        np.take(tables[min(channel, len(tables) - 1)], pixels[:, :, channel], out=result[:, :, channel])
    return result


def _curves(metadata: Metadata, gray: bool) -> tuple[list[Curve] | None, str]:
    """Curves from stored to linear values; None for sRGB's, and with a note for curves that cannot be converted."""
    if metadata.cicp:
        transfer = metadata.cicp[1]
        if transfer in _GAMMA_OF_CICP:
            return [_power(_GAMMA_OF_CICP[transfer])], ""
        known = transfer in _SRGB_LIKE
        return None, "" if known else f"transfer curve {transfer} of its cICP chunk, ignored"
    if metadata.icc:
        found = icc.curves(metadata.icc)
        if found is None:
            return None, "transfer curve, ignored (its profile is a look-up table)"
        return (found if len(found) == (1 if gray else 3) else found[:1]), ""
    if metadata.srgb_intent is None and metadata.gamma and abs(metadata.gamma - _PNG_SRGB_GAMMA) > 1e-3:
        return [_power(1 / metadata.gamma)], ""
    return None, ""


def _power(exponent: float) -> Curve:
    return lambda x: x**exponent


def profile_of(metadata: Metadata, gray: bool) -> tuple[bytes | None, str]:
    """An ICC profile equivalent to PNG's colour chunks, for formats without such chunks.

    Returns:
        The profile, or None if it would be sRGB's; and a note on chunks that a profile cannot express.
    """
    if metadata.icc:
        return metadata.icc, ""
    gamma: float | None = None
    primaries = icc.SRGB_PRIMARIES
    if metadata.cicp:
        number, transfer = metadata.cicp[:2]
        if transfer in _HDR or (number not in _PRIMARIES_OF_CICP and number != 2):
            return None, f"cICP chunk (primaries {number}, transfer curve {transfer})"
        primaries = _PRIMARIES_OF_CICP.get(number, primaries)
        gamma = _GAMMA_OF_CICP.get(transfer)
    elif metadata.srgb_intent is None:
        primaries = metadata.chromaticities or primaries
        if metadata.gamma and abs(metadata.gamma - _PNG_SRGB_GAMMA) > 1e-3:
            gamma = 1 / metadata.gamma
    near = max(abs(a - b) for a, b in zip(primaries, icc.SRGB_PRIMARIES, strict=True)) < 2e-3
    if gamma is None and (near or gray):
        return None, ""
    try:
        return icc.make_profile(gamma, primaries, gray), ""
    except (np.linalg.LinAlgError, ZeroDivisionError, OverflowError):
        return None, "cHRM chunk (its primaries are not a triangle)"
