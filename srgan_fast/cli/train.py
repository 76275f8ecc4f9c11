"""`srgan-fast train`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from srgan_fast.cli.console import errors, say
from srgan_fast.errors import UsageError

if TYPE_CHECKING:
    from srgan_fast.training import Observer
    from srgan_fast.training.validation import Scores

EXIT_INTERRUPTED = 130
_PLAIN_LINE_EVERY = 50  # steps, if the output is not a terminal


def train(
    config: Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="Configuration of the run; see configs/.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Configuration values to override, e.g. gan.steps=1000."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Continue from the newest checkpoint; start if there is none.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="With --resume: continue even if images or seed differ.")
    ] = False,
) -> None:
    """Train a generator: first with a pixel loss, then adversarially.

    Ctrl-C or SIGTERM saves a checkpoint after the current step; --resume then gives the same result as an
    uninterrupted run. Start it with torchrun to train with several processes.
    """
    try:
        from srgan_fast.training import Trainer, distributed, read_config  # noqa: PLC0415 (torch)
    except ImportError as error:
        raise UsageError(f"training needs {error.name}: pip install 'srgan_fast[train]'") from None
    if force and not resume:
        raise UsageError("--force works only with --resume; for a new run, change run.output")
    settings = read_config(config, overrides)
    with _LiveLine() as live:
        try:
            trainer = Trainer(settings, live)
            outcome = trainer.run(resume, force)
        finally:
            distributed.stop()
    if trainer.rank == 0:
        command = shlex.join(["srgan-fast", "train", str(config), *(overrides or []), "--resume"])
        say(f"done: {outcome.model}" if outcome.finished else f"interrupted; continue with: {command}")
    if not outcome.finished:
        raise typer.Exit(EXIT_INTERRUPTED)


class _LiveLine:
    """Live progress on a terminal, some plain lines elsewhere: losses, images per second, PSNR, remaining time."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("{task.fields[figures]}", markup=False),
            TimeRemainingColumn(),
            console=errors,
            disable=not errors.is_terminal,
        )
        self._task: TaskID | None = None
        self._stage, self._steps, self._psnr, self._validated = "", 0, "", -1

    def __enter__(self) -> "_LiveLine":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def started(self, stage: str, step: int, steps: int) -> None:
        """See `Observer`."""
        self._stage, self._steps, self._validated = stage, steps, -1
        self._task = self._progress.add_task(stage, total=steps, completed=step, figures="")
        if not errors.is_terminal:
            say(f"{stage}: from step {step} to {steps}")

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        """See `Observer`."""
        shown = " ".join(f"{name} {value:.4g}" for name, value in losses.items())
        figures = f"{rate:.1f} images/s {shown}{self._psnr}"
        if self._task is not None:
            self._progress.update(self._task, completed=step, figures=figures)
        if not errors.is_terminal and (step % _PLAIN_LINE_EVERY == 0 or step == self._steps):
            say(f"{self._stage} {step}/{self._steps} {figures}")

    def validated(self, step: int, scores: "Scores") -> None:
        """See `Observer`."""
        if step != self._validated:  # the first set's PSNR is shown
            self._psnr, self._validated = f" PSNR {scores.psnr_y:.2f} dB", step
        name = f", {scores.name}" if scores.name else ""
        perceptual = "" if scores.st_lpips is None else f", ST-LPIPS {scores.st_lpips:.3f}"
        say(f"{self._stage} {step}{name}: PSNR-Y {scores.psnr_y:.2f} dB, SSIM-Y {scores.ssim_y:.4f}{perceptual}")

    def noted(self, text: str) -> None:
        """See `Observer`."""
        say(text)


if TYPE_CHECKING:
    _: Observer = _LiveLine()
