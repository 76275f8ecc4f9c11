"""Two reports are held against each other by case and name, and what got worse is a regression."""

import json
import statistics
from pathlib import Path
from typing import Any

import pytest
import reports
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from srgan_fast.bench.compare import RESAMPLES, compare_reports, ratio_of_medians
from srgan_fast.bench.report import InferenceReport, read_report
from srgan_fast.cli.app import app
from srgan_fast.errors import UsageError

TIMES = st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=30)


def verdicts(before: Any, after: Any, threshold: float = 5.0) -> dict[str, str]:
    return {row.name: row.verdict for row in compare_reports(before, after, threshold).rows}


def slower(factor: float, name: str = "native-fp32", **how: Any) -> InferenceReport:
    old = reports.case().rows[1]
    assert old.latency is not None
    return reports.change_row(
        reports.inference_report(), name, latency=reports.latency(old.latency.median_ms * factor, **how)
    )


def test_a_report_is_the_same_as_itself() -> None:
    report = reports.inference_report(reports.case(), reports.case(64, 64, batch=2))
    found = compare_reports(report, report)
    assert {row.verdict for row in found.rows} == {"same"}
    assert all(row.ratio == 1 for row in found.rows)
    assert len(found.rows) == 2 * len(reports.ROWS)
    assert (found.regressions, found.differences, found.warnings) == (0, [], [])


@pytest.mark.parametrize(
    ("factor", "threshold", "verdict"),
    [
        (1.2, 5, "slower"),
        (1 / 1.2, 5, "faster"),
        (1.2, 25, "same"),
        (1 / 1.2, 25, "same"),
        (1.04, 5, "same"),
        (1.2, 0, "slower"),
    ],
)
def test_a_row_is_slower_or_faster_beyond_the_threshold(factor: float, threshold: float, verdict: str) -> None:
    found = compare_reports(reports.inference_report(), slower(factor), threshold)
    row = next(row for row in found.rows if row.name == "native-fp32")
    assert (row.verdict, row.regression) == (verdict, verdict == "slower")
    assert found.regressions == (verdict == "slower")
    assert row.ratio == pytest.approx(factor, rel=0.05)
    assert row.low is not None
    assert row.high is not None
    assert row.low <= row.ratio <= row.high


def test_a_change_that_the_rounds_do_not_bear_out_is_none() -> None:
    wild = slower(1.0, spread=0.9)
    latency = next(row for row in wild.cases[0].rows if row.name == "native-fp32").latency
    assert latency is not None
    drifted = [value * 1.15 for value in latency.rounds_ms]
    after = reports.change_row(wild, "native-fp32", latency=latency.model_copy(update={"rounds_ms": drifted}))
    row = next(row for row in compare_reports(wild, after).rows if row.name == "native-fp32")
    assert row.ratio == pytest.approx(1.15)
    assert row.verdict == "same"


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"status": "wrong", "reason": "max error"}, "became wrong"),
        ({"status": "failed", "reason": "no memory", "latency": None}, "became failed"),
        ({"gone": True}, "gone"),
    ],
)
def test_a_row_that_is_no_longer_right_is_a_regression(changes: dict[str, Any], verdict: str) -> None:
    whole = reports.inference_report()
    broken = reports.change_row(whole, "torch-nhwc-bf16", **changes)
    found = compare_reports(whole, broken)
    row = next(row for row in found.rows if row.name == "torch-nhwc-bf16")
    assert (row.verdict, row.regression, found.regressions) == (verdict, True, 1)
    assert row.reason == changes.get("reason", "not in the second report")
    back = compare_reports(broken, whole)
    assert {r.name: r.verdict for r in back.rows}["torch-nhwc-bf16"] == ("new" if "gone" in changes else "right again")
    assert back.regressions == 0


def test_a_row_that_was_never_right_is_no_regression() -> None:
    report = reports.change_row(reports.inference_report(), "ncnn-fp32", status="wrong", reason="max error")
    assert verdicts(report, report)["ncnn-fp32"] == "not right"
    gone = reports.change_row(report, "ncnn-fp32", gone=True)
    assert compare_reports(report, gone).regressions == 0


def test_a_row_that_was_left_out_says_why() -> None:
    left = [reports.LeftOut(name="ncnn-fp32", reason="ncnn not installed", remedy="pip install ncnn")]
    gone = reports.change_row(reports.inference_report(left_out=left), "ncnn-fp32", gone=True)
    row = next(row for row in compare_reports(reports.inference_report(), gone).rows if row.name == "ncnn-fp32")
    assert (row.verdict, row.reason) == ("gone", "ncnn not installed")


def test_cases_are_matched_by_batch_size_and_threads() -> None:
    before = reports.inference_report(reports.case(64, 64), reports.case(64, 64, threads=1))
    after = reports.inference_report(reports.case(64, 64, threads=1, slower=2), reports.case(64, 64, batch=2))
    found = compare_reports(before, after)
    by_case = {case: {r.verdict for r in found.rows if r.case == case} for case in {r.case for r in found.rows}}
    assert by_case == {
        "64x64, 2 threads": {"gone"},
        "64x64, 1 thread": {"slower"},
        "64x64, batch 2, 2 threads": {"new"},
    }


def test_training_rows_are_compared_too() -> None:
    before = reports.training_report()
    after = reports.training_report(reports.training_row("fused", 1.5), reports.training_row("stock", 1.95))
    assert verdicts(before, after) == {
        "fused-bf16": "gone",
        "fused": "slower",
        "stock": "same",
        "stock-bf16": "not right",
        "reference": "not right",
    }
    row = next(row for row in compare_reports(before, after).rows if row.name == "fused")
    assert row.before_ms == pytest.approx(1200, rel=0.02)


def test_other_surroundings_are_said_and_another_cpu_is_warned_of() -> None:
    other = reports.environment(
        cpu="Other CPU", versions={"srgan_fast": "0.2.0"}, variables={"OMP_WAIT_POLICY": "passive"}
    )
    after = reports.inference_report(environment=other, warnings=["the machine is busy"])
    found = compare_reports(reports.inference_report(), after)
    assert {d.what: (d.before, d.after) for d in found.differences} == {
        "CPU": ("Some CPU @ 2.70GHz", "Other CPU"),
        "srgan_fast": ("0.1.0", "0.2.0"),
        "torch": ("2.13.0", "not there"),
        "OMP_WAIT_POLICY": ("not there", "passive"),
    }
    assert found.warnings == [
        "the CPUs differ: the ratios tell machines apart, not versions of a program",
        "the second report warns: the machine is busy",
    ]
    model = reports.inference_report().model.model_copy(update={"sha256": "cd" * 32})
    assert any(
        "models differ" in w
        for w in compare_reports(reports.inference_report(), reports.inference_report(model=model)).warnings
    )


def test_what_cannot_be_compared_is_refused() -> None:
    inference, training = reports.inference_report(), reports.training_report()
    with pytest.raises(UsageError, match="the first report is of inference, the second of training"):
        compare_reports(inference, training)
    with pytest.raises(UsageError, match=r"no row in common: .*128x128, 2 threads and 7 more in the first, .*64x64"):
        compare_reports(inference, reports.inference_report(reports.case(64, 64)))
    with pytest.raises(UsageError, match=r"no row in common: .* none in the second"):
        compare_reports(inference, reports.inference_report(reports.case().model_copy(update={"rows": []})))
    with pytest.raises(UsageError, match="threshold is nan"):
        compare_reports(inference, inference, float("nan"))


@given(TIMES, TIMES)
@settings(max_examples=25, deadline=None)
def test_the_interval_holds_the_ratio_and_is_the_same_every_time(before: list[float], after: list[float]) -> None:
    ratio, low, high = ratio_of_medians(before, after)
    assert ratio == pytest.approx(statistics.median(after) / statistics.median(before))
    assert min(after) / max(before) * (1 - 1e-9) <= low <= high <= max(after) / min(before) * (1 + 1e-9)
    assert (ratio, low, high) == ratio_of_medians(before, after)


@given(st.lists(st.floats(1.0, 1.1), min_size=1, max_size=20), st.floats(0.01, 100))
@settings(max_examples=25, deadline=None)
def test_the_ratio_scales_with_the_times(values: list[float], factor: float) -> None:
    ratio, low, high = ratio_of_medians(values, [value * factor for value in values])
    assert ratio == pytest.approx(factor)
    assert low <= ratio * (1 + 1e-9)
    assert high >= ratio * (1 - 1e-9)


def test_few_rounds_leave_the_widest_interval_and_many_are_resampled_within_bounds() -> None:
    assert ratio_of_medians([1.0, 2.0], [2.0, 3.0, 4.0]) == (2.0, 1.0, 4.0)
    assert ratio_of_medians([1.0], [1.5]) == (1.5, 1.5, 1.5)
    many = [1 + 1e-4 * (i % 100) for i in range(10_000)]
    ratio, low, high = ratio_of_medians(many, many)
    assert ratio == 1
    assert 0.999 < low <= 1 <= high < 1.001
    assert RESAMPLES >= 1000


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Reports, and what is none."""
    kept = {
        "good": reports.inference_report().as_json(),
        "slow": slower(1.5).as_json(),
        "other": reports.inference_report(reports.case(8, 8)).as_json(),
        "training": reports.training_report().as_json(),
        "old": json.dumps({"schema": "srgan_fast.bench.inference/1"}),
        "old training": json.dumps({"schema": "srgan_fast.bench.training/1"}),
        "foreign": json.dumps({"schema": "somebody.else/1"}),
        "odd": json.dumps({"schema": "srgan_fast.bench.inference/3"}),
        "list": "[]",
        "empty": " \n",
        "text": "hello",
        "deep": "[" * 100_000,
    }
    paths = {name: tmp_path / f"{name}.json" for name in kept}
    for name, text in kept.items():
        paths[name].write_text(text, encoding="utf-8")
    paths["binary"] = tmp_path / "binary.json"
    paths["binary"].write_bytes(b"\xff\xfe\x00")
    return {**paths, "folder": tmp_path, "missing": tmp_path / "missing.json"}


def call(*arguments: object) -> Any:
    texts = ["bench", "compare", *map(str, arguments)]
    return CliRunner().invoke(app, texts, env={"COLUMNS": "60"}, catch_exceptions=False)


def test_no_regression_is_exit_code_0(files: dict[str, Path]) -> None:
    result = call(files["slow"], files["good"])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "128x128, 2 threads" in result.stdout
    assert "native-fp32" in result.stdout
    assert "faster" in result.stdout
    assert result.stdout.endswith("no regression\n")


def test_a_regression_is_exit_code_1(files: dict[str, Path]) -> None:
    result = call(files["good"], files["slow"])
    assert result.exit_code == 1
    (line,) = [line for line in result.stdout.splitlines() if line.split()[:1] == ["native-fp32"]]
    assert line.split()[-1] == "slower", "nothing is cut off on a narrow terminal"
    assert result.stdout.endswith("1 regression\n")
    assert call(files["good"], files["slow"], "--threshold", 60).exit_code == 0


def test_the_comparison_as_json(files: dict[str, Path], tmp_path: Path) -> None:
    result = call(files["good"], files["slow"], "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found["schema"], found["benchmark"], found["regressions"]) == ("srgan_fast.bench.compare/1", "inference", 1)
    call(files["good"], files["slow"], "--json", tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text()) == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("old", "is of version srgan_fast.bench.inference/1, this program reads srgan_fast.bench.inference/3"),
        ("old training", "is of version srgan_fast.bench.training/1, this program reads srgan_fast.bench.training/3"),
        ("foreign", "is 'somebody.else/1', not a report of srgan-fast bench"),
        ("odd", "claims to be srgan_fast.bench.inference/3, but environment: field required"),
        ("list", "is JSON, but not a report"),
        ("empty", "is not JSON; give a report written by --json"),
        ("text", "is not JSON; give a report"),
        ("deep", "is not JSON; give a report"),
        ("binary", "is not JSON; give a report"),
        ("folder", "cannot be read (Is a directory)"),
        ("missing", "cannot be read (No such file or directory)"),
    ],
)
@pytest.mark.parametrize("second", [False, True])
def test_what_is_no_report_is_one_line_and_exit_code_2(
    files: dict[str, Path], name: str, message: str, second: bool
) -> None:
    result = call(*([files["good"], files[name]] if second else [files[name], files["good"]]))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {files[name]}: {message}")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "message"), [("training", "the first report is of inference"), ("other", "the reports have no row")]
)
def test_reports_that_do_not_fit_are_one_line_and_exit_code_2(files: dict[str, Path], name: str, message: str) -> None:
    result = call(files["good"], files[name])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_a_kept_report_is_read_back(files: dict[str, Path]) -> None:
    assert read_report(files["good"]) == reports.inference_report()
    assert read_report(files["training"]) == reports.training_report()


@given(st.binary(max_size=200))
@settings(max_examples=60)
def test_no_bytes_are_anything_but_a_report_or_one_line(tmp_path_factory: Any, data: bytes) -> None:
    path = tmp_path_factory.mktemp("any") / "a.json"
    path.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        read_report(path)
    assert "\n" not in str(caught.value).removeprefix(str(path))
