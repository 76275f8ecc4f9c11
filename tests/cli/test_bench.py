"""`srgan-fast bench inference` presents a table, keeps a report, and refuses in one line what it cannot measure."""

import csv
import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from srgan_fast.bench import InferenceReport
from srgan_fast.bench.gpu import GpuOptions, GpuReport
from srgan_fast.bench.gpu.comparison import GpuTime

ROOT = Path(__file__).parents[2]


WRONG = {"group": "pooling", "dtype": "bfloat16", "what": "y", "excess": 9.0, "right": False}


def _time(ratio: float) -> GpuTime:
    """A row of a GPU report whose time is that many times ours."""
    against = "slower" if ratio < 1 else "faster"
    figures = {"median_s": ratio, "ratio": ratio, "least_ratio": ratio, "most_ratio": ratio}
    return GpuTime("step", "bf16", "recorded", against_ours=against, **figures)  # type: ignore[arg-type]


@pytest.fixture
def bench(run: Any, tiny_model: Path) -> Any:
    """Calls `srgan-fast bench inference` with the small model, two rounds, two rows."""

    def call(*arguments: Any) -> Any:
        few = ["--model", tiny_model, "--size", "8x12", "--rounds", 2, "--threads", 1, "--warm-up", 0]
        rows = ["--backend", "onnxruntime", "--peer", "openvino", "--precision", "fp32"]
        return run("bench", "inference", *few, *rows, *arguments)

    return call


def test_a_table_shows_the_rows_in_their_order(bench: Any) -> None:
    result = bench("--baseline", "openvino-fp32")
    assert result.exit_code == 0, result.stderr
    assert "tiny-x4 x4 on " in result.stdout
    assert ", 8x12, 1 thread" in result.stdout
    rows = re.findall(
        r"^ *([12]) +(our-onnxruntime-fp32|openvino-fp32) .* (\d+\.\d\d) +\d\.\de-\d\d", result.stdout, re.M
    )
    assert [rank for rank, _, _ in rows] == ["1", "2"]
    assert {name for _, name, _ in rows} == {"our-onnxruntime-fp32", "openvino-fp32"}
    assert ("openvino-fp32", "1.00") in {(name, ratio) for _, name, ratio in rows}
    assert "input: astronaut.png, the middle " in result.stdout
    assert "ratio: median over that of openvino-fp32" in result.stdout
    assert "warning: 2 rounds are too few to quote" in result.stderr


def test_the_report_is_kept_as_json_and_csv(bench: Any, folder: Path) -> None:
    result = bench("--json", "new/report.json", "--csv", "rows.csv")
    assert result.exit_code == 0, result.stderr
    report = InferenceReport.model_validate_json((folder / "new/report.json").read_text())
    with (folder / "rows.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [row.name for row in report.cases[0].rows]
    assert "openvino-fp32" in result.stdout, "the table is shown too"


def test_json_on_standard_output_is_alone_there(bench: Any) -> None:
    result = bench("--json", "-")
    assert json.loads(result.stdout)["schema"] == "srgan_fast.bench.inference/3"
    assert "warning: " in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--peer", "tflite"], "unknown peer 'tflite'; choose from all, none, torch-nchw-fp32, "),
        (["--backend", "tflite"], "unknown backend 'tflite'; choose from all, none, "),
        (["--baseline", "tflite"], "unknown row 'tflite'; choose from "),
        (["--size", "0x8"], "size is '0x8'; sides must lie between 1 and "),
        (["--size", "8by8"], "size is '8by8'; it must be HEIGHTxWIDTH"),
        (["--model", "nope"], "nope: is neither a file nor a shipped model"),
        (["--picture", "nope.png"], "nope.png: no such file"),
        (["--calibration", "nope"], "nope: no such folder"),
        (["--percentile", "100"], "percentile is 100; it must lie between 0 and 100"),
        (["--batch", "5000"], "batch is 5000; it must lie between 1 and 4096"),
        (["--duration", "inf"], "duration is inf; it must be 0 or more"),
        (["--html", "."], ".: is a folder"),
        (["--json", "."], ".: is a folder"),
        (["--json", "/proc/none/a.json"], "/proc/none/a.json: cannot be written"),
        (["--csv", "/dev/null/a.csv"], "/dev/null/a.csv: cannot be written"),
    ],
)
def test_what_cannot_be_measured_is_one_line(bench: Any, arguments: list[str], message: str) -> None:
    result = bench(*arguments)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1


def test_what_is_wrong_or_left_out_is_said(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from srgan_fast.bench import accuracy, candidates

    monkeypatch.setitem(accuracy.TOLERANCES, "fp32", accuracy.AccuracyTolerance(max_error=1e-30))
    gone = candidates.Candidate("mnn-fp32", "mnn", "fp32", ("no_such_module",), ("MNN",))
    monkeypatch.setitem(candidates.PEERS, "mnn-fp32", gone)
    result = bench("--peer", "mnn")
    assert result.exit_code == 0
    assert re.search(r"^ *WRONG +openvino-fp32 ", result.stdout, re.MULTILINE)
    assert re.search(
        r"^wrong: openvino-fp32, 8x12, 1 thread: max error \S+ is beyond 1e-30 of the range$",
        result.stderr,
        re.MULTILINE,
    )
    assert "left out: mnn-fp32: no_such_module not installed; pip install MNN\n" in result.stderr


def test_every_option_is_told_in_full(run: Any) -> None:
    result = run("bench", "inference", "--help")
    assert result.exit_code == 0
    told = ("--size", "--backend", "--peer", "--precision", "--threads", "--rounds", "--baseline", "--picture")
    new = ("--batch", "--iterations", "--duration", "--warm-up", "--percentile", "--streams", "--html")
    for option in (*told, *new, "--calibration", "--cold-start", "--memory", "--json", "--csv", "a sample photograph"):
        assert option in result.stdout


def test_the_tool_is_the_same_program(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "argv", ["bench_inference.py", "--size", "0"])
    with pytest.raises(SystemExit, match="1"):
        runpy.run_path(str(ROOT / "tools/bench_inference.py"), run_name="__main__")
    assert capsys.readouterr().err.startswith("error: size is '0'")


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        (["--json"], ["--json", "-"]),
        (["--json", "--csv", "rows.csv"], ["--json", "-", "--csv", "rows.csv"]),
        (["--json", "-"], ["--json", "-"]),
        (["--json", "report.json", "--hr", "96"], ["--json", "report.json", "--hr", "96"]),
        (["--hr", "96"], ["--hr", "96"]),
    ],
)
def test_json_without_a_file_is_standard_output(given: list[str], parsed: list[str]) -> None:
    from srgan_fast.cli.reports import _completed

    assert list(_completed(given)) == parsed


def test_every_case_has_a_table_with_the_percentiles_asked_for(
    bench: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from srgan_fast.bench import inference

    monkeypatch.setattr(inference, "SECONDS", 0.05)
    axes = ["--batch", 1, "--batch", 3, "--threads", 2, "--percentile", 25, "--percentile", 99.5, "--streams", 2]
    result = bench(*axes, "--iterations", 3, "--json", "report.json", "--html", "page.html")
    assert result.exit_code == 0, result.stderr
    for title in ("8x12, 1 thread", "8x12, 2 threads", "8x12, batch 3, 1 thread", "8x12, batch 3, 2 threads"):
        assert re.search(f", {title}$", result.stdout, re.M)
    assert len(re.findall(r"min +mean +p25 +p99.5 +max ms +img/s +MP/s +ratio", result.stdout)) == 4
    assert len(re.findall(r"2 threads call one loaded runtime at the same time", result.stdout)) == 4
    report = InferenceReport.model_validate_json((folder / "report.json").read_text())
    assert {case.rounds for case in report.cases} == {3}
    assert "Latency against batch" in (folder / "page.html").read_text(encoding="utf-8")


def test_nothing_is_cut_off_where_output_is_no_terminal(tiny_model: Path, folder: Path) -> None:
    from typer.testing import CliRunner

    from srgan_fast.cli.app import app

    few = ["--model", str(tiny_model), "--size", "8", "--rounds", "1", "--threads", "1", "--warm-up", "0"]
    rows = ["--backend", "onnxruntime", "--peer", "none"]
    result = CliRunner().invoke(app, ["bench", "inference", *few, *rows], env={"COLUMNS": "60"}, catch_exceptions=False)
    assert re.search(r"our-onnxruntime-fp32 .* \d\.\de-\d\d +\d+\.\d +\d\.\d\d *$", result.stdout, re.M)


# --- bench gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_its_report_is_one_line_and_an_exit_code_of_its_own(run_process: Any, folder: Path) -> None:
    done = run_process("bench", "gpu", "--quick", "--json", "report.json")
    assert (done.returncode, done.stdout) == (5, b"")
    assert done.stderr == b"error: this machine has no CUDA device that PyTorch can use\n"
    assert not (folder / "report.json").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_driver_without_a_gpu_that_torch_can_use_is_the_same(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("srgan_fast.runtime.registry.has_nvidia_driver", lambda: True)
    result = run("bench", "gpu", "--html", "report.html")
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr == "error: this machine has no CUDA device that PyTorch can use\n"


@pytest.mark.parametrize(
    ("change", "code", "said"),
    [
        ({}, 0, ""),
        (
            {"self_test": [{"group": "pooling", "dtype": "bf16", "what": "y", "excess": 9.0, "right": False}]},
            3,
            "wrong: ",
        ),
        ({"times": [_time(1.0), _time(0.5)]}, 4, "slower: bf16: ours takes 2.00 times as long as recorded"),
        ({"times": []}, 5, ""),
        ({"warnings": ["rates: OutOfMemoryError"]}, 5, "warning: rates: OutOfMemoryError"),
    ],
)
def test_a_gpu_report_is_kept_and_its_outcome_is_the_exit_code(
    run: Any, folder: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], code: int, said: str
) -> None:
    found = GpuReport(GpuOptions(quick=True), "cuda:0", identity={"name": "a GPU"}, times=[_time(1.0), _time(2.0)])
    for name, value in change.items():
        setattr(found, name, value)
    monkeypatch.setattr("srgan_fast.runtime.registry.has_nvidia_driver", lambda: True)
    monkeypatch.setattr("srgan_fast.bench.gpu.bench_gpu", lambda options, tell: found)
    result = run("bench", "gpu", "--quick", "--json", "report.json", "--html", "report.html")
    assert result.exit_code == code, result.stderr
    assert said in result.stderr
    assert json.loads((folder / "report.json").read_text())["schema"] == "srgan_fast.bench.gpu/1"
    assert "a GPU" in (folder / "report.html").read_text()
    assert "Whole training steps" in result.stdout or not found.times


def test_a_crop_that_the_networks_cannot_have_is_refused(run: Any) -> None:
    result = run("bench", "gpu", "--hr", 100)
    assert (result.exit_code, result.stderr) == (1, "error: --hr is 100; it must be a multiple of 16\n")
