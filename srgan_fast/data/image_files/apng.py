"""Writing of animated PNG from one PNG file per frame (PNG specification, third edition, clause 11.3.6)."""

import struct
from collections.abc import Sequence

from srgan_fast.data.image_files.image import Timing
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
