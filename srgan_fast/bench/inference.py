"""The benchmark of inference: rows are chosen, measured case by case, and put into a report."""

import itertools
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from srgan_fast.bench.candidates import Candidate, find_candidate, select_candidates
from srgan_fast.bench.case import OnStep, Run, measure_case
from srgan_fast.bench.machine import describe_machine, warn_about_rounds, warn_about_start
from srgan_fast.bench.options import Case, InferenceOptions, Size
from srgan_fast.bench.pictures import lr_image
from srgan_fast.bench.processes import measure_cold_start
from srgan_fast.bench.quiet import quiet_stdout
from srgan_fast.bench.report import ColdStart, InferenceReport, LeftOut, Method, Model
from srgan_fast.bench.rounds import ORDER, PAUSE_S, WARM_UP_RUNS
from srgan_fast.data.calibration import calibration_folder
from srgan_fast.data.images import Image, write_image
from srgan_fast.errors import UsageError
from srgan_fast.export.onnx_export import network_digest
from srgan_fast.models import ModelFile, read_model
from srgan_fast.network.analysis import macs_per_image_pixel
from srgan_fast.runtime.registry import usable_cpus

COLD_START_SIZE = Size(64, 64)


def bench_inference(options: InferenceOptions, on_step: OnStep = lambda what: None) -> InferenceReport:
    """Measures this package's backends and the peers on pictures in memory, all in this process, side by side.

    Args:
        options: what to measure.
        on_step: told in a few words what is being done, before it is done.

    Returns:
        Figures of every row, those that are wrong or failed included, and what was left out and why.

    Raises:
        UsageError: an unknown row or baseline, or nothing to measure.
        ModelError: the model cannot be read.
        ImageError: the picture or the folder of pictures cannot be read.
        BackendError: torch, which results are checked with, is not installed.
    """
    file = read_model(options.model)
    _check_sizes(file, options)
    rows = select_candidates(options.backends, options.peers, options.precisions)
    if options.baseline is not None and find_candidate(options.baseline) not in rows:
        raise UsageError(f"baseline {options.baseline} is not among the rows: {', '.join(row.name for row in rows)}")
    threads = options.threads or (usable_cpus(),)
    environment = describe_machine()
    with tempfile.TemporaryDirectory(prefix="srgan-fast-bench-") as folder:
        calibration = calibration_folder(options.calibration)
        run = Run(options, file, Path(folder), calibration, on_step)
        run.warnings += warn_about_start(environment, max(threads))
        rows = _installed(run, rows)
        with quiet_stdout():
            shapes = itertools.product(dict.fromkeys(options.sizes), dict.fromkeys(options.batches))
            cases = [Case(batch, size, count) for size, batch in shapes for count in dict.fromkeys(threads)]
            measured = [measure_case(run, case, rows) for case in cases]
        run.warnings += warn_about_rounds(min(case.rounds for case in measured))
        cold_start = _cold_start(run, max(threads)) if options.cold_start else None
    return InferenceReport(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        model=Model(
            name=file.name,
            sha256=network_digest(file.network),
            scale=file.scale,
            architecture=file.architecture,
            macs_per_lr_pixel=round(macs_per_image_pixel(file.network)),
        ),
        environment=environment,
        method=Method(
            rounds=options.rounds,
            duration_s=options.duration_s,
            warm_up_runs=WARM_UP_RUNS,
            warm_up_ms=options.warm_up_ms,
            pause_ms=PAUSE_S * 1e3,
            order=ORDER,
            calibration=None if calibration is None else calibration.name,
            percentiles=list(dict.fromkeys(options.percentiles)),
        ),
        cases=measured,
        left_out=run.left_out,
        cold_start=cold_start,
        warnings=run.warnings,
    )


def _check_sizes(file: ModelFile, options: InferenceOptions) -> None:
    """Pictures that the network takes as they are: three channels, sides that pixel-unshuffle divides.

    Raises:
        UsageError: others.
    """
    multiple = file.network.unshuffle
    if file.channels != 3:
        raise UsageError(f"{file.name} takes pictures of {file.channels} channels; measured are those of 3")
    odd = [size for size in options.sizes if size.height % multiple or size.width % multiple]
    if odd:
        raise UsageError(f"size {odd[0]}: sides must be multiples of {multiple}, the pixel-unshuffle of {file.name}")


def _installed(run: Run, rows: list[Candidate]) -> list[Candidate]:
    """Those that can run here; the others are recorded.

    Raises:
        UsageError: none can, or not the baseline.
    """
    able = []
    remedy: str | None
    for row in rows:
        if missing := row.missing():
            reason, remedy = f"{' and '.join(missing)} not installed", row.remedy
        elif unable := row.why_not_here():
            reason, remedy = unable, None
        elif row.precision == "int8" and run.calibration is None:
            reason, remedy = "int8 needs pictures to calibrate with", "--calibration FOLDER"
        else:
            able.append(row)
            continue
        run.left_out.append(LeftOut(name=row.name, reason=reason, remedy=remedy))
        if row.name == run.options.baseline:
            raise UsageError(f"baseline {row.name} cannot be measured: {'; '.join(filter(None, (reason, remedy)))}")
    if not able:
        hints = dict.fromkeys(left.remedy for left in run.left_out if left.remedy)
        if not hints:
            raise UsageError(f"nothing of what was asked for can run here: {run.left_out[0].reason}")
        raise UsageError(f"nothing of what was asked for is installed; {' or '.join(hints)}")
    return able


def _cold_start(run: Run, threads: int) -> ColdStart:
    run.on_step("cold start")
    lr, _ = lr_image(COLD_START_SIZE, run.options.picture)
    picture = run.folder / f"{COLD_START_SIZE}.png"
    write_image(picture, Image(np.rint(lr[0].transpose(1, 2, 0) * 255).astype(np.uint8)))
    return measure_cold_start(run.options.model, picture, run.folder, threads)
