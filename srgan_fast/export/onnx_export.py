"""ONNX through torch's exporter, checked against torch before anybody can use the file."""

import hashlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from srgan_fast import __version__
from srgan_fast.errors import BackendError, FileError, ModelError
from srgan_fast.files import atomic_write
from srgan_fast.models import DEFAULT_MODEL, GeneratorFile, load_generator, read_generator

OPSET = 20
TOLERANCE = 1e-4  # of ONNX Runtime against torch, in the 0..1 range of images
# Shapes (N, H, W) that the file must get right: smallest, odd, not square, a batch, larger than the traced example.
CHECKED_SHAPES = ((1, 1, 1), (1, 7, 13), (2, 24, 32), (1, 65, 48))
_TRACED_SHAPE = (2, 3, 24, 32)  # sizes of 1 would be taken for constants


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written and how it was checked.

    Attributes:
        path: of the file.
        size: in bytes.
        opset: of the graph.
        max_error: largest difference between ONNX Runtime and torch over `CHECKED_SHAPES`, images in 0..1.
        sha256: of the model's weights and settings, also in the file's metadata.
    """

    path: Path
    size: int
    opset: int
    max_error: float
    sha256: str


def export_onnx(model: str | Path = DEFAULT_MODEL, output: Path = Path("srgan.onnx")) -> ExportReport:
    """Writes one self-contained ONNX file: `lr` N, 3, H, W in 0..1 to `sr` N, 3, scale * H, scale * W, float32.

    N, H and W are free. BatchNorm is folded, PReLU and DepthToSpace are native operators. The file appears at `output`
    only after `onnx.checker` accepted it and ONNX Runtime agreed with torch.

    Raises:
        ModelError: the model cannot be read, or the exported graph computes something else.
        BackendError: a package that exporting needs is missing.
    """
    if output.suffix.lower() != ".onnx":
        raise ModelError(f"{output}: ONNX files end in .onnx")
    file = read_generator(model)
    try:
        import onnx  # noqa: PLC0415 (heavy extras)
        import onnxruntime  # noqa: PLC0415, F401
        import onnxscript  # noqa: PLC0415, F401
        import torch  # noqa: PLC0415, F401
    except ImportError as error:
        raise BackendError(f"exporting needs {error.name}: pip install 'srgan_fast[train,onnx]'") from None
    proto = _trace(file)
    digest = weights_digest(file)
    _describe(proto, file, digest)
    onnx.checker.check_model(proto, full_check=True)
    data = proto.SerializeToString()
    difference = _verify(file, data)
    if not difference <= TOLERANCE:
        raise ModelError(
            f"{file.name}: the exported graph differs from torch by {difference:.1e}, more than {TOLERANCE:.0e}"
        )
    try:
        with atomic_write(output) as target:
            target.write(data)
    except FileError as problem:
        raise ModelError(str(problem)) from None
    return ExportReport(output, len(data), OPSET, difference, digest)


def weights_digest(file: GeneratorFile) -> str:
    """SHA-256 over a generator's settings and weights, independent of the file they came from."""
    digest = hashlib.sha256(repr(file.config).encode())
    for name in sorted(file.weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(file.weights[name]).tobytes())
    return digest.hexdigest()


def _trace(file: GeneratorFile) -> Any:
    import onnx  # noqa: PLC0415
    import torch  # noqa: PLC0415

    from srgan_fast.runtime.torch_backend import fold_batchnorm  # noqa: PLC0415

    generator = fold_batchnorm(load_generator(file))
    free = {0: torch.export.Dim("batch"), 2: torch.export.Dim("height"), 3: torch.export.Dim("width")}
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            generator,
            (torch.rand(_TRACED_SHAPE),),
            str(path),
            dynamo=True,
            opset_version=OPSET,
            input_names=["lr"],
            output_names=["sr"],
            dynamic_shapes={"lr": free},
            external_data=False,
            verbose=False,
        )
        return onnx.load(path)


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


def _describe(proto: Any, file: GeneratorFile, digest: str) -> None:
    """Readable names for the output's sides, and metadata."""
    scale = file.config.scale
    dims = proto.graph.output[0].type.tensor_type.shape.dim
    dims[0].dim_param, dims[2].dim_param, dims[3].dim_param = "batch", f"{scale}*height", f"{scale}*width"
    proto.producer_name, proto.producer_version = "srgan_fast", __version__
    proto.doc_string = f"{file.name}: x{scale} super-resolution, RGB 0..1 in and out, not clamped"
    known = {"model": file.name, "scale": str(scale), "sha256": digest, "srgan_fast": __version__}
    for key, value in {**known, **{k: v for k, v in file.metadata.items() if k in ("licence", "preset")}}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value


def _verify(file: GeneratorFile, data: bytes) -> float:
    import onnxruntime  # noqa: PLC0415
    import torch  # noqa: PLC0415

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    generator = load_generator(file)
    rng = np.random.default_rng(0)
    worst = 0.0
    for count, height, width in CHECKED_SHAPES:
        lr = rng.random((count, 3, height, width), np.float32)
        with torch.inference_mode():
            expected = generator(torch.from_numpy(lr)).numpy()
        got = session.run(None, {"lr": lr})[0]
        if got.shape != expected.shape:
            raise ModelError(f"{file.name}: the exported graph gives {got.shape} instead of {expected.shape}")
        worst = max(worst, float(np.abs(got - expected).max()))
    return worst
