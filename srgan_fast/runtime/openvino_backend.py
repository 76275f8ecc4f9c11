"""OpenVINO on the CPU."""

import threading

import numpy as np
import openvino as ov

from srgan_fast.models import ModelFile
from srgan_fast.network.onnx_graph import build_onnx
from srgan_fast.runtime.forks import SPAWN, Home
from srgan_fast.runtime.protocol import FloatImages, Precision


def computes(precision: Precision) -> bool:
    """Whether OpenVINO supports the precision on this CPU; otherwise a request for bf16 silently runs in fp32."""
    return precision == "fp32" or "BF16" in ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVINOBackend:
    """A compiled model of the network's ONNX graph; fp32 or bf16.

    The precision is always set explicitly: by default OpenVINO uses bf16 where the CPU supports it.
    """

    name = "openvino"
    device = "CPU"

    # Its threads and locks are the process's: loading another model in a child hangs now and then.
    _home: Home | None = None

    def __init__(self, file: ModelFile, precision: Precision, threads: int) -> None:
        OpenVINOBackend._home = OpenVINOBackend._home or Home(self.name, SPAWN)
        OpenVINOBackend._home.check()
        core = ov.Core()
        model = core.read_model(build_onnx(file.network, file.name).SerializeToString())
        hint = "f32" if precision == "fp32" else "bf16"
        self._compiled = core.compile_model(
            model,
            "CPU",
            {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"},
        )
        self._request = self._compiled.create_infer_request()
        self._lock = threading.Lock()  # an infer request holds one image at a time

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        if OpenVINOBackend._home is not None:
            OpenVINOBackend._home.check()
        with self._lock:
            result = self._request.infer([lr], share_inputs=True)
            return np.array(result[self._compiled.output(0)], np.float32)
