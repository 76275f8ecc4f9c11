"""A network as data: the list of convolutions, its analysis, and readers that need no runtime.

`graph` holds the types, `analysis` what is computed from them, `lowering` the arithmetic that turns other layers into
convolutions. `interpreter` runs a network in float64; `onnx_graph` and `torch_module` convert it.
"""

from srgan_fast.network.analysis import (
    ValueShape,
    last_readers,
    macs_per_image_pixel,
    parameter_count,
    readers,
    receptive_radius,
    scale_of,
    value_shapes,
)
from srgan_fast.network.graph import IMAGE, ColourMap, Conv, Network, Residual, Skip, value_of

__all__ = [
    "IMAGE",
    "ColourMap",
    "Conv",
    "Network",
    "Residual",
    "Skip",
    "ValueShape",
    "last_readers",
    "macs_per_image_pixel",
    "parameter_count",
    "readers",
    "receptive_radius",
    "scale_of",
    "value_of",
    "value_shapes",
]
