"""Damages a generator file in one way for each seed, and upscales with what is still accepted.

Run as a program: `fuzz_weights.py FILE FIRST COUNT`. It prints each seed before it is tried, so that the last line of a
process that crashed names the case, and says at the end how many files were accepted.
"""

import json
import random
import struct
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast.errors import SrganFastError
from srgan_fast.models import read_model
from srgan_fast.runtime.registry import create_backend

Header = dict[str, Any]
NUMBERS = [0.0, -0.0, 1e-45, 1e-38, 1e-20, -1.0, 1e6, 1e20, 3.4e38, -3.4e38, float("inf"), float("nan")]
INTEGERS = [0, 1, 2, 3, 7, 8, 9, 16, 255, 1 << 31, 1 << 32, 1 << 61, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 1 << 64, -1]
DTYPES = [
    "F16",
    "BF16",
    "F32",
    "F64",
    "I8",
    "U8",
    "I32",
    "I64",
    "BOOL",
    "F8_E4M3",
    "F8_E5M2",
    "F8_E8M0",
    "F4",
    "C64",
    "",
]


def split(content: bytes) -> tuple[Header, bytes]:
    size = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: Header | str, data: bytes) -> bytes:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text)) + text + data


def tensors(header: Header) -> list[str]:
    return [name for name in header if name != "__metadata__"]


def flip_bytes(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    end = rng.choice([8, 8 + struct.unpack("<Q", content[:8])[0], len(content)])
    for _ in range(rng.choice([1, 1, 1, 2, 5, 40])):
        damaged[rng.randrange(end)] = rng.randrange(256)
    return bytes(damaged)


def flip_bits(rng: random.Random, content: bytes) -> bytes:
    damaged = bytearray(content)
    for _ in range(rng.choice([1, 1, 2, 8])):
        damaged[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(damaged)


def cut_or_extend(rng: random.Random, content: bytes) -> bytes:
    if rng.random() < 0.8:
        return content[: rng.randrange(len(content))]
    return content + rng.randbytes(rng.randrange(1, 64))


def move_a_part(rng: random.Random, content: bytes) -> bytes:
    a, b, c = sorted(rng.randrange(len(content)) for _ in range(3))
    return rng.choice([content[:a] + content[b:], content[:b] + content[a:], content[:a] + content[b:c] + content[a:b]])


def edit_header_text(rng: random.Random, content: bytes) -> bytes:
    size = struct.unpack("<Q", content[:8])[0]
    text = content[8 : 8 + size].decode()
    at = rng.randrange(len(text))
    text = (
        text[:at]
        + rng.choice(['"', "{", "}", "[", "]", ",", ":", "0", "9", "-", "\\u0000", "\ud7ff", ""])
        + text[at + 1 :]
    )
    return joined(text, content[8 + size :])


def shuffle_entries(rng: random.Random, content: bytes) -> bytes:
    header, data = split(content)
    entries = list(header.items())
    rng.shuffle(entries)
    return joined(dict(entries), data)


def exchange_fields(rng: random.Random, content: bytes) -> bytes:
    header, data = split(content)
    a, b = rng.sample(tensors(header), 2)
    for field in rng.sample(["dtype", "shape", "data_offsets"], rng.randint(1, 3)):
        header[a][field], header[b][field] = header[b][field], header[a][field]
    return joined(header, data)


def edit_fields(rng: random.Random, content: bytes) -> bytes:
    header, data = split(content)
    entry = header[rng.choice(tensors(header))]
    what = rng.choice(["dtype", "shape", "size", "rank", "offset", "gone"])
    if what == "dtype":
        entry["dtype"] = rng.choice(DTYPES)
    elif what == "shape":
        rng.shuffle(entry["shape"])
    elif what == "size":
        entry["shape"][rng.randrange(len(entry["shape"]))] = rng.choice(INTEGERS)
    elif what == "rank":
        entry["shape"] = rng.choice([[], [1, *entry["shape"]], [*entry["shape"], 1], [int(np.prod(entry["shape"]))]])
    elif what == "offset":
        entry["data_offsets"][rng.randrange(2)] = rng.choice([*INTEGERS, len(data), len(data) + 1])
    else:
        del entry[rng.choice(list(entry))]
    return joined(header, data)


def rename(rng: random.Random, content: bytes) -> bytes:
    header, data = split(content)
    old = rng.choice(tensors(header))
    new = rng.choice(
        [old + "x", old[1:], old.replace("0", "1"), old.replace("0", "9" * 30), "", rng.choice(list(header))]
    )
    entry = header.pop(old)
    if rng.random() < 0.9:
        header[new] = entry
    return joined(header, data)


def leave_out_consistently(rng: random.Random, content: bytes) -> bytes:
    """Tensors as another generator would have them: some gone, their bytes too."""
    header, data = split(content)
    gone = {name for name in tensors(header) if rng.random() < 0.1}
    kept, parts = {"__metadata__": header["__metadata__"]}, b""
    for name in tensors(header):
        if name not in gone:
            begin, end = header[name]["data_offsets"]
            kept[name] = {**header[name], "data_offsets": [len(parts), len(parts) + end - begin]}
            parts += data[begin:end]
    return joined(kept, parts)


def edit_record(rng: random.Random, content: bytes) -> bytes:
    header, data = split(content)
    metadata = header["__metadata__"]
    conventions = json.loads(metadata["conventions"])
    what = rng.choice(["number", "number", "number", "output", "text", "format", "gone", "not text"])
    value = rng.choice([*NUMBERS, *INTEGERS, None, "1", [], {}])
    if what == "number":
        place = rng.choice(
            [conventions, *(conventions[m][part] for m in ("lr_map", "hr_map") for part in ("gain", "offset"))]
        )
        place[rng.choice(["block_eps", "upsample_eps"]) if place is conventions else rng.randrange(3)] = value
    elif what == "output":
        conventions["output"] = rng.choice(["tanh", "linear", "relu", value])
    metadata["conventions"] = json.dumps(conventions)
    if what == "text":
        at = rng.randrange(len(metadata["conventions"]))
        metadata["conventions"] = metadata["conventions"][:at] + rng.choice('0e-"{}[],:') + metadata["conventions"][at:]
    elif what == "format":
        metadata["format"] += rng.choice(["", " ", "2"])
    elif what == "gone":
        del metadata[rng.choice(list(metadata))]
    elif what == "not text":
        metadata["conventions"] = value
    return joined(header, data)


def edit_weights(rng: random.Random, content: bytes) -> bytes:
    header, data = split(content)
    values = np.frombuffer(data, "<f4").copy()
    begin, end = (offset // 4 for offset in header[rng.choice(tensors(header))]["data_offsets"])
    if rng.random() < 0.5:
        values[begin:end] = rng.choice(NUMBERS[:-2])
    else:
        for _ in range(rng.choice([1, 3, 20])):
            values[rng.randrange(begin, end)] = rng.choice(NUMBERS)
    return joined(header, values.tobytes())


WAYS: list[Callable[[random.Random, bytes], bytes]] = [
    flip_bytes, flip_bits, cut_or_extend, move_a_part, edit_header_text, shuffle_entries, exchange_fields, edit_fields,
    rename, leave_out_consistently, edit_record, edit_weights,
]  # fmt: skip


def damaged(content: bytes, seed: int) -> bytes:
    rng = random.Random(seed)
    result = WAYS[seed % len(WAYS)](rng, content)
    if seed % 7 == 0 and len(result) > 64:
        result = rng.choice([flip_bits, cut_or_extend])(rng, result)  # those take whatever the first one left
    return result


def upscales(path: Path) -> bool:
    """Whether the file is accepted; then it must work, else the only errors there may be are ours."""
    try:
        file = read_model(path)
        backend = create_backend(file, "native", threads=1)
    except SrganFastError as error:
        if "\n" in str(error) or isinstance(error.__cause__, Warning):
            raise RuntimeError(f"not one line that says what is wrong: {error}") from error
        return False
    lr = np.random.default_rng(0).random((1, 3, 5, 4), np.float32)
    sr = backend.run(lr)
    assert (sr.dtype, sr.shape) == (np.float32, (1, 3, 5 * file.scale, 4 * file.scale))
    backend.upscale((lr[0].transpose(1, 2, 0) * 255).astype(np.uint8))  # type: ignore[attr-defined]
    return True


def main(source: Path, first: int, count: int) -> None:
    warnings.simplefilter("error")
    content, accepted = source.read_bytes(), 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "damaged.safetensors"
        for seed in range(first, first + count):
            print("seed", seed, flush=True)  # noqa: T201 (for the test that started this)
            path.write_bytes(damaged(content, seed))
            accepted += upscales(path)
    print("accepted", accepted)  # noqa: T201


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
