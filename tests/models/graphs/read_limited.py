"""Reads one model file, and says in JSON how it ended, and what time of a processor and memory it took in all."""

import json
import re
import sys
import time
from pathlib import Path

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import read_ncnn, read_onnx


def peak_memory() -> int:
    """Bytes, of this program alone; getrusage would count what the process was before it."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


def main() -> None:
    path = Path(sys.argv[1])
    before = time.process_time()
    try:
        (read_onnx if path.suffix == ".onnx" else read_ncnn)(path)
        error = ""
    except ModelError as caught:
        error = str(caught)
    seconds = time.process_time() - before
    sys.stdout.write(json.dumps({"error": error, "seconds": seconds, "peak": peak_memory()}))


if __name__ == "__main__":
    main()
