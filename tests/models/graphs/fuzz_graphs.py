"""Damages a small model of a kind in a way that a number stands for, and reads it: our error in one line, or a network.

python fuzz_graphs.py ncnn|onnx FIRST COUNT
"""

import random
import re
import sys
import tempfile
import time
import warnings
from pathlib import Path

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import read_ncnn, read_onnx
from tests.damage import damaged
from tests.models.graphs import ncnn_model, onnx_model
from tests.peak_memory import peak_memory

NUMBERS = (-1, 0, 1, 2, 3, 7, 16, 255, 256, 65535, 2**31 - 1, 2**31, 2**63, 1e38, 0.5, -2.5)


def damaged_param(data: bytes, rng: random.Random) -> bytes:
    """Another number, line or name; the counts of the header stay right where lines come and go."""
    if rng.random() < 0.3:
        return damaged(data, rng)
    head, _, *lines = data.decode().split("\n")[:-1]
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        words = lines[at].split(" ")
        match rng.randrange(6):
            case 0:
                del lines[at]
            case 1:
                lines.insert(other, lines[at])
            case 2:
                lines[at], lines[other] = lines[other], lines[at]
            case 3:
                words[0] = lines[other].split(" ")[0]
                lines[at] = " ".join(words)
            case 4:
                words[rng.randrange(len(words))] = rng.choice(lines[other].split(" "))
                lines[at] = " ".join(words)
            case _:
                numbers = list(re.finditer(r"(?<==)[-+.\de]+", lines[at]))
                if numbers:
                    number = rng.choice(numbers)
                    lines[at] = lines[at][: number.start()] + str(rng.choice(NUMBERS)) + lines[at][number.end() :]
        lines = lines or ["Input a 0 1 data"]
    return "\n".join([head, f"{len(lines)} 1", *lines, ""]).encode(errors="replace")


def main() -> None:
    kind, first, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    small = ncnn_model.small_model()
    onnx = onnx_model.small_model()
    accepted, slowest = 0, 0.0
    warnings.simplefilter("error")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("model.param" if kind == "ncnn" else "model.onnx")
        for number in range(first, first + count):
            rng = random.Random(number)
            sys.stdout.write(f"next {number}\n")
            sys.stdout.flush()
            if kind == "onnx":
                path.write_bytes(damaged(onnx, rng))
            else:
                text_only = rng.random() < 0.7
                path.write_bytes(damaged_param(small.param, rng) if text_only else small.param)
                path.with_suffix(".bin").write_bytes(small.data if text_only else damaged(small.data, rng))
            begun = time.process_time()
            try:
                (read_onnx if kind == "onnx" else read_ncnn)(path)
                accepted += 1
            except ModelError as error:
                if not str(error).isprintable():
                    raise AssertionError(f"more than one line of text: {str(error)!r}") from None
            slowest = max(slowest, time.process_time() - begun)
    sys.stdout.write(f"accepted {accepted} slowest {slowest:.3f} peak {peak_memory()}\n")


if __name__ == "__main__":
    main()
