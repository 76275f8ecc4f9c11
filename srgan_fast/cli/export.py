"""`srgan-fast export`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from srgan_fast.cli.console import build_progress, say
from srgan_fast.cli.options import Model
from srgan_fast.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Export a model for other programs.")


class ExportPrecisionName(StrEnum):
    """Precisions of a graph's convolutions."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class FlavourName(StrEnum):
    """Libraries that build engines."""

    AUTO = "auto"
    TENSORRT = "tensorrt"
    TENSORRT_RTX = "tensorrt-rtx"


class HardwareName(StrEnum):
    """Other GPUs that an engine may run on."""

    NONE = "none"
    SAME_COMPUTE_CAPABILITY = "same-compute-capability"
    AMPERE_PLUS = "ampere-plus"


Overwrite = Annotated[bool, typer.Option("--overwrite", help="Overwrite an existing file.")]
Calibration = Annotated[
    Path | None,
    typer.Option(
        "--calibration", help="Folder of images for int8 calibration and verification.", show_default="the samples"
    ),
]
Pixels = Annotated[bool, typer.Option("--pixels", help="Use N, H, W, 3 uint8 as input and output; the graph converts.")]


@app.command("onnx", no_args_is_help=True)
def onnx(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .onnx file to write.")],
    model: Model = "srgan-x4",
    precision: Annotated[
        ExportPrecisionName,
        typer.Option("--precision", help="Precision of convolutions; int8 keeps the first and last layers in fp32."),
    ] = ExportPrecisionName.FP32,
    pixels: Pixels = False,
    opset: Annotated[int, typer.Option("--opset", help="ONNX opset, 20 to 25.")] = 20,
    calibration: Calibration = None,
    overwrite: Overwrite = False,
) -> None:
    """Write an ONNX file with dynamic batch and image size, verified against the network in float64."""
    from srgan_fast.export import export_onnx  # noqa: PLC0415 (start-up time)

    _refuse_to_replace(output, overwrite)
    report = export_onnx(model, output, precision=precision.value, pixels=pixels, opset=opset, calibration=calibration)
    say(
        f"{report.path}: {report.size / 1e6:.1f} MB, {report.precision}, opset {report.opset}, "
        f"{report.psnr_db:.1f} dB from float64 on images, at most {report.max_error:.1e} on them and on noise"
    )


@app.command("tensorrt", no_args_is_help=True)
def tensorrt(
    output: Annotated[Path, typer.Option("--output", "-o", help="The .engine file to write, with a .json beside it.")],
    model: Model = "srgan-x4",
    precision: Annotated[
        ExportPrecisionName,
        typer.Option("--precision", help="Precision of convolutions; int8 keeps the first and last layers in fp16."),
    ] = ExportPrecisionName.FP16,
    flavour: Annotated[
        FlavourName, typer.Option("--flavour", help="Library to build with; auto selects the first installed.")
    ] = FlavourName.AUTO,
    min_shapes: Annotated[
        str, typer.Option("--min-shapes", metavar="NxCxHxW", help="Smallest batch and image.")
    ] = "1x3x1x1",
    opt_shapes: Annotated[
        str, typer.Option("--opt-shapes", metavar="NxCxHxW", help="Shape to optimise for.")
    ] = "1x3x256x256",
    max_shapes: Annotated[
        str, typer.Option("--max-shapes", metavar="NxCxHxW", help="Largest batch and image.")
    ] = "1x3x512x512",
    pixels: Pixels = False,
    hardware: Annotated[
        HardwareName, typer.Option("--hardware-compatibility", help="Hardware compatibility level (TensorRT).")
    ] = HardwareName.NONE,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Allow later TensorRT versions to run the engine (TensorRT).")
    ] = False,
    compute_capability: Annotated[
        list[str] | None,
        typer.Option(
            "--compute-capability",
            help="Target compute capability, e.g. 8.6 (TensorRT-RTX); repeatable.",
            show_default="library default",
        ),
    ] = None,
    optimization_level: Annotated[
        int | None, typer.Option("--optimization-level", help="0 to 5: how long to search for faster kernels.")
    ] = None,
    workspace: Annotated[
        int | None, typer.Option("--workspace", metavar="MIB", help="Device memory for kernels.", show_default="all")
    ] = None,
    timing_cache: Annotated[
        Path | None, typer.Option("--timing-cache", help="File of kernel timings, read and updated (TensorRT).")
    ] = None,
    calibration: Calibration = None,
    overwrite: Overwrite = False,
) -> None:
    """Build an engine for TensorRT or TensorRT-RTX from a graph verified against the network in float64.

    The types of the parsed network are compared with the requested precision before building.
    """
    from srgan_fast.export import export_tensorrt  # noqa: PLC0415 (start-up time)
    from srgan_fast.runtime.tensorrt.builder import BuildOptions  # noqa: PLC0415
    from srgan_fast.runtime.tensorrt.shapes import Profile, parse_shape  # noqa: PLC0415

    profile = Profile(parse_shape(min_shapes), parse_shape(opt_shapes), parse_shape(max_shapes))
    _refuse_to_replace(output, overwrite)
    options = BuildOptions(
        profile=profile,
        hardware=hardware.value,
        version_compatible=version_compatible,
        compute_capabilities=tuple(compute_capability or ()),
        optimization_level=optimization_level,
        workspace_mib=workspace,
        timing_cache=timing_cache,
    )
    with build_progress() as tell:
        report = export_tensorrt(
            model,
            output,
            precision=precision.value,
            flavour=flavour.value,
            options=options,
            pixels=pixels,
            calibration=calibration,
            on_progress=tell,
        )
    types = ", ".join(f"{count} {name}" for name, count in sorted(report.convolutions.items()))
    say(
        f"{report.path}: {report.size / 1e6:.1f} MB, {report.library} for {report.device}, convolutions: {types}; "
        f"its graph is {report.psnr_db:.1f} dB from float64 on images"
    )


def _refuse_to_replace(output: Path, overwrite: bool) -> None:
    if output.exists() and not overwrite:
        raise UsageError(f"{output}: already exists; use --overwrite")
