"""Networks in the formats of other runtimes.

`ncnn_file` and `onnx_file` read files into one kind of little graph (`graph`), `fuse` turns that into a network.
"""

from srgan_fast.models.graphs.ncnn_file import read_ncnn
from srgan_fast.models.graphs.onnx_file import read_onnx

__all__ = ["read_ncnn", "read_onnx"]
