"""The task of handing a generator to other programs."""

from srgan_fast.export.onnx_export import ExportReport, export_onnx

__all__ = ["ExportReport", "export_onnx"]
