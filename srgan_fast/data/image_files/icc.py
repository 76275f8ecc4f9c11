"""ICC profiles that consist of primaries and curves: reading the curves, creating profiles (ICC.1:2001-04)."""

import struct
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from srgan_fast.data.image_files.image import Chromaticities

Floats = NDArray[np.float64]
SRGB_PRIMARIES: Chromaticities = (0.3127, 0.3290, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])


def srgb_to_linear(values: Floats) -> Floats:
    """Converts sRGB values in 0..1 to linear ones (IEC 61966-2-1)."""
    return np.where(values <= 0.04045, values / 12.92, ((np.maximum(values, 0.04045) + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: Floats) -> Floats:
    """Converts linear values in 0..1 to sRGB; the inverse of `srgb_to_linear`."""
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * np.maximum(values, 0.0031308) ** (1 / 2.4) - 0.055)


def curves(profile: bytes) -> list[Callable[[Floats], Floats]] | None:
    """Curves of a profile from stored to linear values, both in 0..1.

    Returns:
        Three curves, or one for gray; None if the profile is of another kind (look-up table, CMYK) or damaged.
    """
    try:
        (count,) = struct.unpack_from(">I", profile, 128)
        tags = {}
        for i in range(min(count, 1000)):
            kind, offset, size = struct.unpack_from(">4sII", profile, 132 + 12 * i)
            tags[kind] = profile[offset : offset + size]
        names = [b"rTRC", b"gTRC", b"bTRC"] if profile[16:20] == b"RGB " else [b"kTRC"]
        if profile[16:20] not in (b"RGB ", b"GRAY"):
            return None
        return [_curve(tags[name]) for name in names]
    except (struct.error, KeyError, ValueError):
        return None


def _curve(data: bytes) -> Callable[[Floats], Floats]:
    if data[:4] == b"curv":
        (count,) = struct.unpack_from(">I", data, 8)
        if count == 0:
            return lambda x: x
        table = np.frombuffer(data, ">u2", count, 12).astype(np.float64)
        if count == 1:
            return lambda x: x ** (table[0] / 256)
        at = np.linspace(0, 1, count)
        return lambda x: np.interp(x, at, table / 65535)
    if data[:4] != b"para":
        raise ValueError("neither a curve nor parameters")
    (kind,) = struct.unpack_from(">H", data, 8)
    g, a, b, c, d, e, f = _parameters(
        kind, [v / 65536 for v in struct.unpack_from(f">{(len(data) - 12) // 4}i", data, 12)]
    )
    return lambda x: np.where(x >= d, np.maximum(a * x + b, 0) ** g + e, c * x + f)


def _parameters(kind: int, given: list[float]) -> tuple[float, float, float, float, float, float, float]:
    """Parameters g, a, b, c, d, e, f of the equivalent curve of the most general type.

    Args:
        kind: function type of the parametric curve, 0..4.
        given: its parameters.
    """
    g = given[0]
    if kind == 0:
        return g, 1, 0, 0, 0, 0, 0
    if kind in (1, 2):
        a, b = given[1:3]
        c = given[3] if kind == 2 else 0.0
        return g, a, b, 0, -b / a, c, c
    a, b, c, d = given[1:5]
    e, f = given[5:7] if kind == 4 else (0.0, 0.0)
    return g, a, b, c, d, e, f


def make_profile(gamma: float | None, primaries: Chromaticities, gray: bool) -> bytes:
    """Creates a profile of version 2.

    Args:
        gamma: exponent from stored to linear values; sRGB's curve if None.
        primaries: x and y of white, red, green and blue.
        gray: whether the profile is for gray images, with one curve instead of three.
    """
    if gamma is None:
        table = np.rint(srgb_to_linear(np.linspace(0, 1, 1024)) * 65535).astype(">u2").tobytes()
        curve = b"curv" + struct.pack(">II", 0, 1024) + table
    elif gamma == 1:
        curve = b"curv" + struct.pack(">II", 0, 0)
    else:
        curve = b"curv" + struct.pack(">IIH", 0, 1, min(round(gamma * 256), 65535)) + b"\0\0"
    name = b"Written by srgan_fast\0"
    tags = {
        b"desc": b"desc" + struct.pack(">II", 0, len(name)) + name + bytes(78),
        b"cprt": b"text\0\0\0\0No copyright\0",
        b"wtpt": _xyz(_D50),
    }
    if gray:
        tags[b"kTRC"] = curve
    else:
        matrix = _to_d50(primaries)
        tags |= {b"rXYZ": _xyz(matrix[:, 0]), b"gXYZ": _xyz(matrix[:, 1]), b"bXYZ": _xyz(matrix[:, 2])}
        tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve)
    offset, directory, body = 132 + 12 * len(tags), b"", b""
    places: dict[bytes, int] = {}  # equal curves are stored once
    for kind, data in tags.items():
        if data not in places:
            places[data] = offset + len(body)
            body += data + b"\0" * (-len(data) % 4)
        directory += struct.pack(">4sII", kind, places[data], len(data))
    head = struct.pack(">I4sI4s4s4s", 0, b"\0\0\0\0", 0x02100000, b"mntr", b"GRAY" if gray else b"RGB ", b"XYZ ")
    head += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp") + bytes(28) + _xyz(_D50)[8:] + bytes(48)
    whole = head + struct.pack(">I", len(tags)) + directory + body
    return struct.pack(">I", len(whole)) + whole[4:]


def _xyz(values: Floats) -> bytes:
    return b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(float(v) * 65536) for v in values))


def _to_d50(primaries: Chromaticities) -> Floats:
    """Matrix whose columns are XYZ of red, green and blue, adapted to D50 with the Bradford matrix (Lindbloom)."""
    points = [(x, y) for x, y in zip(primaries[::2], primaries[1::2], strict=True)]
    white, *colours = [np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in points]
    matrix = np.stack(colours, 1)
    matrix = matrix * np.linalg.solve(matrix, white)
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapted: Floats = np.linalg.solve(_BRADFORD, scale[:, None] * (_BRADFORD @ matrix))
    return adapted
