"""Exports engines for TensorRT and TensorRT-RTX from the verified graph that `export_onnx` writes."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_fast.errors import BackendError, ModelError
from srgan_fast.export.onnx_export import make_onnx, require_exporter
from srgan_fast.files import check_writable
from srgan_fast.models import DEFAULT_MODEL, read_model
from srgan_fast.runtime.protocol import OnBuild
from srgan_fast.runtime.tensorrt.builder import BuildOptions, build_engine, check_options
from srgan_fast.runtime.tensorrt.engine_file import engine_key, sidecar, write_engine
from srgan_fast.runtime.tensorrt.flavour import Library, load_library
from srgan_fast.runtime.tensorrt.gpu import describe_gpu, why_no_gpu

if TYPE_CHECKING:
    from srgan_fast.export.verify import ExportPrecision


@dataclass(frozen=True, slots=True)
class EngineReport:
    """An exported engine.

    Attributes:
        path: path of the engine; the JSON file beside it says what it was built from and lists its layers.
        size: file size in bytes.
        precision: precision of its convolutions.
        library: library and version.
        device: target device.
        convolutions: number of convolutions per output type, as parsed; those that read quantised values count as INT8.
        psnr_db: PSNR of its graph against the network in float64, for the worst image. The engine itself is compared on
            GPUs: `srgan-fast bench inference --backend tensorrt`.
    """

    path: Path
    size: int
    precision: str
    library: str
    device: str
    convolutions: dict[str, int]
    psnr_db: float


def export_tensorrt(
    model: str | Path = DEFAULT_MODEL,
    output: Path = Path("srgan.engine"),
    *,
    precision: "ExportPrecision" = "fp16",
    flavour: str = "auto",
    options: BuildOptions | None = None,
    pixels: bool = False,
    calibration: Path | None = None,
    on_progress: OnBuild = lambda phase, done, of: None,
) -> EngineReport:
    """Builds an engine with `lr` and `sr` as in `export_onnx`.

    Args:
        model: name of a shipped model or path of a model file.
        output: file to write; ends in .engine.
        precision: of convolutions; what int8 excludes is fp16.
        flavour: `tensorrt`, which needs the target GPU; `tensorrt-rtx`, which builds anywhere for RTX GPUs; `auto` for
            the first that is installed.
        options: shapes and other build options.
        pixels: see `export_onnx`.
        calibration: see `export_onnx`.
        on_progress: called with the progress.

    Raises:
        ModelError: the model cannot be read, or its graph computes something else.
        BackendError: a package is missing, or the build fails.
        UsageError: options that the library does not support.
        FileError: the files cannot be written; no partial files are left.
    """
    if output.suffix.lower() != ".engine":
        raise ModelError(f"{output}: engines end in .engine")
    require_exporter()
    library = load_library(flavour)
    options = options or BuildOptions()
    check_options(library, options)
    file = read_model(model)
    if file.channels != 3:
        raise ModelError(f"{file.name}: engines are built for networks of 3 channels; it has {file.channels}")
    for path in (output, sidecar(output), *filter(None, (options.timing_cache,))):
        check_writable(path)
    device = _device(library, options)
    on_progress("exporting and checking the graph", 0, 1)
    made = make_onnx(file, precision=precision, pixels=pixels, calibration=calibration, beside_int8="fp16")
    built = build_engine(library, made.data, precision, options, on_progress)
    write_engine(output, built, engine_key(library, made.data, precision, options, device))
    return EngineReport(
        path=output,
        size=len(built.data),
        precision=precision,
        library=f"{library.flavour.name} {library.version}",
        device=device,
        convolutions=built.convolutions(),
        psnr_db=made.agreement.psnr_db,
    )


def _device(library: Library, options: BuildOptions) -> str:
    if not library.flavour.needs_gpu:
        chosen = options.compute_capabilities
        return f"compute capability {', '.join(chosen)}" if chosen else "its default GPUs"
    if reason := why_no_gpu():
        raise BackendError(f"tensorrt builds for the installed GPU: it {reason}")
    return describe_gpu()
