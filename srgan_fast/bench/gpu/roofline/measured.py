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


@dataclass(frozen=True, slots=True)
class Measured:
    """Seconds.

    Attributes:
        layers: by row of the table of layers and by direction: our operator's and PyTorch's; batch `LAYERS_BATCH`.
        fused_step: the replayed adversarial step with our kernels, batch `STEP_BATCH`.
        stock_step: the same with PyTorch's.
    """

    layers: list[list[tuple[float, float]]]
    fused_step: float
    stock_step: float


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
    return Measured(layers, fused, stock)


def _step(text: str, kernels: str, path: Path) -> float:
    found = re.search(rf"^\|[^|]*our step, {kernels}, replayed{_FIGURE}", text, re.MULTILINE)
    if found is None:
        raise UsageError(f"{path} has no row 'our step, {kernels}, replayed'")
    return 1e-3 * float(found[1])
