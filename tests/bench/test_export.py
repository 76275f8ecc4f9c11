"""The benchmark of exporting makes every file it tells of, and says why where it cannot."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from srgan_fast.bench import export as bench
from srgan_fast.bench.export import ExportBenchReport, ExportOptions, bench_export
from srgan_fast.bench.workload import ImageSize
from srgan_fast.cli.app import app
from srgan_fast.errors import BackendError, UsageError
from srgan_fast.runtime.tensorrt.flavour import installed_flavours

ENGINES = [flavour.name for flavour in installed_flavours()]


@pytest.fixture
def options(tiny_model: Path) -> ExportOptions:
    return ExportOptions(tiny_model, ("fp32", "fp16"), ImageSize(16, 16), rounds=2, threads=1)


@pytest.fixture
def report(options: ExportOptions) -> ExportBenchReport:
    return bench_export(options)


def test_every_format_that_can_be_made_is_a_row(report: ExportBenchReport) -> None:
    names = [f"{kind}-{precision}" for kind in ("onnx", *ENGINES) for precision in ("fp32", "fp16")]
    assert [row.name for row in report.rows] == names
    for row in report.rows:
        if row.name.startswith("tensorrt-fp"):  # needs its GPU
            continue
        assert (row.status, row.reason) == ("ok", None)
        assert row.make_s is not None
        assert row.make_s > 0
        assert (row.psnr_db or 0) > 60
        assert (row.build_s is None) == row.name.startswith("onnx") == (len(row.rounds_ms) == 2)
    first, second = report.rows[:2]
    assert (first.size_mb or 0) > (second.size_mb or 0) > 0
    data = json.loads(report.as_json())
    assert data["schema"] == "srgan_fast.bench.export/2"
    assert ExportBenchReport.model_validate_json(report.as_json()) == report
    lines = list(csv.DictReader(report.as_csv().splitlines()))
    assert [line["name"] for line in lines] == names
    assert float(lines[0]["median_ms"]) == report.rows[0].median_ms


def test_what_cannot_be_made_is_told_and_the_rest_go_on(
    options: ExportOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    genuine = bench.make_onnx

    def make(file: Any, **how: Any) -> Any:
        if how["precision"] == "fp16":
            raise BackendError("no halves here")
        return genuine(file, **how)

    monkeypatch.setattr(bench, "make_onnx", make)
    monkeypatch.setattr(bench, "installed_flavours", list)
    found = [(row.name, row.status, row.reason) for row in bench_export(options).rows]
    assert found == [("onnx-fp32", "ok", None), ("onnx-fp16", "failed", "no halves here")]


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"threads": 0}, {"precisions": ("fp8",)}])
def test_options_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ExportOptions(**wrong)


def test_a_table_is_shown_and_files_are_kept(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "installed_flavours", list)
    arguments = ["bench", "export", "-m", str(tiny_model), "--precision", "fp32", "--size", "8x8", "--iterations", "1"]
    files = ["--json", str(tmp_path / "r.json"), "--csv", str(tmp_path / "r.csv")]
    result = CliRunner().invoke(app, [*arguments, *files])
    assert result.exit_code == 0, result.stderr
    assert "onnx-fp32" in result.stdout
    assert json.loads((tmp_path / "r.json").read_text())["size"] == "8x8"
    assert (tmp_path / "r.csv").read_text().startswith("model,size,threads,name,status")
