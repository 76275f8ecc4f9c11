"""ONNX Runtime on the CPU."""

import numpy as np
import onnxruntime as ort

from srgan_fast.models import GeneratorFile
from srgan_fast.runtime.onnx_graph import build_onnx
from srgan_fast.runtime.protocol import FloatImages, Precision

_LOG_ERRORS = 3


class OnnxRuntimeBackend:
    """A session over the folded graph; fp32."""

    name = "onnxruntime"
    device = "CPU"

    def __init__(self, file: GeneratorFile, precision: Precision, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _LOG_ERRORS
        graph = build_onnx(file).SerializeToString()
        self._session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        return np.asarray(self._session.run(None, {"lr": lr})[0])
