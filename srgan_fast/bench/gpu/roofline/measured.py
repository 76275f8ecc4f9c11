"""What docs/cuda.md tells of an H200, to be held against the prediction; read from there, not copied."""

import re
from dataclasses import dataclass
from pathlib import Path

from srgan_fast.errors import UsageError

LAYERS_BATCH = 64
STEP_BATCH = 16
_HEAD = "| | forward | data gradient | weight gradient |"
_PAIR = re.compile(r"\|\s*(\d+(?:\.\d+)?) / (\d+(?:\.\d+)?) \(")
_FIGURE = r"[^|]*\|\D*(\d+(?:\.\d+)?)"
_UPSCALING = re.compile(r"^Upscaling, milliseconds.*?\n\n((?:\|[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
_PICTURES = re.compile(r"(?:(\d+) of )?(\d+)x(\d+)")
_ROWS = ("ours", "PyTorch", "torch.compile")


@dataclass(frozen=True, slots=True)
class Upscaled:
    """Seconds for pictures of one size, replayed.

    Attributes:
        batch: pictures.
        height: of a low-resolution picture.
        width: of a low-resolution picture.
        ours: with our kernels.
        eager: with PyTorch's; None where it was not measured.
        compiled: with torch.compile's; None where it was not measured.
    """

    batch: int
    height: int
    width: int
    ours: float
    eager: float | None
    compiled: float | None


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds.

    Attributes:
        layers: by row of the table of layers and by direction: our operator's and PyTorch's; batch `LAYERS_BATCH`.
        fused_step: the replayed adversarial step with our kernels, batch `STEP_BATCH`.
        stock_step: the same with PyTorch's.
        upscaled: pictures, by size.
    """

    layers: list[list[tuple[float, float]]]
    fused_step: float
    stock_step: float
    upscaled: list[Upscaled]


def read_measured(path: Path) -> Measured:
    """Reads the tables of docs/cuda.md.

    Raises:
        UsageError: they are not there, or look otherwise.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    table = text.partition(_HEAD)[2].lstrip("\n").partition("\n\n")[0]
    layers = [[(1e-6 * float(a), 1e-6 * float(b)) for a, b in _PAIR.findall(row)] for row in table.splitlines()[1:]]
    if not layers or any(len(row) != 3 for row in layers):
        raise UsageError(f"{path} has no table of layers with a head {_HEAD!r} and three pairs of figures a row")
    fused, stock = (_step(text, kernels, path) for kernels in ("fused kernels", "PyTorch's kernels"))
    return Measured(layers, fused, stock, _upscaled(text, path))


def _step(text: str, kernels: str, path: Path) -> float:
    found = re.search(rf"^\|[^|]*our step, {kernels}, replayed{_FIGURE}", text, re.MULTILINE)
    if found is None:
        raise UsageError(f"{path} has no row 'our step, {kernels}, replayed'")
    return 1e-3 * float(found[1])


def _upscaled(text: str, path: Path) -> list[Upscaled]:
    table = _UPSCALING.search(text)
    if table is None:
        raise UsageError(f"{path} has no table 'Upscaling, milliseconds'")
    (_, *sizes), _, *rows = ([cell.strip(" *") for cell in line.split("|")[1:-1]] for line in table[1].splitlines())
    pictures = [_PICTURES.fullmatch(size) for size in sizes]
    try:
        times = {
            name.partition(",")[0]: [1e-3 * float(cell) if cell else None for cell in cells] for name, *cells in rows
        }
    except ValueError as error:
        raise UsageError(f"{path}: the table of upscaling: {error}") from None
    if None in pictures or sorted(times) != sorted(_ROWS) or None in times["ours"]:
        raise UsageError(f"{path}: the table of upscaling needs sizes like '8 of 128x128' and rows {', '.join(_ROWS)}")
    return [
        Upscaled(int(found[1] or 1), int(found[2]), int(found[3]), ours, eager, compiled)
        for found, ours, eager, compiled in zip(pictures, *(times[name] for name in _ROWS), strict=True)
        if found is not None and ours is not None
    ]
