"""`srgan-fast bench training`."""

from enum import StrEnum
from typing import Annotated

import typer

from srgan_fast.cli.options import Threads
from srgan_fast.cli.reports import CsvFile, HtmlFile, JsonFile, make_bench_report
from srgan_fast.errors import UsageError


class StageName(StrEnum):
    """Stages of training."""

    GAN = "gan"
    PRETRAIN = "pretrain"


def training(
    stage: Annotated[StageName, typer.Option("--stage", help="Train all three networks, or only the generator.")] = (
        StageName.GAN
    ),
    batch: Annotated[int, typer.Option("--batch", min=1, help="Batch size.")] = 16,
    hr: Annotated[int, typer.Option("--hr", help="Side of the high-resolution crops; a multiple of 16.")] = 96,
    features: Annotated[
        str, typer.Option("--features", metavar="CUT", help="Layer of VGG19: vgg54, features[:18], ...")
    ] = "features[:18]",
    row: Annotated[
        list[str] | None, typer.Option("--row", help="Row to measure; repeatable.", show_default="all")
    ] = None,
    rounds: Annotated[
        int, typer.Option("--iterations", "--rounds", min=1, help="Number of timed steps of each row.")
    ] = 7,
    threads: Threads = None,
    baseline: Annotated[
        str | None, typer.Option("--baseline", help="Row that ratios refer to.", show_default="stock")
    ] = None,
    json_file: JsonFile = None,
    csv_file: CsvFile = None,
    html_file: HtmlFile = None,
) -> None:
    """Benchmark a training step on random images: our step and kernels, and common PyTorch loops.

    Each row runs in its own process, and they take turns. Rows whose first step has other losses or gradients than the
    plain loop are marked and not ranked.
    """
    try:
        from srgan_fast.bench.page.training import training_page  # noqa: PLC0415
        from srgan_fast.bench.training.bench import TrainingOptions, bench_training  # noqa: PLC0415 (torch)
    except ImportError as error:
        raise UsageError(f"training needs {error.name}: pip install 'srgan_fast[train]'") from None
    options = TrainingOptions(
        batch=batch,
        hr=hr,
        features=features,
        stage=stage.value,
        rounds=rounds,
        threads=threads,
        rows=tuple(row or ()),
        baseline=baseline,
    )
    make_bench_report(lambda tell: bench_training(options, tell), training_page, json_file, csv_file, html_file)
