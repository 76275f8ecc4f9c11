"""ONNX Runtime, on the CPU or with the execution providers of onnxruntime-gpu and onnxruntime-openvino."""

import numpy as np
import onnxruntime as ort

from srgan_fast.errors import BackendError
from srgan_fast.models import ModelFile
from srgan_fast.network.onnx_graph import build_onnx
from srgan_fast.runtime.forks import Home
from srgan_fast.runtime.protocol import FloatImages, Precision

_LOG_ERRORS = 3


class OnnxRuntimeBackend:
    """A session for the network's ONNX graph; fp32.

    Inputs and outputs are bound (IO binding), to avoid copies.
    """

    name = "onnxruntime"
    device = "CPU"
    provider = "CPUExecutionProvider"
    package = "onnxruntime"

    def __init__(self, file: ModelFile, precision: Precision, threads: int) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = _LOG_ERRORS
        graph = build_onnx(file.network, file.name).SerializeToString()
        self._scale, self._channels = file.scale, file.channels
        self._home = Home(self.name, "load the model again in this one")
        providers = list(dict.fromkeys((self.provider, "CPUExecutionProvider")))
        self._session = ort.InferenceSession(graph, options, providers=providers)
        # ONNX Runtime silently skips a provider whose libraries are missing.
        if self._session.get_providers()[0] != self.provider:
            raise BackendError(
                f"backend {self.name}: the libraries of {self.provider} do not load; pip install {self.package}"
            )

    @classmethod
    def why_not(cls) -> str | None:
        """Why this build of ONNX Runtime cannot be used; None if it can."""
        if cls.provider in ort.get_available_providers():
            return None
        return f"needs an ONNX Runtime with {cls.provider}: pip install {cls.package}"

    def run(self, lr: FloatImages) -> FloatImages:
        """See `Backend.run`."""
        count, channels, height, width = lr.shape
        sr = np.empty((count, channels, height * self._scale, width * self._scale), np.float32)
        self.run_in_place(lr.ctypes.data, sr.ctypes.data, (count, height, width))
        return sr

    def run_in_place(self, lr: int, sr: int, shape: tuple[int, int, int], memory: str = "cpu", index: int = 0) -> None:
        """Upscales from one buffer to another, and waits for completion.

        Args:
            lr: address of N, C, H, W float32 in 0..1, contiguous.
            sr: address of a buffer for the result.
            shape: N, H and W.
            memory: location of both, `cpu` or `cuda`.
            index: of the device.
        """
        self._home.check()
        count, height, width = shape
        larger = (count, self._channels, height * self._scale, width * self._scale)
        binding = self._session.io_binding()  # one per call: threads may share the session
        binding.bind_input("lr", memory, index, np.float32, (count, self._channels, height, width), lr)
        binding.bind_output("sr", memory, index, np.float32, larger, sr)
        self._session.run_with_iobinding(binding)


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """CUDA execution provider, which uses cuDNN."""

    name = "onnxruntime-cuda"
    device = "CUDA"
    provider = "CUDAExecutionProvider"
    package = "onnxruntime-gpu"


class TensorRTProviderBackend(OnnxRuntimeBackend):
    """TensorRT execution provider."""

    name = "onnxruntime-tensorrt"
    device = "CUDA"
    provider = "TensorrtExecutionProvider"
    package = "onnxruntime-gpu tensorrt"


class OpenVINOProviderBackend(OnnxRuntimeBackend):
    """OpenVINO execution provider."""

    name = "onnxruntime-openvino"
    provider = "OpenVINOExecutionProvider"
    package = "onnxruntime-openvino"
