"""The benchmark from options to report: rows are timed, checked and ranked, and nothing is left out in silence."""

import csv
import json
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.bench import ImageSize, InferenceOptions, InferenceReport, bench_inference, cold_start, inference
from srgan_fast.bench.candidates import PEERS, Candidate
from srgan_fast.bench.report import CaseResult, Row
from srgan_fast.errors import ModelError, UsageError
from srgan_fast.runtime import BACKENDS
from srgan_fast.runtime.protocol import BackendEntry
from srgan_fast.runtime.registry import usable_cpus

ROWS = ("our-onnxruntime-fp32", "openvino-fp32")  # light ones: each starts a process


@pytest.fixture
def options(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> InferenceOptions:
    """Two rows at one size, two rounds, one thread, no engine of our own."""
    monkeypatch.delitem(BACKENDS, "native", raising=False)
    sizes = (ImageSize(8, 8),)
    return InferenceOptions(
        tiny_model, sizes, ("onnxruntime",), ("openvino-fp32",), threads=(1,), rounds=2, warm_up_ms=0
    )


@pytest.fixture
def alone(options: InferenceOptions) -> InferenceOptions:
    """One row."""
    return replace(options, peers=("none",))


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Callable[..., CaseResult]:
    """The case of a benchmark in which openvino-fp32 goes wrong."""
    paths = [str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    monkeypatch.setattr(inference, "WORKER", "spoilt_inference_row")

    def measure(options: InferenceOptions, how: str) -> CaseResult:
        monkeypatch.setenv("SPOIL", f"openvino-fp32={how}")
        report = bench_inference(options)
        assert InferenceReport.model_validate_json(report.as_json()) == report
        return report.cases[0]

    return measure


def named(case: CaseResult) -> dict[str, Row]:
    return {row.name: row for row in case.rows}


def test_rows_are_timed_checked_and_ranked(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And the report survives JSON, and becomes CSV."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    steps: list[str] = []
    report = bench_inference(replace(options, sizes=(ImageSize(9, 14),), percentiles=(50.0, 90.0, 25.0)), steps.append)
    (case,) = report.cases
    assert str(case) == "9x14, 1 thread"
    assert {row.name for row in case.rows} == set(ROWS)
    assert [row.rank for row in case.rows] == [1, 2]
    assert (case.baseline, case.reference, case.rounds) == (ROWS[0], "float64", 2)
    for row in case.rows:
        latency = row.latency
        assert (row.status, row.reason) == ("ok", None)
        assert latency is not None
        assert len(latency.rounds_ms) == 2
        assert 0 < latency.min_ms <= latency.median_ms <= latency.max_ms
        assert (latency.p90_ms, latency.p99_ms) == (None, None), "two runs are too few for them"
        assert latency.percentiles_ms == {"50": latency.median_ms, "90": None, "25": None}
        assert row.output_mp_per_s == pytest.approx(9 * 14 * 16 / 1e3 / latency.median_ms)
        assert row.max_error is not None
        assert row.max_error < 1e-5
        assert row.base_mib is not None
        assert row.peak_mib is not None
        assert 10 < row.base_mib < row.peak_mib < 2000, "of a process of its own"
        assert row.command
    assert named(case)[ROWS[0]].ratio == 1
    assert report.model.sha256
    assert report.left_out == []
    assert any("2 rounds are too few to quote" in warning for warning in report.warnings)
    told = {"9x14, 1 thread: reference", f"9x14, 1 thread: {ROWS[1]}, loading", f"9x14, 1 thread: {ROWS[1]}"}
    assert told <= set(steps)
    assert list(tmp_path.iterdir()) == []
    text = report.as_json()
    assert json.loads(text)["schema"] == "srgan_fast.bench.inference/3"
    assert InferenceReport.model_validate_json(text) == report
    with pytest.raises(ValueError, match="schema"):
        InferenceReport.model_validate_json(text.replace("inference/3", "inference/2"))
    lines = list(csv.DictReader(report.as_csv().splitlines()))
    assert [line["name"] for line in lines] == [row.name for row in case.rows]
    assert {"batch", "threads", "median_ms", "p90_ms", "p25_ms", "max_error", "ratio", "peak_mib"} <= lines[0].keys()


@pytest.mark.parametrize(
    ("how", "reason"), [("wrong", "max error .* is beyond 1e-03 of the range"), ("wrong at last", "not finite")]
)
def test_a_wrong_row_is_marked_and_not_ranked(options: InferenceOptions, spoilt: Any, how: str, reason: str) -> None:
    """Also where only the last round's result is wrong."""
    right, wrong = spoilt(options, how).rows
    assert (right.name, right.rank) == (ROWS[0], 1)
    assert (wrong.name, wrong.status, wrong.rank, wrong.ratio) == (ROWS[1], "wrong", None, None)
    assert re.search(reason, wrong.reason)
    assert wrong.latency is not None


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("fails in loading", "RuntimeError: out of luck"),
        ("killed in the rounds", "the process of openvino-fp32 was ended by SIGKILL: no output"),
    ],
)
def test_a_row_that_crashes_says_why_and_takes_no_other_with_it(
    options: InferenceOptions, spoilt: Any, how: str, reason: str
) -> None:
    case = spoilt(replace(options, baseline=ROWS[1]), how)
    right, failed = case.rows
    assert (right.status, len(right.latency.rounds_ms), right.ratio, case.baseline) == ("ok", 2, None, None)
    assert (failed.status, failed.reason, failed.latency) == ("failed", reason, None)


def test_a_runtime_that_mixes_up_a_batch_is_wrong(options: InferenceOptions, spoilt: Any) -> None:
    case = spoilt(replace(options, batches=(2,)), "mixes up a batch")
    assert {row.name: row.status for row in case.rows} == {ROWS[0]: "ok", ROWS[1]: "wrong"}
    assert "2 times, each rolled to the right by 4 pixels" in case.input


def test_a_row_on_a_gpu_tells_its_clock_and_memory(options: InferenceOptions, spoilt: Any) -> None:
    row, other = (named(spoilt(options, "on a gpu"))[name] for name in (ROWS[1], ROWS[0]))
    assert (row.device, row.device_ms, row.peak_device_mib) == ("Some GPU", 2.0, 345.0)
    assert (other.device_ms, other.peak_device_mib) == (None, None)


def test_several_threads_call_a_runtime_and_one_that_cannot_says_so(
    options: InferenceOptions, spoilt: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "SECONDS", 0.05)
    found = named(spoilt(replace(options, streams=2), "one caller"))
    streams, none = found[ROWS[0]].streams, found[ROWS[1]].streams
    assert streams is not None
    assert (streams.count, streams.reason) == (2, None)
    assert streams.runs >= 10
    assert streams.images_per_s
    assert streams.one_images_per_s
    assert streams.poisson is not None
    assert streams.poisson.rate_per_s == pytest.approx(0.7 * streams.images_per_s)
    assert streams.poisson.runs >= 10
    assert streams.poisson.median_ms > 0
    assert none is not None
    assert (none.images_per_s, none.reason) == (None, "the runtime does not support concurrent calls")


def test_every_size_is_measured_with_every_batch_and_number_of_threads(alone: InferenceOptions) -> None:
    report = bench_inference(
        replace(alone, sizes=(ImageSize(9, 8), ImageSize(8, 8)), batches=(1, 2), threads=(1,), rounds=1)
    )
    assert list(map(str, report.cases)) == [
        f"{size}{batch}, 1 thread" for size in ("9x8", "8x8") for batch in ("", ", batch 2")
    ]


def test_rounds_go_on_for_the_duration(alone: InferenceOptions) -> None:
    (case,) = bench_inference(replace(alone, duration_s=0.6)).cases
    assert case.rounds == len(case.rows[0].runs_ms) >= 2


def test_rows_in_bf16_are_left_out_with_the_reason_where_the_cpu_lacks_it(
    options: InferenceOptions, cpu_with_bf16: Callable[[bool], None]
) -> None:
    cpu_with_bf16(False)
    asked = replace(options, peers=("torch-nhwc-bf16", "openvino-bf16"), precisions=("fp32", "bf16"))
    report = bench_inference(asked)
    assert {left.name: left.reason for left in report.left_out} == {
        "torch-nhwc-bf16": "PyTorch has no instructions for bf16 on this CPU",
        "openvino-bf16": "OpenVINO computes in f32 on this CPU, not in bf16",
    }
    with pytest.raises(UsageError, match="baseline openvino-bf16 cannot be measured: OpenVINO computes in f32 on this"):
        bench_inference(replace(asked, baseline="openvino-bf16"))
    with pytest.raises(UsageError, match="none of the requested rows can run here: PyTorch has no instructions for"):
        bench_inference(replace(asked, backends=("none",), precisions=("bf16",)))


def test_a_backend_that_cannot_compute_here_is_left_out_with_its_reason(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    computes = "native_backend:computes"
    entry = BackendEntry("native", ("numpy",), "", ("fp32", "bf16"), "torch_backend:TorchBackend", computes)
    monkeypatch.setitem(BACKENDS, "native", entry)
    monkeypatch.setattr("srgan_fast.runtime.registry._computes", lambda entry, precision: False)
    with pytest.raises(UsageError, match="none of the requested rows can run here: backend native cannot compute"):
        bench_inference(replace(options, backends=("native",), peers=("none",)))


def test_what_is_not_installed_is_named_with_its_remedy(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PEERS, "mnn-fp32", replace(PEERS["mnn-fp32"], modules=("no_such_module",)))
    report = bench_inference(replace(options, peers=("mnn",)))
    (left,) = report.left_out
    assert (left.name, left.reason, left.remedy) == ("mnn-fp32", "no_such_module not installed", "pip install MNN onnx")
    with pytest.raises(UsageError, match=r"baseline mnn-fp32 cannot be measured: .*pip install MNN onnx"):
        bench_inference(replace(options, peers=("mnn",), baseline="mnn-fp32"))
    with pytest.raises(UsageError, match=r"none of the requested rows is installed; pip install MNN onnx"):
        bench_inference(replace(options, backends=("none",), peers=("mnn",)))


def test_int8_without_images_is_left_out(options: InferenceOptions, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Candidate, "missing", lambda _: [])
    monkeypatch.setattr(inference, "calibration_folder", lambda _: None)
    report = bench_inference(replace(options, peers=("openvino-int8",)))
    assert [(left.name, left.remedy) for left in report.left_out] == [("openvino-int8", "--calibration FOLDER")]


def test_a_peer_that_may_not_fit_into_memory_is_left_out_by_name(
    options: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference.memory, "available", lambda: 10_000)
    report = bench_inference(options)
    assert [row.name for row in report.cases[0].rows] == [ROWS[0]]
    assert [(left.name, left.case) for left in report.left_out] == [(ROWS[1], "8x8, 1 thread")]


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"baseline": "nothing"}, UsageError, "unknown row 'nothing'"),
        ({"baseline": "ncnn-fp32"}, UsageError, "baseline ncnn-fp32 is not among the rows: our-onnxruntime-fp32, "),
        ({"model": "nothing"}, ModelError, "neither a file nor a shipped model"),
        ({"calibration": Path(__file__).parent}, UsageError, "contains no images"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: InferenceOptions, changes: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        bench_inference(replace(options, **changes))


def test_a_busy_machine_and_too_many_threads_are_warned_of(
    alone: InferenceOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.getloadavg", lambda: (64.0, 1.0, 1.0))
    report = bench_inference(replace(alone, threads=(usable_cpus() + 1,)))
    assert any("the machine is busy: load average 64.00" in warning for warning in report.warnings)
    assert any(re.fullmatch(r"\d+ threads share \d+ CPUs", warning) for warning in report.warnings)


def test_cold_start_times_whole_processes(
    alone: InferenceOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cold_start, "RUNS", 1)
    monkeypatch.setattr(cold_start, "IMPORTS", ("onnxruntime", "no_such_module"))
    for name in BACKENDS.keys() - {"onnxruntime"}:
        monkeypatch.delitem(BACKENDS, name)
    cold = bench_inference(replace(alone, cold_start=True)).cold_start
    assert cold is not None
    (upscale,), (imported,) = cold.upscale, cold.imports
    assert (upscale.name, upscale.reason, imported.name, imported.reason) == ("onnxruntime", None, "onnxruntime", None)
    assert "-m srgan_fast upscale" in upscale.command
    assert min(cold.python_ms, imported.median_ms or 0, upscale.median_ms or 0) > 0
    found = cold_start.time_process("x", ["-c", "raise SystemExit('no')"], tmp_path)
    assert (found.median_ms, found.runs_ms, found.reason) == (None, [], "ended with code 1: no")
