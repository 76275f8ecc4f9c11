"""Writes type stubs for checking the TensorRT code: of TensorRT 10, and of the installed TensorRT-RTX.

    pip install --no-deps tensorrt-stubs==10.13.0.35.1     # without the libraries, which are not on PyPI
    python tools/stub_tensorrt.py build/stubs
    MYPYPATH=build/stubs/tensorrt-10 mypy && MYPYPATH=build/stubs/tensorrt-rtx mypy

TensorRT-RTX has no stubs, so mypy's stubgen generates them; its interface is that of TensorRT 11.
"""

import importlib.util
import re
import sys
from pathlib import Path

from mypy.stubgen import main as stubgen

_RTX = "tensorrt_rtx_bindings.tensorrt_rtx"


def main() -> int:
    """Writes both, each as a package called tensorrt."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    _write(folder / "tensorrt-10", _repaired(_stubs_of_tensorrt().read_text(encoding="utf-8")))
    stubgen(["--quiet", "-m", _RTX, "-o", str(folder / "generated")])
    generated = folder / "generated" / Path(*_RTX.split(".")).with_suffix(".pyi")
    _write(folder / "tensorrt-rtx", _repaired(generated.read_text(encoding="utf-8")))
    return 0


def _stubs_of_tensorrt() -> Path:
    spec = importlib.util.find_spec("tensorrt_stubs")
    if spec is None or spec.origin is None:
        sys.exit("tensorrt-stubs is not installed: pip install --no-deps tensorrt-stubs")
    return Path(spec.origin).parent.parent / "tensorrt_bindings" / "tensorrt.pyi"


def _repaired(text: str) -> str:
    """Fixes invalid Python in the stubs: a parameter called `in`, and one without a default after those with one."""
    text = re.sub(r"\bin: list", "in_: list", text)
    return re.sub(r"(power: Weights = [^,]+, channel_axis: [\w.]+)", r"\1 = 0", text)


def _write(folder: Path, text: str) -> None:
    package = folder / "tensorrt"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.pyi").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
