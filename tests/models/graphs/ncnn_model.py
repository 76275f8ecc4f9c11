"""Writes small ncnn models, layer by layer."""

from pathlib import Path
from typing import Any

import numpy as np

FLOAT16, INT8 = 0x01306B47, 0x000D4B38


class NcnnModel:
    """A `.param` and a `.bin` file in the making; every method returns the name of its result."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.lines: list[str] = []
        self.data = b""
        self.values = 0
        self.layer("Input", [], "data")

    def layer(self, kind: str, inputs: list[str], output: str | None = None, **parameters: Any) -> str:
        """Parameters are called p0, p1, ...; arrays are tuples."""
        self.values += 1
        output = output or f"v{self.values}"
        words = [kind, f"layer{self.values}", str(len(inputs)), "1", *inputs, output]
        for key, value in parameters.items():
            number = int(key[1:])
            if isinstance(value, tuple):
                words.append(f"{-23300 - number}={len(value)},{','.join(f'{v:e}' for v in value)}")
            else:
                words.append(f"{number}={value:e}" if isinstance(value, float) else f"{number}={value}")
        self.lines.append(" ".join(words))
        return output

    def floats(self, *shape: int, low: float = -1.0, high: float = 1.0) -> np.ndarray:
        """Random values, appended to the weights."""
        values = self.rng.uniform(low, high, shape).astype(np.float32)
        self.data += values.tobytes()
        return values

    def weights(self, c_in: int, c_out: int, size: int, tag: int = 0) -> None:
        values = self.rng.standard_normal((c_out, c_in, size, size)) / np.sqrt(c_in * size * size)
        self.data += np.uint32(tag).tobytes()
        if tag == FLOAT16:
            stored = values.astype(np.float16).tobytes()
            self.data += stored + b"\0" * (-len(stored) % 4)
        elif tag in (0, 0x0002C056):
            self.data += values.astype(np.float32).tobytes()
        else:  # a table of 256 values
            table = np.linspace(-0.5, 0.5, 256, dtype=np.float32)
            stored = np.abs(values[..., None] - table).argmin(-1).astype(np.uint8).tobytes()
            self.data += table.tobytes() + stored + b"\0" * (-len(stored) % 4)

    def conv(
        self, x: str, c_in: int, c_out: int, size: int = 3, tag: int = 0, output: str | None = None, **p: Any
    ) -> str:
        parameters = {"p0": c_out, "p1": size, "p4": size // 2, "p5": 1, "p6": c_in * c_out * size * size} | p
        name = self.layer("Convolution", [x], output, **parameters)
        self.weights(c_in, c_out, size, tag)
        if parameters["p5"]:
            self.floats(c_out, low=-0.2, high=0.2)
        return name

    def split(self, x: str, count: int) -> list[str]:
        """ncnn lets every value be read once."""
        self.values += 1
        names = [f"{x}_{i}" for i in range(count)]
        self.lines.append(" ".join(["Split", f"split{self.values}", "1", str(count), x, *names]))
        return names

    @property
    def param(self) -> bytes:
        values = sum(int(line.split()[3]) for line in self.lines)
        return "\n".join(["7767517", f"{len(self.lines)} {values}", *self.lines, ""]).encode()

    def write(self, folder: Path) -> Path:
        path = folder / "model.param"
        path.write_bytes(self.param)
        path.with_suffix(".bin").write_bytes(self.data)
        return path


def small_model() -> NcnnModel:
    """Everything that real files have, in little: x4 with a dense block, residuals and both kinds of upsampling."""
    model = NcnnModel(1)
    image, skipped = model.split("data", 2)
    first = model.conv(image, 3, 8, tag=FLOAT16)
    a, b, c = model.split(first, 3)
    dense = model.conv(a, 8, 4, p9=2, p10=(0.2,))
    dense = model.conv(model.layer("Concat", [b, dense]), 12, 8)
    total = model.layer("Eltwise", [dense, c], p0=1, p1=(0.2, 1.0))
    up = model.conv(model.layer("Interp", [total], p0=1, p1=2.0, p2=2.0), 8, 8, tag=FLOAT16)
    up = model.layer("PReLU", [up], p0=8)
    model.floats(8, low=0, high=0.5)
    pixels = model.layer("PixelShuffle", [model.conv(up, 8, 12)], p0=2)
    enlarged = model.layer("Interp", [skipped], p0=1, p1=4.0, p2=4.0)
    model.layer("BinaryOp", [pixels, enlarged], "output")
    return model
