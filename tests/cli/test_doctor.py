"""`srgan-fast doctor` presents a report, keeps it, and its exit code says whether all is well."""

import sys
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.doctor import DoctorReport, examine
from srgan_fast.doctor.report import SelfTest

GUIDE = Path(__file__).parents[2] / "docs" / "guide.md"


@pytest.fixture(scope="module")
def report() -> DoctorReport:
    return examine()


@pytest.fixture
def finds(monkeypatch: pytest.MonkeyPatch, report: DoctorReport) -> Any:
    """Lets the examination end with this report, changed as wanted."""

    def make(**changes: Any) -> DoctorReport:
        changed = report.model_copy(update=changes)
        monkeypatch.setattr("srgan_fast.doctor.examine", lambda on_test: changed)
        return changed

    return make


def test_a_sound_installation_is_presented_and_exits_with_0(run: Any) -> None:
    result = run("doctor")
    assert (result.exit_code, result.stderr) == (0, "")
    for text in (
        "srgan-fast 0.", "instruction sets: baseline", "torch 2.", "srgan_fast._engine   upscaling on the CPU",
        "native                fp32", "cpu float16   plain torch: ", "resize uint8 ", "of the output's range",
        "everything that is installed works; tests: ",
    ):  # fmt: skip
        assert text in result.stdout


def test_errors_stand_beside_their_bounds(run: Any, finds: Any) -> None:
    parts = {"forward": 1.2e-6, "dgrad": 2.4e-6, "wgrad": 3.8e-6}
    tests = [
        SelfTest(part="op", name="conv 3x3", device="cpu", dtype="float32", direction=direction, state="passed",
                 error=error, bound=3e-5, measure="the largest of y")
        for direction, error in parts.items()
    ]  # fmt: skip
    finds(tests=tests)
    line = "passed  conv 3x3, float32, cpu  forward 1.2e-06  dgrad 2.4e-06  wgrad 3.8e-06  (3e-05)"
    assert line in run("doctor").stdout


def test_what_is_broken_is_a_line_each_and_exits_with_1(run: Any, finds: Any) -> None:
    finds(ok=False, problems=["srgan_fast._engine: is [gone]", "conv 3x3: " + "wrong " * 60 + "indeed"])
    result = run("doctor")
    assert result.exit_code == 1
    lines = ["srgan_fast._engine: is [gone]", "conv 3x3: " + "wrong " * 60 + "indeed"]
    assert result.stderr == "".join(f"problem: {line}\n" for line in lines)
    assert "problems: 2; tests: " in result.stdout


def test_json_on_standard_output_is_alone_there(run: Any, finds: Any) -> None:
    expected = finds(ok=False, problems=["a: b"])
    result = run("doctor", "--json", "-")
    assert DoctorReport.from_json(result.stdout) == expected
    assert (result.exit_code, result.stderr) == (1, "problem: a: b\n")


def test_json_is_kept_in_a_file_beside_the_text(run: Any, finds: Any, folder: Path) -> None:
    expected = finds()
    result = run("doctor", "--json", "new/report.json")
    assert result.exit_code == 0
    assert DoctorReport.from_json((folder / "new/report.json").read_text()) == expected
    assert "everything that is installed works" in result.stdout


def test_a_place_that_cannot_be_written_is_one_line(run: Any) -> None:
    result = run("doctor", "--json", "/proc/none/a.json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: /proc/none/a.json: cannot be written")
    assert result.stderr.count("\n") == 1


def test_a_dependency_that_does_not_load_is_one_line(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "srgan_fast.doctor", None)
    result = run("doctor")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: a required package cannot be imported (")
    assert result.stderr.count("\n") == 1


def test_every_field_of_the_report_is_in_the_guide() -> None:
    section = GUIDE.read_text(encoding="utf-8").split("## Doctor\n")[1].split("\n## ")[0]
    definitions = DoctorReport.model_json_schema()
    for part in (definitions, *definitions["$defs"].values()):
        for field in part["properties"]:
            assert f"`{field}`" in section, f"docs/guide.md does not say what {field} is"
