"""The network's graph with fixed sizes, which lets runtimes plan more than free ones do."""

from pathlib import Path

from srgan_fast.bench.candidates import Job
from srgan_fast.files import atomic_write
from srgan_fast.network.onnx_graph import build_onnx


def fixed_onnx(job: Job) -> Path:
    """The ONNX file for the job's size and batch; written on first use."""
    path = job.shape_folder / "fixed.onnx"
    if not path.exists():
        model = build_onnx(job.file.network, job.file.name)
        height, width = job.size
        scale = job.file.scale
        for value, sides in (
            (model.graph.input[0], (height, width)),
            (model.graph.output[0], (height * scale, width * scale)),
        ):
            for dim, length in zip(
                value.type.tensor_type.shape.dim, (job.batch, job.file.channels, *sides), strict=True
            ):
                dim.dim_value = length
        with atomic_write(path) as file:
            file.write(model.SerializeToString())
    return path


def free_onnx(job: Job) -> Path:
    """The ONNX file for any size; written on first use."""
    path = job.folder / "free.onnx"
    if not path.exists():
        with atomic_write(path) as file:
            file.write(build_onnx(job.file.network, job.file.name).SerializeToString())
    return path
