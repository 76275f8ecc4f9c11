"""Reads one model file, and says in JSON how it ended, and what time of a processor and memory it took in all."""

import json
import sys
import time
from pathlib import Path

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import read_ncnn, read_onnx
from tests.peak_memory import peak_memory


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
