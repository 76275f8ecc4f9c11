"""Reports as a benchmark would make them, without one being run."""

import math
import random
import statistics
from typing import Any

from srgan_fast.bench.report import (
    CaseResult,
    Environment,
    InferenceReport,
    Latency,
    LeftOut,
    Method,
    Model,
    Phase,
    Row,
    StepWork,
    Streams,
    TrainingReport,
    TrainingRowResult,
)
from srgan_fast.bench.turns import percentile

ROUNDS = 9
# Name, runtime, precision, milliseconds for a pixel, PSNR.
ROWS: tuple[tuple[str, str, Any, float, float | None], ...] = (
    ("native-bf16", "native", "bf16", 2.3e-3, 58.0),
    ("native-fp32", "native", "fp32", 5.0e-3, 121.0),
    ("openvino-bf16", "openvino", "bf16", 7.1e-3, 60.0),
    ("torch-nhwc-bf16", "torch", "bf16", 9.4e-3, 57.0),
    ("openvino-int8", "openvino", "int8", 8.6e-3, 37.0),
    ("openvino-fp32", "openvino", "fp32", 14e-3, 124.0),
    ("onnxruntime-fp32", "onnxruntime", "fp32", 21e-3, 128.0),
    ("ncnn-fp32", "ncnn", "fp32", 33e-3, None),
)


def environment(**changes: Any) -> Environment:
    """A machine."""
    values: dict[str, Any] = {
        "cpu": "Some CPU @ 2.70GHz",
        "cpu_flags": ["avx2", "avx512f"],
        "cpus": 2,
        "memory_mib": 8000.0,
        "system": "Linux 6.1 x86_64",
        "python": "3.11.2",
        "versions": {"srgan_fast": "0.1.0", "torch": "2.13.0"},
        "variables": {},
        "load_average": [0.1, 0.2, 0.3],
    }
    return Environment(**{**values, **changes})


def latency(median_ms: float, rounds: int = ROUNDS, spread: float = 0.02, seed: int = 0) -> Latency:
    """Rounds around a median."""
    source = random.Random(seed)
    values = [median_ms * (1 + source.uniform(-spread, spread)) for _ in range(rounds)]
    return Latency(
        min_ms=min(values),
        mean_ms=statistics.fmean(values),
        median_ms=statistics.median(values),
        p90_ms=percentile(values, 90),
        p99_ms=percentile(values, 99),
        max_ms=max(values),
        percentiles_ms={f"{p:g}": percentile(values, p) for p in (50, 90, 99)},
        rounds_ms=values,
    )


def row(name: str, runtime: str, precision: Any, median_ms: float, psnr_db: float | None, **changes: Any) -> Row:
    """A right row."""
    values: dict[str, Any] = {
        "name": name,
        "kind": "backend" if runtime == "native" else "peer",
        "runtime": runtime,
        "precision": precision,
        "status": "ok",
        "device": "CPU",
        "load_s": 0.3,
        "latency": latency(median_ms, seed=len(name)),
        "output_mp_per_s": 100 / median_ms,
        "images_per_s": 1e3 / median_ms,
        "ratio": 1.0,
        "cpus_used": 1.9,
        "tolerance": "max error <= 1e-03",
        "max_error": 1e-6,
        "psnr_db": psnr_db,
        "peak_mib": 300.0,
        "base_mib": 60.0,
    }
    return Row(**{**values, **changes})


def case(height: int = 128, width: int = 128, batch: int = 1, threads: int = 2, slower: float = 1.0) -> CaseResult:
    """All rows."""
    rows = [
        row(name, runtime, precision, cost * slower * height * width * batch, psnr).model_copy(update={"rank": rank})
        for rank, (name, runtime, precision, cost, psnr) in enumerate(ROWS, 1)
    ]
    return CaseResult(
        batch=batch,
        height=height,
        width=width,
        threads=threads,
        rounds=ROUNDS,
        input="noise",
        reference="float64",
        baseline="native-fp32",
        other_cpus=0.01,
        rows=rows,
    )


def inference_report(*cases: CaseResult, **changes: Any) -> InferenceReport:
    """Of one case, or of those."""
    values: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "model": Model(
            name="srresnet-x4",
            sha256="ab" * 32,
            scale=4,
            architecture="SRGAN generator, 16 blocks of 64 channels",
            macs_per_lr_pixel=9_000_000,
        ),
        "environment": environment(),
        "method": Method(
            rounds=ROUNDS,
            duration_s=0,
            warm_up_runs=2,
            warm_up_ms=200,
            pause_ms=100,
            order="rotated",
            calibration="samples",
            percentiles=[50, 90, 99],
        ),
        "cases": list(cases) or [case()],
        "left_out": [LeftOut(name="mnn-fp32", reason="MNN not installed", remedy="pip install MNN")],
        "warnings": [],
    }
    return InferenceReport(**{**values, **changes})


def change_row(report: InferenceReport, name: str, **changes: Any) -> InferenceReport:
    """The report with a row changed in every case; `gone=True` takes it away."""
    cases = [
        each.model_copy(
            update={
                "rows": [
                    r.model_copy(update=changes) if r.name == name else r
                    for r in each.rows
                    if r.name != name or "gone" not in changes
                ]
            }
        )
        for each in report.cases
    ]
    return report.model_copy(update={"cases": cases})


def spoilt_report() -> InferenceReport:
    """With a wrong row, a failed one, streams, and several sizes."""
    sizes = [case(32, 32), case(64, 64), case(128, 128), case(64, 64, batch=4)]
    report = inference_report(*sizes, warnings=["the machine is busy: load average 2.00 over the last minute"])
    wrong = {"status": "wrong", "rank": None, "ratio": None, "reason": "PSNR 21.0 dB is below 30 dB", "psnr_db": 21.0}
    report = change_row(report, "openvino-int8", **wrong)
    failed = {"status": "failed", "latency": None, "psnr_db": None, "rank": None, "ratio": None}
    report = change_row(report, "ncnn-fp32", **failed, reason="RuntimeError: out of luck", output_mp_per_s=None)
    report = change_row(
        report,
        "onnxruntime-fp32",
        streams=Streams(count=2, images_per_s=3.1, one_images_per_s=2.9, median_ms=650.0, runs=10),
    )
    return change_row(
        report,
        "openvino-fp32",
        streams=Streams(count=2, reason="the runtime does not support concurrent calls"),
    )


PHASES = {"G forward": 0.3, "VGG(SR) forward": 0.12, "VGG(HR) forward": 0.1, "G backward": 0.6, "optimisers": 0.02}


def training_row(name: str, step_seconds: float, **changes: Any) -> TrainingRowResult:
    """A right row."""
    values: dict[str, Any] = {
        "name": name,
        "loop": "common" if name == "stock" else "lean",
        "precision": "bf16" if name.endswith("bf16") else "fp32",
        "kernels": "fused" if name.startswith("fused") else "reference",
        "tuned": True,
        "status": "ok",
        "rounds_seconds": [step_seconds * (1 + 0.01 * math.sin(i)) for i in range(7)],
        "step_seconds": step_seconds,
        "min_seconds": step_seconds * 0.99,
        "max_seconds": step_seconds * 1.01,
        "images_per_second": 16 / step_seconds,
        "gflops": 300 / step_seconds,
        "ratio": step_seconds / 2,
        "cpus_used": 1.9,
        "peak_rss_mb": 900 * step_seconds,
        "base_rss_mb": 250.0,
        "peak_rss_ratio": step_seconds / 2,
        "saved_activation_mb": 200.0,
        "saved_mb": {"generator": 200.0, "discriminator": 90.0, "features": 120.0},
        "profiled_step_seconds": step_seconds,
        "phases": {
            phase: Phase(seconds=share * step_seconds, gflop=30 * share, gflops=30 / step_seconds)
            for phase, share in PHASES.items()
        },
        "losses": {"content": 0.5},
        "loss_error": 1e-6,
        "gradient_error": {"generator": 1e-4, "discriminator": 1e-5},
        "tolerance": "losses 1e-03, gradients 3e-02",
    }
    return TrainingRowResult(**{**values, **changes})


def training_report(*rows: TrainingRowResult, **changes: Any) -> TrainingReport:
    """Of four rows, or of those."""
    chosen = rows or (
        training_row("fused-bf16", 0.9, rank=1),
        training_row("fused", 1.2, rank=2),
        training_row("stock", 2.0, rank=3),
        training_row("stock-bf16", 2.6, status="wrong", reason="gradient is off by 0.9, beyond 0.5", ratio=None),
        TrainingRowResult(
            **{"name": "reference", "loop": "common", "precision": "fp32", "kernels": "reference", "tuned": False},
            status="failed",
            reason="RuntimeError: out of luck",
            tolerance="losses 1e-03",
        ),
    )
    values: dict[str, Any] = {
        "created": "2026-01-02T03:04:05+00:00",
        "work": StepWork(
            stage="gan",
            batch=16,
            hr=96,
            lr=24,
            features="features[:18]",
            generator="paper",
            losses="pytorch-gan",
            learning_rate=1e-4,
            gflop=300,
        ),
        "environment": environment(threads=2, fp32_peak_gflops=150.0),
        "method": Method(rounds=7, warm_up_runs=4, pause_ms=100, order="rotated", profiled_steps=3),
        "baseline": "stock",
        "other_cpus": 0.0,
        "rows": list(chosen),
        "warnings": [],
    }
    return TrainingReport(**{**values, **changes})
