"""Exports networks to ONNX, verified in ONNX Runtime against the float64 interpreter before the file is written."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from srgan_fast import __version__
from srgan_fast.data.calibration import calibration_folder, calibration_images
from srgan_fast.errors import BackendError, ModelError, SrganFastError, UsageError
from srgan_fast.files import atomic_write, check_writable
from srgan_fast.models import DEFAULT_MODEL, ModelFile, read_model
from srgan_fast.network.graph import Network
from srgan_fast.runtime.protocol import FloatImages
from srgan_fast.runtime.registry import first_line

if TYPE_CHECKING:
    import onnx

    from srgan_fast.export.verify import Agreement, ExportPrecision

OPSET = 20
OPSETS = range(20, 26)  # from fp16 DequantizeLinear to the newest that ONNX Runtime 1.32 supports
_GOOD_INT8 = 46.0  # PSNR in dB against the network from which no more convolutions need to be excluded from int8
_VERIFIED_IMAGES = 8


@dataclass(frozen=True, slots=True)
class ExportReport:
    """An exported file and its verification.

    Attributes:
        path: path of the file.
        size: file size in bytes.
        opset: opset of the graph.
        precision: precision of its convolutions.
        max_error: largest difference between ONNX Runtime and the network in float64, over several shapes and images,
            for values in 0..1.
        psnr_db: PSNR of the worst image.
        sha256: SHA-256 of the model's weights and settings, also in the file's metadata.
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
    """A verified, serialised graph."""

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
    """Exports a self-contained ONNX file: `lr` N, C, H, W in 0..1 to `sr` N, C, scale * H, scale * W, float32.

    N, H and W are dynamic; H and W must be multiples of the network's pixel-unshuffle. BatchNorm is folded, activations
    and DepthToSpace are native operators. The file is written to `output` only after `onnx.checker` accepted it and
    ONNX Runtime agreed with the network in float64.

    Args:
        model: name of a shipped model or path of a model file.
        output: file to write; ends in .onnx.
        precision: of convolutions and everything between them. fp16 keeps float32 inputs and outputs; int8 inserts
            QuantizeLinear and DequantizeLinear before convolutions and keeps the most sensitive ones in fp32.
        pixels: uint8 input and output: `lr` is N, H, W, C, `sr` is N, scale * H, scale * W, C, and the graph converts.
        opset: one of `OPSETS`.
        calibration: folder of images for int8 calibration and for verification; this project's samples if None.

    Raises:
        ModelError: the model cannot be read, or the exported graph computes something else.
        BackendError: a package needed for exporting is missing.
        UsageError: an unsupported opset, or no images for int8.
        ImageError: an image that cannot be read.
        FileError: the file cannot be written.
    """
    if output.suffix.lower() != ".onnx":
        raise ModelError(f"{output}: ONNX files end in .onnx")
    file = read_model(model)
    require_exporter()
    check_writable(output)
    made = make_onnx(file, precision=precision, pixels=pixels, opset=opset, calibration=calibration)
    with atomic_write(output) as target:
        target.write(made.data)
    agreement = made.agreement
    return ExportReport(output, len(made.data), opset, precision, agreement.max_error, agreement.psnr_db, made.sha256)


def make_onnx(
    file: ModelFile,
    *,
    precision: "ExportPrecision" = "fp32",
    pixels: bool = False,
    opset: int = OPSET,
    calibration: Path | None = None,
    beside_int8: Literal["fp32", "fp16"] = "fp32",
) -> OnnxModel:
    """Builds and verifies the graph that `export_onnx` writes.

    Args:
        file: the model.
        precision: see `export_onnx`.
        pixels: see `export_onnx`.
        opset: see `export_onnx`.
        calibration: see `export_onnx`.
        beside_int8: precision of everything that is not int8: fp32 for CPUs, fp16 for GPUs.

    Raises:
        Exception: see `export_onnx`.
    """
    if opset not in OPSETS:
        raise UsageError(f"opset is {opset}; it must lie between {OPSETS[0]} and {OPSETS[-1]}")
    require_exporter()
    import onnx  # noqa: PLC0415 (heavy extra)

    newest = onnx.defs.onnx_opset_version()
    if opset > newest:
        raise UsageError(f"opset is {opset}; the installed onnx {onnx.__version__} supports up to {newest}")
    from srgan_fast.export.quantize import as_input, kept_convs, quantize  # noqa: PLC0415
    from srgan_fast.export.verify import verify  # noqa: PLC0415
    from srgan_fast.network.onnx_graph import build_onnx  # noqa: PLC0415

    images = [_fit(image, file.network) for image in _images(calibration, needed=precision == "int8")]
    digest = network_digest(file.network)
    try:
        dtype = np.float16 if (beside_int8 if precision == "int8" else precision) == "fp16" else np.float32
        plain = build_onnx(file.network, file.name, dtype, pixels=pixels, opset=opset)
        inputs = [as_input(image, pixels) for image in images]
        # For int8, exclude as few convolutions as possible.
        for kept in [kept_convs(file.network), kept_convs(file.network, upsamplers=True)]:
            proto = quantize(plain, inputs, kept) if precision == "int8" else plain
            _describe(proto, file, digest, precision, pixels)
            onnx.checker.check_model(proto, full_check=True)
            data = proto.SerializeToString()
            agreement = verify(file, data, pixels, images[:_VERIFIED_IMAGES])
            if precision != "int8" or agreement.psnr_db >= _GOOD_INT8:
                break
    except (SrganFastError, MemoryError):
        raise
    except Exception as error:  # every library raises its own exceptions
        raise ModelError(f"{file.name}: cannot be exported at opset {opset} ({first_line(error)})") from error
    if problem := agreement.problem(precision, pixels):
        raise ModelError(f"{file.name}: the exported {precision} graph {problem}")
    return OnnxModel(data, agreement, digest)


def require_exporter() -> None:
    """Checks that the packages needed for exporting are installed.

    Raises:
        BackendError: a package is missing.
    """
    try:
        import onnx  # noqa: PLC0415, F401 (heavy extras)
        import onnxruntime  # noqa: PLC0415, F401
    except ImportError as error:
        raise BackendError(f"exporting needs {error.name}: pip install 'srgan_fast[onnx]'") from None


def network_digest(network: Network) -> str:
    """SHA-256 of a network's parameters and structure, independent of its file and architecture."""
    digest = hashlib.sha256()
    settings = (network.channels, network.unshuffle, network.skip, network.tanh)
    digest.update(repr((settings, network.input_map, network.output_map)).encode())
    for conv in network.convs:
        digest.update(repr((conv.inputs, conv.residuals, conv.shuffle, conv.slope is None)).encode())
        for array in (conv.weight, conv.bias, *(() if conv.slope is None else (conv.slope,))):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _fit(image: FloatImages, network: Network) -> FloatImages:
    """Adapts an image to the channels and the multiples of sides that a network accepts."""
    colours = {1: image[:, :1], 3: image, 4: np.concatenate([image, np.ones_like(image[:, :1])], axis=1)}
    fitting = colours[network.channels]
    height, width = (side // network.unshuffle * network.unshuffle for side in image.shape[2:])
    return np.ascontiguousarray(fitting[:, :, :height, :width])


def _images(folder: Path | None, needed: bool) -> list[FloatImages]:
    """Images for verification; if the samples are not installed and not required, a synthetic image."""
    if needed or calibration_folder(folder) is not None:
        return calibration_images(folder)
    y, x, channel = np.mgrid[0:96, 0:96, 0:3]
    waves = 0.5 + 0.25 * np.sin(x * (0.1 + channel / 9)) + 0.25 * np.sin(y * y / 150 + channel)
    return [np.ascontiguousarray(waves.transpose(2, 0, 1)[None], np.float32)]


def _describe(proto: "onnx.ModelProto", file: ModelFile, digest: str, precision: str, pixels: bool) -> None:
    """Adds metadata."""
    scale = file.scale
    proto.producer_name, proto.producer_version = "srgan_fast", __version__
    colours = {1: "gray", 3: "RGB", 4: "RGBA"}[file.channels]
    values = f"{colours}, N, H, W, {file.channels}, uint8" if pixels else f"{colours} 0..1 in and out, not clamped"
    proto.doc_string = f"{file.name}: x{scale} super-resolution, {values}; convolutions in {precision}"
    known = {
        "model": file.name,
        "scale": str(scale),
        "architecture": file.architecture,
        "precision": precision,
        "sha256": digest,
        "srgan_fast": __version__,
    }
    for key, value in {**known, **{k: v for k, v in file.metadata.items() if k in ("licence", "preset")}}.items():
        entry = proto.metadata_props.add()
        entry.key, entry.value = key, value
