"""The benchmark from options to report: rows are timed, checked and ranked, and nothing is left out in silence."""

import csv
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from srgan_fast.bench import InferenceOptions, InferenceReport, Size, bench_inference, processes, rows_as_csv
from srgan_fast.bench import case as case_module
from srgan_fast.bench import inference as module
from srgan_fast.bench.candidates import PEERS, Candidate, Job, Loaded
from srgan_fast.bench.processes import call_worker
from srgan_fast.bench.rounds import WARM_UP_RUNS
from srgan_fast.errors import BackendError, ModelError, UsageError
from srgan_fast.models import ModelFile, read_model
from srgan_fast.runtime import BACKENDS
from srgan_fast.runtime.protocol import BackendEntry
from srgan_fast.runtime.registry import usable_cpus

SIZES = (Size(9, 14), Size(8, 8))


@pytest.fixture
def options(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> InferenceOptions:
    """Two sizes, two rounds, three rows, one thread, no engine of our own."""
    monkeypatch.delitem(BACKENDS, "native", raising=False)
    return InferenceOptions(
        tiny_model, SIZES, ("onnxruntime",), ("torch-nchw-fp32", "openvino-fp32"), threads=(1,), rounds=2, warm_up_ms=0
    )


@pytest.fixture
def sabotage(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Loaded], Loaded]], None]:
    """Changes what a row's `load` gives."""

    def change(name: str, how: Callable[[Loaded], Loaded]) -> None:
        genuine = Candidate.load

        def load(row: Candidate, job: Job, lr: Any) -> Loaded:
            loaded = genuine(row, job, lr)
            return how(loaded) if row.name == name else loaded

        monkeypatch.setattr(Candidate, "load", load)

    return change


def test_rows_are_timed_checked_and_ranked(options: InferenceOptions) -> None:
    steps: list[str] = []
    report = bench_inference(options, steps.append)
    assert [(case.height, case.width) for case in report.cases] == list(SIZES)
    for case in report.cases:
        assert {row.name for row in case.rows} == {"our-onnxruntime-fp32", "torch-nchw-fp32", "openvino-fp32"}
        assert [row.rank for row in case.rows] == [1, 2, 3]
        medians = [row.latency.median_ms for row in case.rows if row.latency]
        assert medians == sorted(medians)
        assert (case.baseline, case.reference, case.batch, case.threads, case.rounds) == (
            "our-onnxruntime-fp32",
            "float64",
            1,
            1,
            2,
        )
        for row in case.rows:
            latency = row.latency
            assert row.status == "ok"
            assert latency is not None
            assert len(latency.rounds_ms) == 2
            assert 0 < latency.min_ms <= latency.median_ms <= latency.p90_ms <= latency.p99_ms <= latency.max_ms
            assert row.output_mp_per_s == pytest.approx(case.height * case.width * 16 / 1e3 / latency.median_ms)
            assert row.max_error is not None
            assert row.max_error < 1e-5
        ours = next(row for row in case.rows if row.name == case.baseline)
        assert ours.ratio == 1
    assert report.model.sha256
    assert report.left_out == []
    assert any("2 rounds are too few to quote" in warning for warning in report.warnings)
    assert {
        "9x14, 1 thread: reference",
        "9x14, 1 thread: torch-nchw-fp32, loading",
        "8x8, 1 thread: openvino-fp32",
    } <= set(steps)


def test_the_report_survives_json_and_becomes_csv(options: InferenceOptions) -> None:
    report = bench_inference(replace(options, sizes=SIZES[:1]))
    text = report.as_json()
    assert json.loads(text)["schema"] == "srgan_fast.bench.inference/2"
    assert InferenceReport.from_json(text) == report
    with pytest.raises(ValueError, match="schema"):
        InferenceReport.from_json(text.replace("inference/2", "inference/1"))
    header, *lines = rows_as_csv(report).splitlines()
    assert len(lines) == 3
    columns = header.split(",")
    assert {"name", "median_ms", "p90_ms", "max_error", "ratio"} <= set(columns)
    assert all(len(line.split(",")) == len(columns) for line in lines)


def test_a_wrong_row_is_marked_and_not_ranked(options: InferenceOptions, sabotage: Any) -> None:
    sabotage("torch-nchw-fp32", lambda ok: Loaded(ok.run, lambda sr: ok.array(sr) + np.float32(0.1)))
    rows = bench_inference(options).cases[0].rows
    assert [row.rank for row in rows] == [1, 2, None]
    assert (rows[2].name, rows[2].status, rows[2].ratio) == ("torch-nchw-fp32", "wrong", None)
    assert rows[2].reason is not None
    assert "is beyond 1e-03 of the range" in rows[2].reason
    assert rows[2].latency is not None


def test_a_row_that_becomes_wrong_in_the_rounds_is_marked(options: InferenceOptions, sabotage: Any) -> None:
    def spoil(ok: Loaded) -> Loaded:
        runs: list[None] = []

        def run() -> Any:
            runs.append(None)
            return ok.run()

        late = WARM_UP_RUNS + 1
        return Loaded(run, lambda sr: ok.array(sr) * np.float32(np.nan if len(runs) > late else 1))

    sabotage("torch-nchw-fp32", spoil)
    report = bench_inference(options)
    row = report.cases[0].rows[2]
    assert (row.name, row.status, row.reason) == ("torch-nchw-fp32", "wrong", "values that are not finite")
    assert InferenceReport.from_json(report.as_json()) == report


@pytest.mark.parametrize("when", ["loading", "running"])
def test_a_row_that_fails_says_why_and_the_rest_go_on(options: InferenceOptions, sabotage: Any, when: str) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("out of luck\nand more")

    def spoil(ok: Loaded) -> Loaded:
        if when == "loading":
            fail()
        left = [ok.run] * (WARM_UP_RUNS + 1)

        def run() -> Any:
            return left.pop()() if left else fail()

        return Loaded(run, ok.array)

    sabotage("openvino-fp32", spoil)
    report = bench_inference(replace(options, baseline="openvino-fp32"))
    case = report.cases[0]
    assert [row.status for row in case.rows] == ["ok", "ok", "failed"]
    assert case.rows[2].reason == "RuntimeError: out of luck"
    assert (case.rows[2].latency, case.baseline, case.rows[0].ratio) == (None, None, None)
    assert "9x14, 1 thread: the baseline openvino-fp32 is wrong or failed, so there are no ratios" in report.warnings


def test_rows_in_bf16_are_measured_where_the_cpu_has_it_and_else_left_out(options: InferenceOptions) -> None:
    peers = ("torch-nchw-fp32", "torch-nhwc-bf16", "openvino-bf16")
    report = bench_inference(replace(options, peers=peers, sizes=SIZES[1:]))
    rows, left = {row.name: row for row in report.cases[0].rows}, {one.name: one for one in report.left_out}
    assert rows.keys() | left.keys() == {"our-onnxruntime-fp32", *peers}
    for name in peers[1:]:
        reason = PEERS[name].why_not_here()
        if reason is not None:
            assert (left[name].reason, left[name].remedy, name in rows) == (reason, None, False)
            continue
        error = rows[name].max_error
        assert (rows[name].status, rows[name].reason) == ("ok", None)
        assert error is not None
        assert 1e-5 < error < 0.1, "it is bf16, and right"


def test_rows_in_bf16_are_left_out_with_the_reason_where_the_cpu_lacks_it(
    options: InferenceOptions, cpu_with_bf16: Callable[[bool], None]
) -> None:
    cpu_with_bf16(False)
    asked = replace(options, backends=("torch",), peers=("torch", "openvino-bf16"), sizes=SIZES[1:])
    report = bench_inference(replace(asked, precisions=("fp32", "bf16")))
    assert {row.name for row in report.cases[0].rows} == {"our-torch-fp32", "torch-nchw-fp32", "torch-nhwc-fp32"}
    reasons = {left.name: left.reason for left in report.left_out}
    assert reasons.pop("our-torch-bf16").startswith("backend torch cannot compute in bf16 on this processor")
    assert reasons == {
        "torch-nhwc-bf16": "PyTorch has no instructions for bf16 on this CPU",
        "openvino-bf16": "OpenVINO computes in f32 on this CPU, not in bf16",
    }
    with pytest.raises(UsageError, match="baseline openvino-bf16 cannot be measured: OpenVINO computes in f32 on this"):
        bench_inference(replace(asked, baseline="openvino-bf16"))
    with pytest.raises(UsageError, match="nothing of what was asked for can run here: PyTorch has no instructions for"):
        bench_inference(replace(asked, backends=("none",), precisions=("bf16",)))


def test_a_backend_that_joins_the_registry_is_measured_by_default(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = BackendEntry("native", ("numpy",), "", ("fp32", "bf16"), "torch_backend:TorchBackend")
    monkeypatch.setitem(BACKENDS, "native", entry)
    report = bench_inference(replace(options, backends=(), sizes=SIZES[1:]))
    case = report.cases[0]
    assert {row.name for row in case.rows} == {"native-fp32", "native-bf16", "torch-nchw-fp32", "openvino-fp32"}
    assert case.baseline == "native-fp32"


def test_what_is_not_installed_is_named_with_its_remedy(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "mnn-fp32", replace(PEERS["mnn-fp32"], modules=("no_such_module",)))
    report = bench_inference(replace(options, peers=("torch-nchw-fp32", "mnn"), sizes=SIZES[1:]))
    (left,) = report.left_out
    assert (left.name, left.reason) == ("mnn-fp32", "no_such_module not installed")
    assert left.remedy == "pip install MNN onnx"
    with pytest.raises(UsageError, match=r"baseline mnn-fp32 cannot be measured: .*pip install MNN onnx"):
        bench_inference(replace(options, peers=("mnn",), baseline="mnn-fp32"))
    with pytest.raises(UsageError, match=r"nothing of what was asked for is installed; pip install MNN onnx"):
        bench_inference(replace(options, backends=("none",), peers=("mnn",)))


def test_int8_without_pictures_is_left_out(options: InferenceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Candidate, "missing", lambda _: [])
    monkeypatch.setattr(module, "calibration_folder", lambda _: None)
    report = bench_inference(replace(options, peers=("openvino-int8",), sizes=SIZES[1:]))
    assert [(left.name, left.remedy) for left in report.left_out] == [("openvino-int8", "--calibration FOLDER")]


def test_a_peer_that_may_not_fit_into_memory_is_left_out(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_module, "available_mib", lambda: 0.01)
    report = bench_inference(replace(options, sizes=SIZES[1:]))
    assert [row.name for row in report.cases[0].rows] == ["our-onnxruntime-fp32"]
    assert [(left.name, left.case) for left in report.left_out] == [
        ("torch-nchw-fp32", "8x8, 1 thread"),
        ("openvino-fp32", "8x8, 1 thread"),
    ]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"baseline": "nothing"}, UsageError, "no row is called 'nothing'"),
        ({"baseline": "ncnn-fp32"}, UsageError, "baseline ncnn-fp32 is not among the rows: our-onnxruntime-fp32, "),
        ({"model": "nothing"}, ModelError, "neither a file nor a shipped model"),
        ({"calibration": Path(__file__).parent}, UsageError, "holds no pictures"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: InferenceOptions, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bench_inference(replace(options, **changes))


def test_a_busy_machine_is_warned_of(options: InferenceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (64.0, 1.0, 1.0))
    report = bench_inference(replace(options, peers=("none",), sizes=SIZES[1:]))
    assert any("the machine is busy: load average 64.00" in warning for warning in report.warnings)


def test_more_threads_than_cpus_are_warned_of(options: InferenceOptions) -> None:
    report = bench_inference(replace(options, peers=("none",), sizes=SIZES[1:], threads=(usable_cpus() + 1,)))
    assert any(re.fullmatch(r"\d+ threads share \d+ CPUs", warning) for warning in report.warnings)


def test_a_row_runs_alone_in_a_process_of_its_own(options: InferenceOptions) -> None:
    report = bench_inference(replace(options, peers=("none",), sizes=SIZES[1:], memory=True))
    (row,) = report.cases[0].rows
    assert row.alone_ms is not None
    assert row.alone_ms > 0
    assert row.base_mib is not None
    assert row.peak_mib is not None
    assert 10 < row.base_mib < row.peak_mib < 1000


def test_a_worker_that_fails_says_why(tiny_model: Path, tmp_path: Path) -> None:
    file: ModelFile = read_model(tiny_model)
    job = Job(file, Size(8, 8), 1, tmp_path, None)
    with pytest.raises(BackendError, match="FileNotFoundError"):
        call_worker("measure", PEERS["onnxruntime-fp32"], job, tiny_model)


def test_cold_start_times_whole_processes(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch, say_unless: Callable[[bool, str], None]
) -> None:
    monkeypatch.setattr(processes, "COLD_RUNS", 1)
    monkeypatch.setattr(processes, "_IMPORTS", ("onnxruntime", "no_such_module"))
    for name in BACKENDS.keys() - {"onnxruntime"}:
        monkeypatch.delitem(BACKENDS, name)
    report = bench_inference(replace(options, peers=("none",), sizes=SIZES[1:], cold_start=True))
    cold = report.cold_start
    assert cold is not None
    (upscale,), (imported,) = cold.upscale, cold.imports
    assert (upscale.name, upscale.reason, imported.name, imported.reason) == ("onnxruntime", None, "onnxruntime", None)
    assert "-m srgan_fast upscale" in upscale.command
    assert upscale.median_ms is not None
    assert imported.median_ms is not None
    assert min(cold.python_ms, imported.median_ms, upscale.median_ms) > 0
    in_order = cold.python_ms < imported.median_ms < upscale.median_ms
    say_unless(in_order, "one run each of Python, of an import and of the command, which does both")


def test_a_process_that_fails_has_a_reason_instead_of_a_time(tmp_path: Path) -> None:
    found = processes._time_process("x", ["python3", "-c", "raise SystemExit('no')"], tmp_path)
    assert (found.median_ms, found.runs_ms, found.reason) == (None, [], "ended with code 1: no")


def test_a_peer_that_may_not_fit_beside_another_is_left_out_by_name(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = Size(64, 64)  # of 8 channels at 4 times the size: 6 MiB for each peer by the estimate
    monkeypatch.setattr(case_module, "available_mib", lambda: 10.0)
    report = bench_inference(replace(options, sizes=(size,)))
    assert {row.name for row in report.cases[0].rows} == {"our-onnxruntime-fp32", "torch-nchw-fp32"}
    (left_out,) = report.left_out
    assert (left_out.name, left_out.case) == ("openvino-fp32", "64x64, 1 thread")
    assert "may need 12 MiB, 10 MiB are free" in left_out.reason
    assert left_out.remedy == "--peer openvino-fp32 in a run of its own"


def test_every_size_is_measured_with_every_batch_and_number_of_threads(options: InferenceOptions) -> None:
    steps: list[str] = []
    axes = replace(options, sizes=(Size(8, 6), Size(4, 4), Size(8, 6)), batches=(1, 3), threads=(1, 2), rounds=1)
    report = bench_inference(axes, steps.append)
    cases = [(case.height, case.batch, case.threads) for case in report.cases]
    assert cases == [(8, 1, 1), (8, 1, 2), (8, 3, 1), (8, 3, 2), (4, 1, 1), (4, 1, 2), (4, 3, 1), (4, 3, 2)]
    assert sum("reference" in step for step in steps) == 4, "it does not depend on the threads"
    for case in report.cases:
        assert [row.status for row in case.rows] == ["ok"] * 3, (
            "pictures of a batch differ, and come out in their order"
        )
        for row in case.rows:
            assert row.latency is not None
            assert row.images_per_s == pytest.approx(case.batch * 1e3 / row.latency.median_ms)
    lines = list(csv.DictReader(rows_as_csv(report).splitlines()))
    assert len(lines) == 8 * 3
    assert {(line["batch"], line["threads"]) for line in lines} == {("1", "1"), ("1", "2"), ("3", "1"), ("3", "2")}


@pytest.mark.parametrize("how", ["only the first", "in another order"])
def test_a_runtime_that_mixes_up_a_batch_is_wrong(options: InferenceOptions, sabotage: Any, how: str) -> None:
    def spoil(ok: Loaded) -> Loaded:
        return Loaded(ok.run, lambda sr: np.repeat(ok.array(sr)[:1], 2, 0) if "first" in how else ok.array(sr)[::-1])

    sabotage("torch-nchw-fp32", spoil)
    report = bench_inference(replace(options, sizes=SIZES[:1], batches=(2,)))
    assert {row.name: row.status for row in report.cases[0].rows}["torch-nchw-fp32"] == "wrong"


def test_rounds_go_on_for_the_duration_and_percentiles_are_those_asked_for(
    options: InferenceOptions, say_unless: Callable[[bool, str], None]
) -> None:
    report = bench_inference(
        replace(options, peers=("none",), sizes=SIZES[1:], duration_s=0.6, percentiles=(10.0, 99.9, 50.0))
    )
    (case,) = report.cases
    (row,) = case.rows
    assert row.latency is not None
    assert case.rounds == len(row.latency.rounds_ms) >= 2
    say_unless(case.rounds > 2, "rounds of a tiny picture with a rest of 0.1 s before each, 0.6 s long")
    assert list(row.latency.percentiles_ms) == ["10", "99.9", "50"]
    assert row.latency.min_ms <= row.latency.percentiles_ms["10"] <= row.latency.median_ms
    assert row.latency.percentiles_ms["50"] == row.latency.median_ms
    assert report.method.percentiles == [10, 99.9, 50]
    (line,) = csv.DictReader(rows_as_csv(report).splitlines())
    assert float(line["p99.9_ms"]) == row.latency.percentiles_ms["99.9"]
    few = f"{case.rounds} rounds are too few to quote; take 7 or more"
    assert [w for w in report.warnings if "too few" in w] == ([few] if case.rounds < 7 else [])


def test_several_threads_call_a_runtime_and_one_that_cannot_says_so(
    options: InferenceOptions, sabotage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_module, "SECONDS", 0.05)
    sabotage("openvino-fp32", lambda ok: replace(ok, caller=None))
    report = bench_inference(replace(options, sizes=SIZES[1:], streams=2))
    found = {row.name: row.streams for row in report.cases[0].rows}
    for name in ("our-onnxruntime-fp32", "torch-nchw-fp32"):
        streams = found[name]
        assert streams is not None
        assert (streams.count, streams.reason) == (2, None)
        assert streams.runs >= 10
        assert streams.images_per_s is not None
        assert streams.one_images_per_s is not None
        assert min(streams.images_per_s, streams.one_images_per_s) > 0
    alone = found["openvino-fp32"]
    assert alone is not None
    assert (alone.images_per_s, alone.reason) == (None, "its runtime cannot be called by several threads at once")


def test_a_row_on_a_gpu_tells_its_clock_and_memory(options: InferenceOptions, sabotage: Any) -> None:
    class FakeGpu:
        def last_run_s(self) -> float:
            return 0.002

        def peak_mib(self) -> float:
            return 345.0

    sabotage("torch-nchw-fp32", lambda ok: replace(ok, device="Some GPU", gpu=FakeGpu()))
    report = bench_inference(replace(options, sizes=SIZES[1:]))
    rows = {row.name: row for row in report.cases[0].rows}
    row = rows["torch-nchw-fp32"]
    assert (row.device, row.device_ms, row.peak_device_mib) == ("Some GPU", 2.0, 345.0)
    assert (rows["openvino-fp32"].device_ms, rows["openvino-fp32"].peak_device_mib) == (None, None)


def test_a_backend_that_cannot_compute_here_is_left_out_with_its_reason(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes = "native_backend:computes"
    entry = BackendEntry("native", ("numpy",), "", ("fp32", "bf16"), "torch_backend:TorchBackend", computes)
    monkeypatch.setitem(BACKENDS, "native", entry)
    monkeypatch.setattr("srgan_fast.runtime.registry._computes", lambda entry, precision: precision == "fp32")
    report = bench_inference(replace(options, backends=("native",), peers=("none",), sizes=SIZES[1:]))
    assert [row.name for row in report.cases[0].rows] == ["native-fp32"]
    (left,) = report.left_out
    assert (left.name, left.remedy) == ("native-bf16", None)
    assert left.reason.startswith("backend native cannot compute in bf16 on this processor")
    only = replace(options, backends=("native",), peers=("none",), precisions=("bf16",))
    with pytest.raises(UsageError, match="nothing of what was asked for can run here: backend native cannot compute"):
        bench_inference(only)
    both = replace(options, backends=("native",), baseline="native-bf16")
    with pytest.raises(UsageError, match="baseline native-bf16 cannot be measured: backend native cannot compute"):
        bench_inference(both)
