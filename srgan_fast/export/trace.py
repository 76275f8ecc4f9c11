"""From a torch module to an ONNX graph, by torch's exporter."""

import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import onnx
import torch
from torch import Tensor, nn

from srgan_fast.models import GeneratorFile, load_generator
from srgan_fast.runtime.torch_backend import fold_batchnorm

_TRACED_SIZE = (2, 24, 32)  # sides of 1 would be taken for constants
_DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
_PREFIX = "generator."


class ExportedGenerator(nn.Module):
    """A generator between the types that a program hands over.

    Args:
        generator: folded, in eval mode.
        dtype: that it computes in.
        pixels: whether it takes and gives pictures, N, H, W, 3 uint8, instead of N, 3, H, W float32 in 0..1.
    """

    def __init__(self, generator: nn.Module, dtype: torch.dtype, pixels: bool) -> None:
        super().__init__()
        self.generator = generator.to(dtype)
        self.dtype = dtype
        self.pixels = pixels

    def forward(self, lr: Tensor) -> Tensor:
        """Upscales; what is not pixels is not clamped."""
        # Casts stand beside the input and the output: TensorRT takes uint8 nowhere else.
        if self.pixels:
            lr = lr.to(torch.float32).permute(0, 3, 1, 2) / 255
        sr: Tensor = self.generator(lr.to(self.dtype)).to(torch.float32)
        if self.pixels:
            sr = (sr.clamp(0, 1) * 255).round().permute(0, 2, 3, 1).to(torch.uint8)
        return sr


def trace(file: GeneratorFile, precision: Literal["fp32", "fp16"], pixels: bool, opset: int) -> Any:
    """The generator's graph as an `onnx.ModelProto`, `lr` to `sr`, with N, H and W free and BatchNorm folded.

    Initialisers carry the names of the generator's state dict.
    """
    module = ExportedGenerator(fold_batchnorm(load_generator(file)), _DTYPES[precision], pixels).eval()
    count, height, width = _TRACED_SIZE
    if pixels:
        example = torch.zeros((count, height, width, 3), dtype=torch.uint8)
        free = {0: torch.export.Dim("batch"), 1: torch.export.Dim("height"), 2: torch.export.Dim("width")}
    else:
        example = torch.rand((count, 3, height, width))
        free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            module,
            (example,),
            str(path),
            dynamo=True,
            opset_version=opset,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_shapes={"lr": free},
            external_data=False,
            verbose=False,
        )
        proto = onnx.load(path)
    for tensor in proto.graph.initializer:
        tensor.name = tensor.name.removeprefix(_PREFIX)
    for node in proto.graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = name.removeprefix(_PREFIX)
    return proto


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporter's progress lines and warnings about its own internals are not the user's business."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
