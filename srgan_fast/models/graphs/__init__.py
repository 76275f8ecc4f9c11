"""Networks in the formats of other runtimes.

`ncnn_file` and `onnx_file` read files into an intermediate graph (`graph`), which `fuse` converts to a network.
"""

from srgan_fast.models.graphs.ncnn_file import read_ncnn
from srgan_fast.models.graphs.onnx_file import read_onnx

__all__ = ["read_ncnn", "read_onnx"]
