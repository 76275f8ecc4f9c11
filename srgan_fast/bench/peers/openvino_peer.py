"""OpenVINO on the CPU: f32, bf16, and int8 by NNCF's post-training quantisation.

The precision is always said: left alone, OpenVINO computes an fp32 model in bf16 where the CPU can.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import openvino as ov

from srgan_fast.bench.candidates import Job, Loaded
from srgan_fast.bench.options import BenchPrecision
from srgan_fast.bench.peers.onnx_file import fixed_onnx, free_onnx
from srgan_fast.data.calibration import calibration_pictures
from srgan_fast.errors import BackendError
from srgan_fast.runtime.openvino_backend import computes
from srgan_fast.runtime.protocol import FloatImages

_QUANTISED = "int8.xml"


def prepare(job: Job, precision: BenchPrecision) -> None:
    """Writes the graph; for int8 the quantised one, which is made once for all sizes."""
    if precision != "int8":
        fixed_onnx(job)
    elif not (job.folder / _QUANTISED).exists():
        import nncf  # noqa: PLC0415 (drags torch in; only the process that quantises needs it)

        pictures = calibration_pictures(job.calibration)
        data = nncf.Dataset(pictures, lambda lr: {"lr": lr})
        model = ov.Core().read_model(free_onnx(job))
        ov.save_model(nncf.quantize(model, data, subset_size=len(pictures)), job.folder / _QUANTISED)


def why_not_bf16() -> str | None:
    """See `Bf16Peer`."""
    return None if computes("bf16") else _other_precision("f32", "bf16")


def load(job: Job, row: str, lr: FloatImages) -> Loaded:
    """A compiled model of a fixed size, for latency, with a request that reads the input where it lies."""
    core = ov.Core()
    quantised = row.endswith("int8")
    model = core.read_model(job.folder / _QUANTISED if quantised else fixed_onnx(job))
    if quantised:
        model.reshape([job.batch, 3, *job.size])
    hint = "bf16" if row.endswith("bf16") else "f32"
    settings = {"INFERENCE_PRECISION_HINT": hint, "INFERENCE_NUM_THREADS": job.threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = core.compile_model(model, "CPU", settings)
    used = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if used != hint:
        raise BackendError(_other_precision(used, hint))

    def caller() -> Callable[[], Any]:
        request = compiled.create_infer_request()
        request.set_input_tensor(ov.Tensor(lr, shared_memory=True))

        def run() -> Any:
            request.infer()
            return request.get_output_tensor()

        return run

    return Loaded(caller(), lambda tensor: np.array(tensor.data, np.float32), caller=caller)


def _other_precision(used: str, asked: str) -> str:
    return f"OpenVINO computes in {used} on this CPU, not in {asked}"
