"""MNN on the CPU, which runs 3x3 convolutions by Winograd's algorithm."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast.bench.candidates import Job, Loaded
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.bench.peers.onnx_file import fixed_onnx
from srgan_fast.errors import BackendError
from srgan_fast.runtime.protocol import FloatImages

# Not `MNN.tools.mnnconvert`: importing that installs a package by pip, and it then reports each conversion, with an
# identifier of the machine, to a server. This is the converter that it calls.
_CONVERT = "import sys, MNN, _tools; _tools.mnnconvert(sys.argv)"


def _model(job: Job) -> Path:
    return job.shape_folder / "fixed.mnn"


def prepare(job: Job, precision: BenchPrecision) -> None:
    """Converts the graph with MNN's own converter."""
    source, target = fixed_onnx(job), _model(job)
    arguments = ["-f", "ONNX", "--modelFile", str(source), "--MNNModel", str(target), "--bizCode", "srgan_fast"]
    command = [sys.executable, "-c", _CONVERT, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not target.exists():
        last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
        raise BackendError(f"MNN's converter failed: {last}")


def load(job: Job, row: str, lr: FloatImages) -> Loaded:
    """A module at high precision (fp32; "normal" may mean fp16 or bf16); reading the result makes it compute."""
    from MNN import expr, nn  # noqa: PLC0415 (heavy; preparing needs its converter only)

    settings = {"backend": "CPU", "numThread": job.threads, "precision": "high"}
    manager = nn.create_runtime_manager((settings,))
    net = nn.load_module_from_file(str(_model(job)), ["lr"], ["sr"], runtime_manager=manager)
    image = expr.const(lr, list(lr.shape), expr.NCHW)

    def run() -> Any:
        return expr.convert(net.forward([image])[0], expr.NCHW).read()

    return Loaded(run, lambda sr: np.array(sr, np.float32))
