"""The subset of Protocol Buffers' wire format that ONNX files need.

The `onnx` package would parse a whole file before anything can be checked, and 100 MB of empty messages would become
gigabytes of objects. Here nothing is parsed that is not needed, and every field is counted. Format:
https://protobuf.dev/programming-guides/encoding/
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from srgan_fast.errors import ModelError

MAX_FIELDS = 200_000
"""Limit for all messages of a file: known networks have up to 40,000; a hostile file is rejected within a second."""

MAX_PACKED = 64 << 20
"""Limit of the bytes in one packed field: float16 weights take two or three each unless stored as raw_data."""

_CHUNK = 1 << 20

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


class Budget:
    """Number of fields that may still be read."""

    def __init__(self) -> None:
        self.left = MAX_FIELDS


def fields(message: memoryview, budget: Budget) -> Iterator[tuple[int, int | memoryview]]:
    """Field numbers and values of a message, in order: integers, or bytes for all other types.

    Raises:
        ModelError: not a message, or too many fields in total.
    """
    at, end = 0, len(message)
    while at < end:
        budget.left -= 1
        if budget.left < 0:
            raise ModelError(f"more than {MAX_FIELDS} fields")
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ModelError("not a readable ONNX file; it is damaged or another kind of file")
        if size > end - at:
            raise ModelError("not a readable ONNX file; it ends too early, is damaged or another kind of file")
        yield number, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The varint at a position, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
    raise ModelError("not a readable ONNX file; it is damaged or another kind of file")


def signed(value: int) -> int:
    """Interprets a varint as int64."""
    return value - (1 << 64) if value >= 1 << 63 else value


def text(value: int | memoryview) -> str:
    """Decodes a string field."""
    return bytes(as_bytes(value)).decode(errors="replace")


def as_bytes(value: int | memoryview) -> memoryview:
    """Value of a length-delimited field.

    Raises:
        ModelError: the field is a number.
    """
    if isinstance(value, int):
        raise ModelError("not a readable ONNX file; a number where text or a message belongs")
    return value


def as_int(value: int | memoryview) -> int:
    """Value of a numeric field.

    Raises:
        ModelError: the field is not a number.
    """
    if not isinstance(value, int):
        raise ModelError("not a readable ONNX file; text or a message where a number belongs")
    return signed(value)


def packed_varints(data: memoryview, dtype: str = "<i8") -> NDArray[Any]:
    """All numbers of a packed field.

    Args:
        data: bytes of the field.
        dtype: of the result; higher bits are dropped.

    Raises:
        ModelError: the last number is cut off, one is longer than ten bytes, or there are too many.
    """
    if len(data) > MAX_PACKED:
        raise ModelError(f"{len(data)} bytes of packed numbers, more than {MAX_PACKED}")
    found, at = [np.empty(0, dtype)], 0
    while at < len(data):
        raw = np.frombuffer(data[at : at + _CHUNK], np.uint8)
        ends = np.flatnonzero(raw < 0x80)
        starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
        lengths = ends - starts + 1
        # A chunk may end within a number, which the next chunk then starts with; the field may not.
        if not len(ends) or lengths.max() > 10 or (at + len(raw) == len(data) and ends[-1] + 1 != len(raw)):
            raise ModelError("not a readable ONNX file; it has packed numbers that are damaged")
        values = np.zeros(len(ends), np.uint64)
        for i in range(int(lengths.max())):  # seven bits at a time, for all numbers at once
            longer = np.flatnonzero(lengths > i)
            values[longer] |= (raw[starts[longer] + i] & np.uint8(0x7F)).astype(np.uint64) << np.uint64(7 * i)
        found.append(values.view(np.int64).astype(dtype))
        at += int(ends[-1]) + 1
    return np.concatenate(found)


__all__ = ["MAX_FIELDS", "Budget", "as_bytes", "as_int", "fields", "packed_varints", "signed", "text"]
