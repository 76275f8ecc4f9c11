"""Options shared by several subcommands."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BackendName(StrEnum):
    """Backends offered on the command line."""

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
    """Precisions offered on the command line."""

    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"
    FP16 = "fp16"


class BorderName(StrEnum):
    """Padding beyond an image's border."""

    REPEAT = "repeat"
    ZERO = "zero"


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        help="Model name (srgan-fast models, srgan-fast models --available) or file (.safetensors, .pth, .pt, .ckpt, "
        ".param or .onnx).",
    ),
]
Key = Annotated[
    str | None,
    typer.Option("--key", help="Key of the network in a file with several.", show_default="the averaged one"),
]
BackendOption = Annotated[BackendName, typer.Option("--backend", "-b", help="Backend that runs the network.")]
PrecisionOption = Annotated[
    PrecisionName,
    typer.Option("--precision", help="Compute precision; auto: fp16 with our CUDA kernels, else fp32."),
]
Threads = Annotated[int | None, typer.Option("--threads", min=1, help="CPU threads.", show_default="all")]
TileOption = Annotated[
    int | None,
    typer.Option(
        "--tile", min=0, help="Tile size in input pixels; 0 for no tiling.", show_default="chosen to bound memory"
    ),
]
HaloOption = Annotated[
    int | None,
    typer.Option(
        "--halo",
        min=0,
        help="Context around each tile in input pixels.",
        show_default="the receptive radius, or 32 if that exceeds 64",
    ),
]
BorderOption = Annotated[
    BorderName,
    typer.Option("--border", help="Padding at image borders: repeated border pixels or the network's zeros."),
]
SamplesOption = Annotated[
    Path | None,
    typer.Option("--calibration", help="Folder of images for int8 calibration.", show_default="the samples"),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON to standard output.")]
