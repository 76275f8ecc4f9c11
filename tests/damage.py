"""Damage to files, from seeds."""

import random


def damaged(data: bytes, rng: random.Random) -> bytes:
    """A few bytes set, cut out, copied or added."""
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, size = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 4, 16, 200))
        match rng.randrange(5):
            case 0:
                data[at : at + size] = rng.randbytes(size)
            case 1:
                del data[at : at + size]
            case 2:
                data[at:at] = data[at : at + size]
            case 3:
                data[at : at + 1] = bytes([rng.choice((0, 1, 0x7F, 0x80, 0xFF))])
            case _:
                data[at:at] = rng.randbytes(size)
    return bytes(data)
