"""Options that several subcommands share."""

from enum import StrEnum
from typing import Annotated

import typer


class BackendName(StrEnum):
    """Runtimes that the command line offers."""

    AUTO = "auto"
    NATIVE = "native"
    ONNXRUNTIME = "onnxruntime"
    OPENVINO = "openvino"
    TORCH = "torch"
    CUDA = "cuda"
    ONNXRUNTIME_CUDA = "onnxruntime-cuda"
    ONNXRUNTIME_TENSORRT = "onnxruntime-tensorrt"
    ONNXRUNTIME_OPENVINO = "onnxruntime-openvino"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class PrecisionName(StrEnum):
    """Precisions that the command line offers."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class BorderName(StrEnum):
    """What networks see beyond an image's edge."""

    REPEAT = "repeat"
    ZERO = "zero"


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="A model's name (srgan-fast models, srgan-fast models --available), or a .safetensors, .pth, .pt, .ckpt, "
        ".param or .onnx file.",
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Which of several networks in a model file.", show_default="the averaged one"),
]
BackendOption = Annotated[BackendName, typer.Option("--backend", "-b", help="Runtime that computes.")]
PrecisionOption = Annotated[
    PrecisionName,
    typer.Option("--precision", help="Precision to compute in; auto: fp16 in our CUDA kernels, else fp32."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.", show_default="all")]
TileOption = Annotated[
    int | None,
    typer.Option(
        "--tile", min=0, help="Side of a tile in input pixels; 0 for one piece.", show_default="bounds memory"
    ),
]
HaloOption = Annotated[
    int | None,
    typer.Option(
        "--halo",
        min=0,
        help="Context around a tile in input pixels.",
        show_default="the receptive radius; 32 where that is more than 64",
    ),
]
BorderOption = Annotated[
    BorderName, typer.Option("--border", help="Beyond the edge: repeat the border, or the network's zero padding.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
