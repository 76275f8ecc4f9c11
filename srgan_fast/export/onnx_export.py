"""ONNX through torch's exporter, checked against torch before anybody can use the file."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from srgan_fast import __version__
from srgan_fast.data.calibration import calibration_folder, calibration_pictures
from srgan_fast.errors import BackendError, ModelError, SrganFastError, UsageError
from srgan_fast.files import atomic_write, check_writable
from srgan_fast.models import DEFAULT_MODEL, GeneratorFile, read_generator
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.registry import first_line

if TYPE_CHECKING:
    from srgan_fast.export.verify import Agreement, ExportPrecision

OPSET = 20
OPSETS = range(20, 26)  # from DequantizeLinear of fp16 to the newest that torch 2.14 and ONNX Runtime 1.32 agree on
_VERIFIED_PICTURES = 8


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written and how it was checked.

    Attributes:
        path: of the file.
        size: in bytes.
        opset: of the graph.
        precision: of its convolutions.
        max_error: largest difference between ONNX Runtime and torch in fp32, over several shapes and photographs, in
            the 0..1 range of images.
        psnr_db: of the worst photograph.
        sha256: of the model's weights and settings, also in the file's metadata.
    """

    path: Path
    size: int
    opset: int
    precision: str
    max_error: float
    psnr_db: float
    sha256: str


@dataclass(frozen=True, slots=True)
class OnnxModel:
    """A graph that was checked, serialised."""

    data: bytes
    agreement: "Agreement"
    sha256: str


def export_onnx(
    model: str | Path = DEFAULT_MODEL,
    output: Path = Path("srgan.onnx"),
    *,
    precision: "ExportPrecision" = "fp32",
    pixels: bool = False,
    opset: int = OPSET,
    calibration: Path | None = None,
) -> ExportReport:
    """Writes one self-contained ONNX file: `lr` N, 3, H, W in 0..1 to `sr` N, 3, scale * H, scale * W, float32.

    N, H and W are free. BatchNorm is folded, PReLU and DepthToSpace are native operators. The file appears at `output`
    only after `onnx.checker` accepted it and ONNX Runtime agreed with torch.

    Args:
        model: a shipped model's name or a generator file.
        output: to write; ends in .onnx.
        precision: of convolutions and what lies between them. fp16 keeps float32 at the ends; int8 has
            QuantizeLinear and DequantizeLinear before convolutions and keeps the most sensitive in fp32.
        pixels: `lr` is N, H, W, 3 and `sr` N, scale * H, scale * W, 3, both uint8, so that the graph converts.
        opset: of the graph, one of `OPSETS`.
        calibration: folder of pictures that int8's ranges are taken from, and that results are compared on; this
            project's samples if None.

    Raises:
        ModelError: the model cannot be read, or the exported graph computes something else.
        BackendError: a package that exporting needs is missing.
        UsageError: an opset that cannot be had, or no pictures for int8.
        ImageError: a picture that cannot be read.
        FileError: the file cannot be written.
    """
    if output.suffix.lower() != ".onnx":
        raise ModelError(f"{output}: ONNX files end in .onnx")
    file = read_generator(model)
    require_exporter()
    check_writable(output)
    made = make_onnx(file, precision=precision, pixels=pixels, opset=opset, calibration=calibration)
    with atomic_write(output) as target:
        target.write(made.data)
    agreement = made.agreement
    return ExportReport(output, len(made.data), opset, precision, agreement.max_error, agreement.psnr_db, made.sha256)


def make_onnx(
    file: GeneratorFile,
    *,
    precision: "ExportPrecision" = "fp32",
    pixels: bool = False,
    opset: int = OPSET,
    calibration: Path | None = None,
    beside_int8: Literal["fp32", "fp16"] = "fp32",
) -> OnnxModel:
    """The checked graph that `export_onnx` writes.

    Args:
        file: the generator.
        precision: see `export_onnx`.
        pixels: see `export_onnx`.
        opset: see `export_onnx`.
        calibration: see `export_onnx`.
        beside_int8: what is computed in where int8 is not: fp32 for CPUs, fp16 for GPUs.

    Raises:
        Exception: see `export_onnx`.
    """
    if opset not in OPSETS:
        raise UsageError(f"opset is {opset}; it must lie between {OPSETS[0]} and {OPSETS[-1]}")
    require_exporter()
    import onnx  # noqa: PLC0415 (heavy extra)

    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UsageError(f"opset is {opset}; the onnx {onnx.__version__} that is installed knows {newest}")
    from srgan_fast.export.quantize import as_input, quantize  # noqa: PLC0415
    from srgan_fast.export.trace import trace  # noqa: PLC0415
    from srgan_fast.export.verify import verify  # noqa: PLC0415

    pictures = _pictures(calibration, needed=precision == "int8")
    digest = weights_digest(file)
    try:
        if precision == "int8":
            proto = trace(file, beside_int8, pixels, opset)
            proto = quantize(proto, [as_input(picture, pixels) for picture in pictures])
        else:
            proto = trace(file, precision, pixels, opset)
        _describe(proto, file, digest, precision, pixels)
        onnx.checker.check_model(proto, full_check=True)
        data = proto.SerializeToString()
        agreement = verify(file, data, pixels, pictures[:_VERIFIED_PICTURES])
    except (SrganFastError, MemoryError):
        raise
    except Exception as error:  # each of the libraries has exceptions of its own
        raise ModelError(f"{file.name}: cannot be exported at opset {opset} ({first_line(error)})") from error
    if problem := agreement.problem(precision, pixels):
        raise ModelError(f"{file.name}: the exported {precision} graph {problem}")
    return OnnxModel(data, agreement, digest)


def require_exporter() -> None:
    """Whether all that exporting needs is installed.

    Raises:
        BackendError: something is not.
    """
    try:
        import onnx  # noqa: PLC0415, F401 (heavy extras)
        import onnxruntime  # noqa: PLC0415, F401
        import onnxscript  # noqa: PLC0415, F401
        import torch  # noqa: PLC0415, F401
    except ImportError as error:
        raise BackendError(f"exporting needs {error.name}: pip install 'srgan_fast[train,onnx]'") from None


def weights_digest(file: GeneratorFile) -> str:
    """SHA-256 over a generator's settings and weights, independent of the file they came from."""
    digest = hashlib.sha256(repr(file.config).encode())
    for name in sorted(file.weights):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(file.weights[name]).tobytes())
    return digest.hexdigest()


def _pictures(folder: Path | None, needed: bool) -> list[FloatImages]:
    """Photographs; where the package is installed without samples and needs none, waves that stand for one."""
    if needed or calibration_folder(folder) is not None:
        return calibration_pictures(folder)
    y, x, channel = np.mgrid[0:96, 0:96, 0:3]
    waves = 0.5 + 0.25 * np.sin(x * (0.1 + channel / 9)) + 0.25 * np.sin(y * y / 150 + channel)
    return [np.ascontiguousarray(waves.transpose(2, 0, 1)[None], np.float32)]


def _describe(proto: Any, file: GeneratorFile, digest: str, precision: str, pixels: bool) -> None:
    """Readable names for the output's sides, and metadata."""
    scale = file.config.scale
    dims = proto.graph.output[0].type.tensor_type.shape.dim
    rows, columns = (1, 2) if pixels else (2, 3)
    dims[0].dim_param, dims[rows].dim_param, dims[columns].dim_param = "batch", f"{scale}*height", f"{scale}*width"
    proto.producer_name, proto.producer_version = "srgan_fast", __version__
    values = "RGB, N, H, W, 3, uint8" if pixels else "RGB 0..1 in and out, not clamped"
    proto.doc_string = f"{file.name}: x{scale} super-resolution, {values}; convolutions in {precision}"
    known = {
        "model": file.name,
        "scale": str(scale),
        "precision": precision,
        "sha256": digest,
        "srgan_fast": __version__,
    }
    for key, value in {**known, **{k: v for k, v in file.metadata.items() if k in ("licence", "preset")}}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
