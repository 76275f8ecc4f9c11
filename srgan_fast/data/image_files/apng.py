"""Animated PNG as one PNG file per frame, and back (PNG specification, third edition, clauses 7.3 and 11.3.6).

libvips reads the default image only, and Pillow converts frames to 8 bits; here every frame's data become a PNG file of
their own, and the decoded frames are drawn on the canvas.
"""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from srgan_fast.data.image_files.image import Image, Pixels, Timing
from srgan_fast.data.image_files.png import SIGNATURE, chunk, chunks


def join(files: Sequence[bytes], timing: Timing) -> bytes:
    """Joins PNG files into an animation.

    Args:
        files: PNG files of the same size and pixel format.
        timing: timing of the frames.
    """
    head = dict(chunks(files[0]))[b"IHDR"]
    size = head[:8]
    parts = [SIGNATURE, chunk(b"IHDR", head), chunk(b"acTL", struct.pack(">II", len(files), timing.loop))]
    number = 0
    for i, (file, delay) in enumerate(zip(files, timing.delays, strict=True)):
        # Every frame replaces the whole previous one: offset 0, dispose_op NONE, blend_op SOURCE.
        control = struct.pack(">I", number) + size + struct.pack(">IIHHBB", 0, 0, min(delay, 65535), 1000, 0, 0)
        parts.append(chunk(b"fcTL", control))
        number += 1
        for kind, data in chunks(file):
            if kind != b"IDAT":
                continue
            if i == 0:
                parts.append(chunk(b"IDAT", data))
            else:
                parts.append(chunk(b"fdAT", struct.pack(">I", number) + data))
                number += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


_BACKGROUND, _PREVIOUS = 1, 2  # dispose_op
_OVER = 1  # blend_op


@dataclass(frozen=True, slots=True)
class Part:
    """One frame as stored: a PNG file that is drawn on the canvas.

    Attributes:
        file: the PNG file.
        left: column of the canvas on which the file's first column is drawn.
        top: row of the canvas on which the file's first row is drawn.
        delay: duration in milliseconds.
        dispose: dispose_op.
        blend: blend_op.
    """

    file: bytes
    left: int
    top: int
    delay: int
    dispose: int
    blend: int


def split(data: bytes) -> tuple[list[Part], int]:
    """Splits an animation into its frames; a default image that is no frame is left out.

    Returns:
        The frames, and the number of times that they are played (0 for an infinite loop).

    Raises:
        ValueError: the file is damaged or truncated.
    """
    head, shared = b"", list[bytes]()
    controls: list[bytes] = []
    bodies: list[bytes] = []
    count = loop = 0
    for kind, body in chunks(data):
        if kind == b"IHDR":
            head = body
        elif kind in (b"PLTE", b"tRNS"):
            shared.append(chunk(kind, body))
        elif kind == b"acTL" and len(body) == 8:
            count, loop = struct.unpack(">II", body)
        elif kind == b"fcTL" and len(body) == 26:
            controls.append(body)
            bodies.append(b"")
        elif kind == b"IDAT" and controls:
            bodies[-1] += body
        elif kind == b"fdAT" and controls:
            bodies[-1] += body[4:]
    if len(head) != 13 or len(controls) != count or not all(bodies):
        raise ValueError("it is damaged or truncated")
    width, height = struct.unpack_from(">II", head)
    parts = []
    for control, body in zip(controls, bodies, strict=True):
        w, h, left, top, numerator, denominator, dispose, blend = struct.unpack(">4xIIIIHHBB", control)
        if not (0 < w <= width - left and 0 < h <= height - top):
            raise ValueError("a frame lies outside the image")
        own = chunk(b"IHDR", control[4:12] + head[8:])
        file = b"".join([SIGNATURE, own, *shared, chunk(b"IDAT", body), chunk(b"IEND", b"")])
        parts.append(Part(file, left, top, round(1000 * numerator / (denominator or 100)), dispose, blend))
    return parts, loop


def draw(parts: Sequence[Part], height: int, width: int, decode: Callable[[bytes], Image]) -> list[Image]:
    """Draws the frames on the canvas one after the other.

    Args:
        parts: frames as stored.
        height: rows of the canvas.
        width: columns of the canvas.
        decode: decodes a PNG file.

    Returns:
        The canvas after each frame; without alpha if it is opaque in all of them.
    """
    canvas = opaque = None
    result: list[Image] = []
    for number, part in enumerate(parts):
        frame = decode(part.file)
        if canvas is None or opaque is None:
            canvas = np.zeros((height, width, frame.pixels.shape[2]), frame.pixels.dtype)
            opaque = np.zeros((height, width), frame.pixels.dtype)
        at = slice(part.top, part.top + frame.height), slice(part.left, part.left + frame.width)
        before = canvas[at].copy(), opaque[at].copy()
        alpha = np.full(frame.pixels.shape[:2], np.iinfo(canvas.dtype).max, canvas.dtype)
        alpha = alpha if frame.alpha is None else frame.alpha
        canvas[at], opaque[at] = _over(frame.pixels, alpha, *before) if part.blend == _OVER else (frame.pixels, alpha)
        result.append(Image(canvas.copy(), opaque.copy(), frame.metadata))
        if part.dispose == _BACKGROUND or (part.dispose == _PREVIOUS and number == 0):
            canvas[at], opaque[at] = 0, 0
        elif part.dispose == _PREVIOUS:
            canvas[at], opaque[at] = before
    if all(image.alpha is not None and image.alpha.min() == np.iinfo(image.alpha.dtype).max for image in result):
        return [Image(image.pixels, None, image.metadata) for image in result]
    return result


def _over(pixels: Pixels, alpha: Pixels, below: Pixels, below_alpha: Pixels) -> tuple[Pixels, Pixels]:
    """Composites pixels with unassociated alpha over others."""
    white = float(np.iinfo(pixels.dtype).max)
    front, back = alpha[:, :, None] / white, below_alpha[:, :, None] / white
    total = front + back * (1 - front)
    mixed = (pixels * front + below * (back * (1 - front))) / np.where(total == 0, 1, total)
    return np.rint(mixed).astype(pixels.dtype), np.rint(total[:, :, 0] * white).astype(pixels.dtype)
