"""Pages stand alone, escape whatever they are given, and show what is wrong as such."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import reports
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from srgan_fast.bench.page.inference import inference_page
from srgan_fast.bench.page.training import training_page
from srgan_fast.bench.report import InferenceReport
from srgan_fast.cli.app import app
from srgan_fast.pages import charts
from srgan_fast.pages.document import Column, Facts, KeyFigure, Page, Section, Table, number
from srgan_fast.pages.html import render

HOSTILE = "</title></style><script>alert('x')</script><img src=x onerror=\"alert(1)\">&amp;"
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=20)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Collects elements and checks that they are closed in their order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open == []
    return reader


def hostile_report() -> Any:
    """Texts of others everywhere they may come from."""
    report = reports.change_row(
        reports.spoilt_report(), "openvino-int8", reason=HOSTILE, device=HOSTILE, tolerance=HOSTILE, runtime=HOSTILE
    )
    cases = [
        case.model_copy(
            update={"input": HOSTILE, "rows": [case.rows[0].model_copy(update={"name": HOSTILE}), *case.rows[1:]]}
        )
        for case in report.cases
    ]
    left = reports.LeftOut(name=HOSTILE, case=HOSTILE, reason=HOSTILE, remedy=HOSTILE)
    return report.model_copy(
        update={
            "cases": cases,
            "model": report.model.model_copy(update={"name": HOSTILE}),
            "environment": reports.environment(cpu=HOSTILE, versions={HOSTILE: HOSTILE}, variables={HOSTILE: HOSTILE}),
            "left_out": [left],
            "warnings": [HOSTILE],
        }
    )


def hostile_training() -> Any:
    rows = [
        reports.training_row(HOSTILE, 1.0, reason=HOSTILE, status="wrong", tolerance=HOSTILE, saved_mb={HOSTILE: 1.0}),
        reports.training_row("stock", 1.0, phases={HOSTILE: reports.Phase(seconds=1, gflop=1, gflops=1)}),
    ]
    return reports.training_report(*rows, warnings=[HOSTILE], baseline=HOSTILE)


def page(report: Any) -> str:
    return render(inference_page(report) if isinstance(report, InferenceReport) else training_page(report))


@pytest.mark.parametrize(
    "report",
    [reports.spoilt_report(), reports.training_report(), hostile_report(), hostile_training()],
    ids=["inference", "training", "hostile", "hostile training"],
)
def test_a_page_stands_alone_and_is_well_formed(report: Any) -> None:
    text = page(report)
    reader = read(text)
    assert not {tag for tag, _ in reader.tags} & {"script", "link", "img", "image", "iframe", "object", "form", "base"}
    for _, attributes in reader.tags:
        assert not {"src", "onerror", "onload", "onclick"} & attributes.keys()
        assert (attributes.get("href") or attributes.get("xlink:href") or "#").startswith("#")
    assert not re.search(r"url\((?!#)", text)
    assert "@import" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text)
    keys = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(keys) == len(set(keys))
    drawings = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert drawings
    for svg in drawings:
        ElementTree.fromstring(svg)
        assert 'role="img" aria-label="' in svg
        assert "currentColor" in svg, "text follows a dark page"


def test_what_is_hostile_is_shown_as_text() -> None:
    for report in (hostile_report(), hostile_training()):
        text = page(report)
        assert "<script" not in text
        assert "<img" not in text
        assert "".join(read(text).text).count("<script>alert('x')</script>") > 5


def test_wrong_failed_and_left_out_rows_are_marked() -> None:
    text = page(reports.spoilt_report())
    assert text.count('<span class="pill">wrong</span>') >= 4
    assert text.count('<span class="pill">failed</span>') >= 4
    shown = "".join(read(text).text)
    for said in (
        "PSNR 21.0 dB is below 30 dB",
        "RuntimeError: out of luck",
        "pip install MNN",
        "the machine is busy: load average 2.00",
        "the runtime does not support concurrent calls",
        "Latency against size",
        "Latency against batch",
        "openvino-int8 (wrong)",
    ):
        assert said in shown
    assert "Latency against threads" not in shown, "all cases have the same number"


def test_a_training_page_shows_parts_memory_and_errors() -> None:
    shown = "".join(read(page(reports.training_report())).text)
    for said in ("G forward", "Where the time goes", "Saved activations", "generator gradient", "off by 0.9", "luck"):
        assert said in shown


def test_a_chart_shows_every_round_and_the_same_data_give_the_same_chart() -> None:
    def dots(values: list[float]) -> int:
        series = charts.Series("a", [(value, 0.0) for value in values])
        return charts.strips([series], "ms")("k").count("<use ")

    assert dots([1.0 + i % 2 for i in range(40)]) - dots([1.0 + i % 2 for i in range(10)]) == 30
    assert dots([1.0 + i for i in range(5_000)]) < 400, "more would not be told apart"
    one, two = (charts.stacks([charts.StackedBar("a", {"b": 1.0})], "ms")("k") for _ in range(2))
    assert one == two


def test_nothing_to_draw_is_nothing() -> None:
    nothing = [
        charts.strips([charts.Series("a", [(float("nan"), 0), (-1.0, 0)])], "ms"),
        charts.lines([charts.Series("a", [(0, 1)])], "x", "y", {}),
        charts.scatter([charts.Series("a", [(float("inf"), 1)])], "x", "y"),
        charts.stacks([charts.StackedBar("a", {"b": 0.0})], "ms"),
    ]
    assert [draw("k") for draw in nothing] == [""] * 4


@given(st.lists(st.tuples(NAMES, st.lists(NUMBERS, max_size=4)), max_size=3))
@settings(max_examples=8, deadline=None)
def test_charts_take_any_numbers_and_names(rows: list[tuple[str, list[float]]]) -> None:
    drawn = [
        charts.strips([charts.Series(n, [(x, 0) for x in v]) for n, v in rows], "ms"),
        charts.scatter([charts.Series(n, [(v[0], v[-1])], mark=n) for n, v in rows if v], "x", "y"),
        charts.stacks([charts.StackedBar(n, {str(i): x for i, x in enumerate(v)}) for n, v in rows], "ms"),
    ]
    for draw in drawn:
        ElementTree.fromstring(f"<r xmlns:xlink='x'>{draw('k')}</r>")


@given(NAMES, NAMES, NAMES)
@settings(max_examples=40)
def test_every_text_of_a_page_is_escaped(a: str, b: str, c: str) -> None:
    texts = [f"{text}<b>{HOSTILE}" for text in (a, b, c)]
    one, two, three = texts
    row = {"name": one, "status": "wrong", "reason": two}
    table = Table([Column(three, "name", text=True, hint=one), Column(two, lambda _: one)], [row], two, notes=[three])
    parts = [table, Facts([(one, two)])]
    text = render(Page(one, two, three, [KeyFigure(*texts)], [one], [Section(one, parts, two)], three))
    assert "<b>" not in text
    assert "<script" not in text
    read(text)


def test_a_page_without_charts_is_made_where_little_is_installed() -> None:
    code = """
import sys
for name in ("numpy", "pydantic", "torch", "matplotlib"):
    sys.modules[name] = None
from srgan_fast.pages import charts
from srgan_fast.pages.document import Chart, Page, Section
from srgan_fast.pages.html import render
chart = Chart("c", charts.stacks([charts.StackedBar("a", {"b": 1.0})], "ms"))
print(render(Page("t", sections=[Section("s", [chart])])))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True)
    assert "The chart needs matplotlib: pip install" in done.stdout


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.9, "0.900"),
        (0.0004, "4.00e-04"),
        (2.345, "2.35"),
        (23.45, "23.4"),
        (234.5, "234"),
        (2345, "2\u202f345"),
        (2.5e7, "2.50e+07"),
        (-12.34, "-12.3"),
        (float("inf"), "inf"),
    ],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def call(*arguments: object) -> Any:
    texts = ["bench", "html", *map(str, arguments)]
    return CliRunner().invoke(app, texts, env={"COLUMNS": "60"}, catch_exceptions=False)


@pytest.mark.parametrize("kind", ["inference", "training"])
def test_a_page_is_made_of_a_kept_report(tmp_path: Path, kind: str) -> None:
    report = reports.inference_report() if kind == "inference" else reports.training_report()
    (tmp_path / "report.json").write_text(report.as_json(), encoding="utf-8")
    result = call(tmp_path / "report.json", "-o", tmp_path / "new" / "page.html")
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == page(report)
    assert result.stdout.endswith("page.html\n")


def test_what_is_no_report_makes_no_page(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    result = call(tmp_path / "report.json", "-o", tmp_path / "page.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert (
        result.stderr == f"error: {tmp_path / 'report.json'}: is JSON, but not a report; give one written by --json\n"
    )
    assert not (tmp_path / "page.html").exists()
    result = call(tmp_path / "report.json", "-o", tmp_path)
    assert result.stderr == f"error: {tmp_path}: is a folder\n"
    result = call(tmp_path / "report.json", "-o", tmp_path / "report.json")
    assert (
        result.stderr == f"error: {tmp_path / 'report.json'}: is the report itself; choose another file for the page\n"
    )
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == "{}"
