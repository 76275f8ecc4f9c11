"""Writes docs/gpu-roofline.md: what GPUs could make of the kernels at most, predicted from their own tiles.

    python tools/gpu_roofline.py            # writes it
    python tools/gpu_roofline.py --check    # exit status 1 if it is out of date

It needs g++ and the package built with torch, no GPU.
"""

import argparse
import sys
from pathlib import Path

from srgan_fast.bench.gpu.roofline import make_document
from srgan_fast.errors import SrganFastError

ROOT = Path(__file__).parents[1]
DOCUMENT = Path("docs") / "gpu-roofline.md"


def main() -> int:
    """Writes or compares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the file is up to date")
    options = parser.parse_args()
    try:
        text = make_document(ROOT)
    except SrganFastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    target = ROOT / DOCUMENT
    if not options.check:
        target.write_text(text, encoding="utf-8")
        return 0
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        print(f"{DOCUMENT} is out of date: python tools/gpu_roofline.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
