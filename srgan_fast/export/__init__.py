"""Exports models for other programs: ONNX files, and engines for TensorRT."""

from typing import TYPE_CHECKING

from srgan_fast.lazy import on_first_use

if TYPE_CHECKING:
    from srgan_fast.export.onnx_export import ExportReport, export_onnx
    from srgan_fast.export.tensorrt_export import EngineReport, export_tensorrt

__all__ = ["EngineReport", "ExportReport", "export_onnx", "export_tensorrt"]

__getattr__ = on_first_use(
    __name__,
    {
        "ExportReport": "srgan_fast.export.onnx_export",
        "export_onnx": "srgan_fast.export.onnx_export",
        "EngineReport": "srgan_fast.export.tensorrt_export",
        "export_tensorrt": "srgan_fast.export.tensorrt_export",
    },
)
