"""The GPU report says what it is about, what is wrong, slower or could not be measured; a stand-in plays the GPU."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from srgan_fast.bench import candidates
from srgan_fast.bench.gpu import GpuNotMeasuredError, GpuOptions, GpuReport, bench_gpu, comparison, report, row
from srgan_fast.bench.gpu.comparison import ROUNDS, WAYS, GpuComparison, GpuProcess, TimeLimit
from srgan_fast.bench.gpu.report import choose, measure
from srgan_fast.bench.gpu.row import GpuRow, rate_sizes
from srgan_fast.bench.gpu.timing import TorchClock
from srgan_fast.bench.page.gpu import gpu_page
from srgan_fast.errors import BackendError
from srgan_fast.ops import cuda
from srgan_fast.ops.gpu_choice import BUILT_IN, GpuChoice
from srgan_fast.ops.sanitizer import SanitizerResult
from srgan_fast.pages.html import render

HOSTILE = "<script>alert('1')</script>&\"'"
MEMORY = "OutOfMemoryError: CUDA out of memory"

# Milliseconds of each way; ours is the fastest.
MS = dict(zip(WAYS, (4.0, 5.0, 30.0, 20.0, 8.0, 6.0, 40.0), strict=True))


class StandInGpu:
    """Answers as the processes of a GPU would.

    Attributes:
        ms: milliseconds of a case by way.
        fails: reason by (request, case, way), with None for any.
        asked: requests in their order, with way and case.
        most_alive: how many processes there were at once.
    """

    def __init__(self) -> None:
        self.ms = dict(MS)
        self.fails: dict[tuple[str, str | None, str | None], str] = {}
        self.asked: list[tuple[str, str, str]] = []
        self.alive: set[int] = set()
        self.most_alive = 0
        self.checks = [{"group": "pooling", "dtype": "bfloat16", "what": "y of pooling", "excess": 0.5, "right": True}]
        self.stored: dict[str, Any] | None = None

    def worker(self, module: str, name: str, folder: Path, timeout_s: float = 0.0) -> "StandInWorker":
        return StandInWorker(self)


class StandInWorker:
    """One of its processes."""

    def __init__(self, gpu: StandInGpu) -> None:
        self.gpu, self.way, self.what = gpu, "", ""
        gpu.alive.add(id(self))
        gpu.most_alive = max(gpu.most_alive, len(gpu.alive))

    def allow(self, timeout_s: float) -> None:
        assert timeout_s > 0

    def end(self) -> None:
        self.gpu.alive.discard(id(self))

    def ask(self, do: str, **given: Any) -> dict[str, Any]:
        gpu = self.gpu
        self.way, self.what = given.get("way", self.way), given.get("what", self.what)
        gpu.asked.append((do, self.way, self.what))
        for key in ((do, self.what, self.way), (do, None, self.way), (do, self.what, None), (do, None, None)):
            if reason := gpu.fails.get(key):
                if do in ("prepare", "run"):
                    return {"failed": reason}
                raise BackendError(reason)
        if do == "store":
            gpu.stored = given["choice"]
        answers: dict[str, dict[str, Any]] = {
            "identity": {"identity": {"name": HOSTILE, "PyTorch": "2.11"}, "state": {"throttling": "unknown"}},
            "state": {"state": {"throttling": "none"}},
            "rates": {"rates": {"bf16 GEMM, TFLOP/s": 100.0}},
            "self_test": {
                "checks": gpu.checks,
                "networks": [{"what": "srresnet-x4 fp16", "psnr_db": 80.0, "right": True, "reason": None}],
            },
            "coverage": {"kernels": [{"kernel": "dgrad", "plan": "large", "selected": 9, "variants": 3, "tested": 3}]},
            "prepare": {"load_s": 1.0, "peak_mb": 100.0},
            "run": {"wall_s": gpu.ms.get(self.way, 1.0) * 1e-3},
            "store": {"path": "/cache/choice.json"},
            "train": {"steps": 30, "step_s": 0.01, "images_per_s": 800.0, "batch": 8, "peak_mb": None, "said": []},
            "upscale": {"side": 256, "process_s": 3.0, "file_to_file_s": 0.02, "backend": "cuda fp16 on a GPU"},
        }
        return answers.get(do, {})


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> StandInGpu:
    made = StandInGpu()
    monkeypatch.setattr(comparison, "Worker", made.worker)
    monkeypatch.setattr(report, "installed_flavours", list)
    return made


def measured(**options: Any) -> GpuReport:
    return measure(GpuOptions(**options), "cuda:0", lambda what: None)


# --- without a GPU, or kernels


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_there_is_no_report() -> None:
    with pytest.raises(GpuNotMeasuredError, match=r"^this machine has no CUDA device that PyTorch can use$"):
        bench_gpu(GpuOptions())


def test_without_kernels_there_is_no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(report, "why_not_on_cuda", lambda: "this installation has no fused CUDA kernels")
    with pytest.raises(GpuNotMeasuredError, match="no fused CUDA kernels"):
        bench_gpu(GpuOptions())


@pytest.mark.skipif(not cuda.usable(), reason="no GPU, or no CUDA kernels")
def test_a_gpu_is_tested_and_measured() -> None:
    found = bench_gpu(GpuOptions(quick=True, batch=2, hr=32, store=False))
    assert found.wrong() == []
    assert found.outcome() in ("fine", "slower", "not measured")
    assert {row.kind for row in found.times if row.ratio} == {"network", "step", "layer"}


# --- outcomes


def test_a_gpu_that_is_right_and_faster_is_fine(gpu: StandInGpu) -> None:
    found = measured(quick=True)
    assert found.outcome() == "fine"
    assert (found.wrong(), found.slower(), found.warnings) == ([], [], [])
    times = {(row.kind, row.what, row.way): row for row in found.times}
    recorded = times["step", "bf16", "recorded"]
    assert (recorded.ratio, recorded.against_ours) == (pytest.approx(2.0), "faster")
    assert times["step", "bf16", "ours"].median_s == pytest.approx(4e-3)
    assert times["layer", "G trunk, weight gradient", "recorded"].ratio == pytest.approx(2.0)
    assert found.training["images_per_s"] == 800
    assert found.upscaling["side"] == 256
    assert found.state_after == {"throttling": "none"}


def test_at_most_two_processes_hold_networks_and_graphs_at_once(gpu: StandInGpu) -> None:
    measured()
    assert gpu.most_alive == 2
    assert not gpu.alive


def test_a_wrong_result_of_the_self_test_is_said_and_nothing_is_stored(gpu: StandInGpu) -> None:
    gpu.checks[0] |= {"right": False, "excess": 7.0}
    found = measured(quick=True)
    assert found.outcome() == "wrong"
    assert found.wrong() == ["pooling, bfloat16: y of pooling, 7.0 times the tolerance"]
    assert gpu.stored is None


def test_findings_of_compute_sanitizer_are_wrong(gpu: StandInGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = [SanitizerResult("racecheck", "errors", 2, 9.0), SanitizerResult("memcheck", "not run", reason="missing")]
    monkeypatch.setattr(report, "sanitize", lambda device: tools)
    found = measured(quick=True, sanitizer=True)
    assert (found.outcome(), found.wrong()) == ("wrong", ["racecheck: errors"])


def test_slower_than_any_way_of_pytorch_is_said(gpu: StandInGpu) -> None:
    gpu.ms["compiled"] = 3.0
    found = measured()
    assert found.outcome() == "slower"
    assert {(row.kind, row.way) for row in found.slower()} == {("network", "compiled"), ("step", "compiled")}
    assert "slower" in render(gpu_page(found))


def test_tensorrt_is_measured_where_it_is_installed_and_may_be_faster(
    gpu: StandInGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "installed_flavours", lambda: [SimpleNamespace(name="tensorrt")])
    gpu.ms["tensorrt"] = 1.0
    found = measured(quick=True)
    assert [row.against_ours for row in found.times if row.way == "tensorrt"] == ["slower"]
    assert found.outcome() == "fine"


def test_a_part_that_fails_does_not_end_the_others(gpu: StandInGpu) -> None:
    gpu.fails["rates", None, None] = MEMORY
    gpu.fails["train", None, None] = "no TensorBoard"
    found = measured(quick=True)
    assert found.warnings == [f"rates: {MEMORY}", "the trainer: no TensorBoard"]
    assert found.outcome() == "not measured"
    assert found.upscaling
    assert found.identity["PyTorch"] == "2.11"


def test_out_of_memory_in_one_row_loses_that_row_alone(gpu: StandInGpu) -> None:
    gpu.fails["prepare", "8x3x128x128", "eager"] = MEMORY
    gpu.fails["run", "fp32", "recorded"] = MEMORY
    found = measured()
    lost = {(row.what, row.way) for row in found.times if row.status != "ok"}
    assert lost == {("8x3x128x128", "eager"), ("fp32", "recorded")}
    assert {row.reason for row in found.times if row.status != "ok"} == {MEMORY}
    assert found.outcome() == "fine"


def test_where_ours_does_not_fit_the_others_are_measured_without_a_ratio(gpu: StandInGpu) -> None:
    gpu.fails["prepare", "fp32", "ours"] = MEMORY
    rows = {row.way: row for row in measured().times if row.what == "fp32"}
    assert (rows["ours"].status, rows["ours"].reason) == ("failed", MEMORY)
    assert rows["recorded"].median_s is not None
    assert rows["recorded"].ratio is None


def test_kernels_that_cannot_start_leave_a_report_that_is_not_measured(gpu: StandInGpu) -> None:
    gpu.fails["start", None, "ours"] = "the fused kernels fail on a GPU"
    found = measured(quick=True)
    assert found.outcome() == "not measured"
    assert {row.reason for row in found.times if row.way == "ours"} == {"the fused kernels fail on a GPU"}
    assert found.choice == dict.fromkeys(found.choice)


def test_what_the_time_limit_does_not_allow_is_left_out(gpu: StandInGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    began = time.monotonic()
    clock = iter(range(100_000))
    monkeypatch.setattr(comparison.time, "monotonic", lambda: began + next(clock) * 0.3)
    found = measured(quick=True)
    left_out = [row for row in found.times if row.status == "left out"]
    assert left_out
    assert {row.reason for row in left_out} == {"the time limit of 165 s was reached"}
    assert found.times[0].status == "ok", "what matters most came first"


# --- what auto uses


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        ({}, GpuChoice("fused", "fused", "reference", "faster", "cuda")),
        ({"recorded": 3.0}, GpuChoice("reference", "reference", "reference", "faster", "cuda")),
        ({"recorded": 3.95}, GpuChoice("fused", "fused", "reference", "faster", "cuda")),  # within 3 %
        ({"ours, own GEMMs": 2.0}, GpuChoice("fused", "fused", "reference", "own", "cuda")),
        ({"ours, own GEMMs": 2.0, "recorded": 3.0}, GpuChoice("fused", "reference", "reference", "own", "cuda")),
        ({"ours, unrecorded": 10.0}, GpuChoice("fused", "fused", "fused", "faster", "cuda")),
        ({"eager": 3.0}, GpuChoice("fused", "fused", "reference", "faster", "torch")),
    ],
)
def test_what_was_faster_is_stored_for_auto(gpu: StandInGpu, ms: dict[str, float], expected: GpuChoice) -> None:
    gpu.ms |= ms
    found = measured(quick=True)
    assert gpu.stored is not None
    assert GpuChoice(**gpu.stored) == expected
    assert found.choice_file == "/cache/choice.json"


def test_the_choice_is_stored_before_the_trainer_runs_by_it(gpu: StandInGpu) -> None:
    measured(quick=True)
    asked = [do for do, *_ in gpu.asked]
    assert asked.index("store") < asked.index("train")


def test_what_was_not_measured_is_left_to_the_built_in_choice() -> None:
    assert choose(GpuComparison(lambda way: pytest.fail("started"), 1, 32)) == BUILT_IN


def test_nothing_is_stored_if_not_requested(gpu: StandInGpu) -> None:
    assert measured(quick=True, store=False).choice_file is None
    assert gpu.stored is None


# --- pages and files


def test_a_page_shows_all_parts_and_escapes_every_text(gpu: StandInGpu, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = [SanitizerResult("racecheck", "errors", 2, 9.0, findings=[HOSTILE])]
    monkeypatch.setattr(report, "sanitize", lambda device: tools)
    gpu.checks[0] |= {"right": False, "what": HOSTILE}
    gpu.fails["prepare", None, "compiled"] = HOSTILE
    gpu.fails["train", None, None] = HOSTILE
    page = render(gpu_page(measured(sanitizer=True)))
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 5
    for text in ("Whole networks", "Whole training steps", "Layers of", "Right or wrong", "racecheck", "PNG to PNG"):
        assert text in page
    assert '<span class="pill">wrong</span>' in page


def test_a_report_with_nothing_in_it_is_a_page_too() -> None:
    empty = GpuReport(GpuOptions(), "cuda:0")
    assert "<html" in render(gpu_page(empty))
    assert empty.outcome() == "not measured"


def test_the_json_has_a_schema_and_no_value_that_json_lacks(gpu: StandInGpu) -> None:
    gpu.checks[0] |= {"excess": float("inf"), "right": False}
    found = json.loads(measured(quick=True).as_json())
    assert (found["schema"], found["outcome"]) == ("srgan_fast.bench.gpu/1", "wrong")
    assert found["self_test"][0]["excess"] is None
    assert {"identity", "state_before", "state_after", "rates", "coverage", "times", "choice"} <= found.keys()


# --- processes

PROGRAM = """
import os, time
from srgan_fast.bench.worker import serve


class Row:
    def start(self, device, way):
        self.way = way

    def prepare(self, kind, what, batch, hr):
        if what == "crash":
            os._exit(7)
        if what == "hang":
            time.sleep(60)
        return {"failed": "no memory"} if what == "large" else {"load_s": 0.0, "peak_mb": None}

    def run(self):
        return {"wall_s": 1.0}


if __name__ == "__main__":
    serve(Row())
"""

Start = Callable[..., GpuProcess]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    (tmp_path / "gpu_program.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(comparison, "WORKER", "gpu_program")
    begun: list[GpuProcess] = []

    def begin(limit_s: float = 100.0) -> GpuProcess:
        begun.append(GpuProcess(tmp_path, "cpu", "ours", TimeLimit(limit_s)))
        return begun[-1]

    yield begin
    for process in begun:
        process.end()


def test_a_process_that_crashes_is_started_again_for_the_next_case(start: Start) -> None:
    process = start()
    with pytest.raises(BackendError, match="ended with code 7"):
        process.prepare("layer", "crash", 1, 32)
    process.prepare("layer", "small", 1, 32)
    assert process.turn(True).wall_s == 1.0


def test_a_case_that_fails_leaves_its_process_alive(start: Start) -> None:
    process = start()
    process.prepare("layer", "small", 1, 32)
    worker = process._worker
    with pytest.raises(BackendError, match=r"^no memory$"):
        process.prepare("layer", "large", 1, 32)
    process.prepare("layer", "small", 1, 32)
    assert process._worker is worker


def test_a_case_that_takes_longer_than_the_report_may_is_ended(start: Start) -> None:
    process, began = start(4.0), time.monotonic()
    with pytest.raises(comparison.OutOfTimeError, match=r"^the time limit of 4 s was reached$"):
        process.prepare("layer", "hang", 1, 32)
    assert time.monotonic() - began < 30
    with pytest.raises(comparison.OutOfTimeError):
        process.prepare("layer", "small", 1, 32)


def test_a_case_is_prepared_once_for_several_others_beside_it(gpu: StandInGpu, tmp_path: Path) -> None:
    def begin(way: str) -> GpuProcess:
        return GpuProcess(tmp_path, "cuda:0", way, TimeLimit(100.0))

    GpuComparison(begin, 1, 32).compare("step", ["bf16"], ["recorded", "eager"])
    prepared = [way for do, way, _ in gpu.asked if do == "prepare"]
    assert prepared == ["ours", "recorded", "eager"]
    assert len([do for do, way, _ in gpu.asked if (do, way) == ("run", "ours")]) == 2 * ROUNDS


# --- a row, on a CPU


def test_layers_are_timed_in_each_direction_and_an_unknown_one_says_why_not() -> None:
    made = GpuRow()
    for way, what in (
        ("eager", "G trunk, forward"),
        ("eager", "D first, weight gradient"),
        ("ours", "D 64, stride 2, data gradient"),
    ):
        made.start("cpu", way)
        assert made.prepare("layer", what, 1, 32).keys() == {"load_s", "peak_mb"}
        assert made.run()["wall_s"] > 0
    assert "shape is 'x'" in made.prepare("network", "x", 1, 32)["failed"]
    assert made._call is None


def test_a_call_that_fails_while_it_is_timed_frees_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    fails: list[Exception] = []

    def call() -> None:
        if fails:
            raise fails[0]

    monkeypatch.setattr(row, "layer_call", lambda *what: (call, call))
    made = GpuRow()
    made.start("cpu", "eager")
    made.prepare("layer", "any", 1, 32)
    fails.append(torch.OutOfMemoryError("CUDA out of memory"))
    assert made.run() == {"failed": MEMORY}
    assert made._call is None


def test_our_kernels_are_tested_before_they_are_timed_and_others_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(cuda, "problem_of", lambda device: "the fused kernels compute wrong results")
    GpuRow().start("cuda:0", "eager")
    with pytest.raises(BackendError, match="wrong results"):
        GpuRow().start("cuda:0", "ours, own GEMMs")


@pytest.mark.parametrize("gib", [0.1, 1, 3.5, 8, 24, 140])
def test_rates_leave_most_of_the_memory_alone(gib: float) -> None:
    free = int(gib * 2**30)
    side, size = rate_sizes(free)
    assert 3 * 4 * side**2 <= free // 4
    assert 2 * size <= free // 4
    assert side >= 512
    assert (side, size) == (8192, 1 << 30) if gib == 140 else size < 1 << 30 or gib >= 8


# --- the clock of a row


class _Event:
    """Knows when it was recorded, in milliseconds of a clock that the test turns."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        self.at = -1.0

    def record(self) -> None:
        self.at = _Event.now

    def synchronize(self) -> None:
        assert self.at >= 0

    def elapsed_time(self, end: "_Event") -> float:
        return end.at - self.at


def test_a_row_on_torchs_streams_is_timed_by_events_and_by_the_drivers_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    free = [1000 << 20]
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free[0], 2000 << 20))
    clock = TorchClock()

    def run() -> str:
        _Event.now += 7.0
        free[0] = 400 << 20
        return "a picture"

    assert clock.around(run)() == "a picture"
    assert clock.last_run_s() == pytest.approx(7e-3)
    free[0] = 900 << 20
    assert clock.peak_mib() == 600


def test_only_backends_on_torchs_streams_get_a_clock_and_only_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert candidates._gpu("torch") is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1, 1))
    assert isinstance(candidates._gpu("tensorrt-rtx"), TorchClock)
    assert candidates._gpu("native") is None
