"""ONNX Runtime's CPU provider."""

from typing import Any

import numpy as np
import onnxruntime as ort

from srgan_fast.bench.candidates import Job, Loaded
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.bench.peers.onnx_file import fixed_onnx
from srgan_fast.runtime.protocol import FloatImages

_LOG_ERRORS = 3


def prepare(job: Job, precision: BenchPrecision) -> None:
    """Writes the graph."""
    fixed_onnx(job)


def load(job: Job, row: str, lr: FloatImages) -> Loaded:
    """A session with all graph optimisations, which is its default."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS
    session = ort.InferenceSession(str(fixed_onnx(job)), options, providers=["CPUExecutionProvider"])

    def array(results: Any) -> FloatImages:
        return np.array(results[0], np.float32)

    def run() -> Any:
        return session.run(None, {"lr": lr})

    return Loaded(run, array, caller=lambda: run)  # a session may be called by several threads
