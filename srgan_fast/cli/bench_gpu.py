"""`srgan-fast bench gpu`."""

from typing import Annotated, NoReturn

import typer

from srgan_fast.cli.console import say
from srgan_fast.cli.reports import HtmlFile, JsonFile, make_bench_report
from srgan_fast.errors import UsageError

EXIT_WRONG, EXIT_SLOWER, EXIT_NOT_MEASURED = 3, 4, 5  # 1 and 2: other errors, as everywhere


def gpu(
    quick: Annotated[
        bool, typer.Option("--quick", help="Take three minutes at most; what does not fit is left out.")
    ] = False,
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Batch size of training steps.", show_default="16; quick: 8")
    ] = None,
    hr: Annotated[int, typer.Option("--hr", min=32, help="Side of the high-resolution crops, a multiple of 16.")] = 96,
    store: Annotated[
        bool, typer.Option(help="Let auto use what was faster on this GPU from now on; results must be right.")
    ] = True,
    sanitizer: Annotated[
        bool, typer.Option("--sanitizer", help="Also run compute-sanitizer, which takes up to 20 minutes.")
    ] = False,
    json_file: JsonFile = None,
    html_file: HtmlFile = None,
) -> None:
    """Report on this GPU: what it is, whether our kernels are right on it, and whether they are faster than PyTorch.

    Exit code 0: right, and nowhere slower than PyTorch. 3: wrong results. 4: right, but a whole network or training
    step is slower than one of PyTorch's ways. 5: could not be measured: no GPU, no kernels, or a part that failed.
    """
    from srgan_fast.runtime.registry import has_nvidia_driver  # noqa: PLC0415 (start-up time)

    if hr % 16:
        raise UsageError(f"--hr is {hr}; it must be a multiple of 16")
    if not has_nvidia_driver():  # importing torch to hear so takes seconds
        _not_measured("this machine has no CUDA device that PyTorch can use")
    try:
        from srgan_fast.bench.gpu import GpuNotMeasuredError, GpuOptions, bench_gpu  # noqa: PLC0415 (start-up time)
        from srgan_fast.bench.page.gpu import gpu_page  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise UsageError(f"this benchmark needs {error.name}: pip install 'srgan_fast[bench]'") from None
    options = GpuOptions(quick, batch or (8 if quick else 16), hr, sanitizer, store)
    try:
        report = make_bench_report(
            lambda tell: bench_gpu(options, tell), gpu_page, json_file, csv_file=None, html_file=html_file
        )
    except GpuNotMeasuredError as error:
        _not_measured(str(error))
    for line in report.wrong():
        say(line, label="wrong")
    for row in report.slower():
        say(f"{row.what}: ours takes {1 / (row.ratio or 1):.2f} times as long as {row.way}", label="slower")
    codes = {"fine": 0, "wrong": EXIT_WRONG, "slower": EXIT_SLOWER, "not measured": EXIT_NOT_MEASURED}
    if code := codes[report.outcome()]:
        raise typer.Exit(code)


def _not_measured(reason: str) -> NoReturn:
    say(reason, label="error")
    raise typer.Exit(EXIT_NOT_MEASURED)
