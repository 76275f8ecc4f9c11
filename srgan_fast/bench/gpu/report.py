"""The GPU report: what the GPU is, whether our kernels are right on it, and whether they are faster than PyTorch.

It runs in this order, most important first, so that what the time limit leaves out is what matters least. Only workers
touch the GPU.
"""

import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any, Literal

import torch

from srgan_fast.bench.gpu.comparison import SAME, WAYS, GpuComparison, GpuProcess, GpuTime, TimeLimit
from srgan_fast.bench.worker import why_not
from srgan_fast.errors import BackendError
from srgan_fast.json_text import as_json
from srgan_fast.ops.gpu_choice import GpuChoice
from srgan_fast.ops.layer_calls import DIRECTIONS, LAYERS
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.ops.sanitizer import sanitize
from srgan_fast.runtime.tensorrt.flavour import installed_flavours

SCHEMA = "srgan_fast.bench.gpu/1"
QUICK_LIMIT_S, LIMIT_S = 165.0, 1500.0  # the first leaves 15 s to start and to write within three minutes
_SHAPES = ("1x3x128x128", "1x3x256x256", "8x3x128x128")
_OF_PYTORCH = [way for way in WAYS if not way.startswith("ours")]
Outcome = Literal["fine", "wrong", "slower", "not measured"]


class GpuNotMeasuredError(BackendError):
    """There is no GPU, or no kernels for it."""


@dataclass(frozen=True, slots=True)
class GpuOptions:
    """Batch and crop side of training steps, whether to run compute-sanitizer, and whether to store the choice.

    compute-sanitizer takes minutes; the stored choice is what `auto` uses from now on (`ops.gpu_choice`).
    """

    quick: bool = False
    batch: int = 16
    hr: int = 96
    sanitizer: bool = False
    store: bool = True


@dataclass(slots=True)
class GpuReport:
    """Results, ready for JSON: `as_json`; docs/cuda.md describes the fields. `warnings` are parts that failed."""

    options: GpuOptions
    device: str
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    identity: dict[str, str] = field(default_factory=dict)
    state_before: dict[str, str] = field(default_factory=dict)
    state_after: dict[str, str] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    self_test: list[dict[str, Any]] = field(default_factory=list)
    coverage: list[dict[str, Any]] = field(default_factory=list)
    networks: list[dict[str, Any]] = field(default_factory=list)
    times: list[GpuTime] = field(default_factory=list)
    choice: dict[str, str | None] = field(default_factory=dict)
    choice_file: str | None = None
    training: dict[str, Any] = field(default_factory=dict)
    upscaling: dict[str, Any] = field(default_factory=dict)
    sanitizer: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def wrong(self) -> list[str]:
        """Everything that is wrong, a line each."""
        found = [
            f"{row['group']}, {row['dtype']}: {row['what']}, {row['excess']:.1f} times the tolerance"
            for row in self.self_test
            if not row["right"]
        ]
        found += [f"{row['what']}: {row['reason']}" for row in self.networks if not row["right"]]
        return found + [
            f"{row['tool']}: {row['status']}" for row in self.sanitizer if row["status"] in ("errors", "failed")
        ]

    def slower(self) -> list[GpuTime]:
        """Whole networks and steps in which one of PyTorch's ways was faster than ours."""
        rows = (row for row in self.times if row.kind != "layer" and row.way in _OF_PYTORCH)
        return [row for row in rows if row.against_ours == "slower"]

    def outcome(self) -> Outcome:
        """In one word: `wrong` before `not measured`, for a part that failed or no comparison, before `slower`."""
        if self.wrong():
            return "wrong"
        if self.warnings or not any(row.ratio for row in self.times):
            return "not measured"
        return "slower" if self.slower() else "fine"

    def as_json(self) -> str:
        """JSON with a trailing newline; values that JSON cannot represent are null."""
        return as_json({"schema": SCHEMA, "outcome": self.outcome(), **asdict(self)}) + "\n"


def bench_gpu(options: GpuOptions, on_step: Callable[[str], None] = lambda what: None) -> GpuReport:
    """Tests and measures the current CUDA device.

    Raises:
        GpuNotMeasuredError: there is no CUDA device, or this installation has no kernels for it.
    """
    if not torch.cuda.is_available():
        raise GpuNotMeasuredError("this machine has no CUDA device that PyTorch can use")
    if (problem := why_not_on_cuda()) is not None:
        raise GpuNotMeasuredError(problem)
    # A context in this process would take memory from those that are measured.
    index = torch.cuda.current_device() if torch.cuda.is_initialized() else 0  # type: ignore[no-untyped-call]
    return measure(options, f"cuda:{index}", on_step)


def measure(options: GpuOptions, device: str, on_step: Callable[[str], None]) -> GpuReport:
    """The report of a device; see `bench_gpu`."""
    report, quick = GpuReport(options, device), options.quick
    with tempfile.TemporaryDirectory(prefix="srgan-fast-bench-", ignore_cleanup_errors=True) as name:
        start = partial(GpuProcess, Path(name), device, limit=TimeLimit(QUICK_LIMIT_S if quick else LIMIT_S))
        times = GpuComparison(start, options.batch, options.hr)

        def part(what: str, do: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
            """What a part returns; nothing if it fails."""
            on_step(what)
            try:
                return do() or {}
            except Exception as error:  # the other parts are still useful
                report.warnings.append(f"{what}: {why_not(error)}")
                return {}

        with start("report") as worker:
            found = part("identity", partial(worker.ask, "identity"))
            report.identity, report.state_before = found.get("identity", {}), found.get("state", {})
            report.rates = part("rates", partial(worker.ask, "rates")).get("rates", {})
            found = part("self-test", partial(worker.ask, "self_test"))
            report.self_test, report.networks = found.get("checks", []), found.get("networks", [])
            report.coverage = part("coverage", partial(worker.ask, "coverage")).get("kernels", [])
        shapes = list(_SHAPES[:1] if quick else _SHAPES)
        part("whole networks", lambda: times.compare("network", shapes, ["eager", "recorded"]))
        single = ["recorded", "ours, own GEMMs", "ours, unrecorded", "eager"]
        part("training steps", lambda: times.compare("step", ["bf16"], single))
        part("training steps in TF32", lambda: times.compare("step", ["fp32"], ["recorded"]))
        choice = choose(times)
        report.choice = asdict(choice)
        with start("report") as worker:
            if options.store and not report.wrong():
                found = part("storing the choice", partial(worker.ask, "store", choice=report.choice))
                report.choice_file = found.get("path")
            train = {"folder": f"{name}/training", "batch": options.batch, "crop": options.hr}
            report.training = part("the trainer", partial(worker.ask, "train", **train))
            worker.end()  # the trainer's memory is freed for the next
            upscale = {"folder": f"{name}/images", "runs": 2 if quick else 5}
            report.upscaling = part("PNG to PNG", partial(worker.ask, "upscale", **upscale))
        layers = [f"{layer.name}, {direction}" for layer in LAYERS for direction in DIRECTIONS]
        part("layers", lambda: times.compare("layer", layers, ["recorded", "ours, own GEMMs"]))
        engines = [flavour.name for flavour in installed_flavours()]
        part("compiled networks", lambda: times.compare("network", shapes, ["compiled"]))
        part("TensorRT", lambda: times.compare("network", shapes[:2], engines))  # engines of one image
        if not quick:
            part("compiled layers", lambda: times.compare("layer", layers, ["compiled", "eager"]))
            for precision in ("bf16", "fp32"):
                more = ["compiled", "common loop", *(["eager"] if precision == "fp32" else [])]
                part(f"compiled steps, {precision}", partial(times.compare, "step", [precision], more))
        report.times = list(times.rows.values())
        if options.sanitizer:
            part("compute-sanitizer", lambda: report.sanitizer.extend(map(asdict, sanitize(torch.device(device)))))
        with start("report") as worker:
            on_step("state")
            with suppress(BackendError):  # of no consequence, and out of time if the limit was reached
                report.state_after = worker.ask("state")["state"]
    return report


def choose(times: GpuComparison) -> GpuChoice:
    """What `auto` should use: the built-in choice unless something else was faster by more than 3 %.

    Ours and PyTorch's are compared as `auto` would run them: steps recorded, or both launched one by one; upscaling
    with PyTorch eager. What was not measured remains None.
    """

    def ratio(kind: Literal["network", "step"], what: str, way: str) -> float | None:
        row = times.rows.get((kind, what, way))
        return None if row is None else row.ratio

    def training(precision: str, gain: float = 1.0) -> Literal["fused", "reference"] | None:
        found = ratio("step", precision, "recorded")
        return None if found is None else "reference" if found * gain < 1 / SAME else "fused"

    own, single, eager = (ratio("step", "bf16", way) for way in ("ours, own GEMMs", "ours, unrecorded", "eager"))
    own_is_faster = own is not None and own < 1 / SAME
    eager_rows = (row for (kind, _, way), row in times.rows.items() if kind == "network" and way == "eager")
    networks = [row.ratio for row in eager_rows if row.ratio]
    return GpuChoice(
        training_16bit=training("bf16", 1 / own if own is not None and own_is_faster else 1.0),
        training_fp32=training("fp32"),
        unrecorded=None if not single or not eager else "fused" if eager / single > SAME else "reference",
        gemm=None if own is None else "own" if own_is_faster else "faster",
        upscaling=None if not networks else "torch" if geometric_mean(networks) < 1 / SAME else "cuda",
    )
