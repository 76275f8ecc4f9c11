"""Pages stand alone, escape whatever they are given, and show what is wrong as such."""

import ast
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import reports
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import srgan_fast.bench.html
from srgan_fast.bench.html import charts
from srgan_fast.bench.html.page import Column, Facts, Notice, Page, Section, Table, TableRow, Tile, render
from srgan_fast.bench.html.render import report_page
from srgan_fast.bench.html.svg import number
from srgan_fast.cli.app import app

FOLDER = Path(srgan_fast.bench.html.__file__).parent
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


@pytest.mark.parametrize(
    "report",
    [
        reports.inference_report(),
        reports.spoilt_report(),
        reports.training_report(),
        hostile_report(),
        hostile_training(),
    ],
    ids=["inference", "spoilt", "training", "hostile", "hostile training"],
)
def test_a_page_stands_alone_and_is_well_formed(report: Any) -> None:
    page = report_page(report)
    reader = read(page)
    names = {tag for tag, _ in reader.tags}
    assert not names & {"script", "link", "img", "iframe", "object", "form", "base"}
    for _, attributes in reader.tags:
        assert not {"src", "onerror", "onload", "onclick"} & attributes.keys()
        assert (attributes.get("href") or "#").startswith("#")
    assert "url(" not in page
    assert "@import" not in page
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    keys = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(keys) == len(set(keys))
    for tag, attributes in reader.tags:
        if tag == "svg":
            assert set((attributes["aria-labelledby"] or "").split()) <= set(keys)
    for svg in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        root = ElementTree.fromstring(svg)
        assert [child.tag.rpartition("}")[2] for child in root][:2] == ["title", "desc"]
        assert not re.search(r"\b(nan|inf)\b", "".join(re.findall(r'="([^"]*)"', svg)))


def test_what_is_hostile_is_shown_as_text() -> None:
    for report in (hostile_report(), hostile_training()):
        page = report_page(report)
        assert "<script" not in page
        assert "<img" not in page
        assert "".join(read(page).text).count("<script>alert('x')</script>") > 5


def test_wrong_failed_and_left_out_rows_are_marked() -> None:
    page = report_page(reports.spoilt_report())
    assert page.count('<span class="pill">wrong</span>') >= 4
    assert page.count('<span class="pill">failed</span>') >= 4
    text = "".join(read(page).text)
    for said in (
        "PSNR 21.0 dB is below 30 dB",
        "RuntimeError: out of luck",
        "pip install MNN",
        "the machine is busy: load average 2.00",
        "its runtime cannot be called by several threads at once",
        "Latency against size",
        "Latency against batch",
    ):
        assert said in text
    assert "Latency against threads" not in text, "all cases have the same number"
    assert 'class="t-bad"' in page
    assert 'class="cross"' in page


def test_a_training_page_shows_parts_memory_and_errors() -> None:
    text = "".join(read(report_page(reports.training_report())).text)
    for said in (
        "G forward",
        "Where the time goes",
        "Saved activations",
        "generator gradient",
        "off by 0.9",
        "out of luck",
    ):
        assert said in text


def test_every_round_is_a_dot_that_tells_its_time() -> None:
    drawn = charts.strips([charts.Series("a", [1.5, 2.5, 3.5])], "t", "ms", "k")
    assert drawn.count("<circle") == 2 * 3, "wide and narrow"
    assert "a, run 2: 2.50 ms" in drawn
    assert "a: median 2.50 ms, least 1.50, most 3.50, 3 runs" in drawn
    many = charts.strips([charts.Series("a", [1.0 + i for i in range(10_000)])], "t", "ms", "k")
    assert many.count("<circle") <= 2 * charts.MOST_DOTS
    assert "10000 runs" in many


def test_parts_beyond_the_colours_look_different() -> None:
    names = [f"part {i}" for i in range(10)]
    drawn = charts.stacks([charts.Bar("a", dict.fromkeys(names, 1.0))], "t", "ms", "k")
    kinds = re.findall(r'class="part ([^"]*)"', drawn)
    assert len(set(kinds)) == 10


@pytest.mark.parametrize("draw", ["strips", "lines", "scatter", "stacks"])
def test_nothing_to_draw_is_nothing(draw: str) -> None:
    nothing: dict[str, str] = {
        "strips": charts.strips([charts.Series("a", [float("nan"), -1.0])], "t", "ms", "k"),
        "lines": charts.lines([charts.Line("a", [(0, 1)])], "t", "x", "y", "k"),
        "scatter": charts.scatter([charts.Point("a", float("inf"), 1)], "t", "x", "y", "k"),
        "stacks": charts.stacks([charts.Bar("a", {"b": 0.0})], "t", "ms", "k"),
    }
    assert nothing[draw] == ""


@given(st.lists(st.tuples(NAMES, st.lists(NUMBERS, max_size=6), st.integers(0, 20)), max_size=5))
@settings(max_examples=60, deadline=None)
def test_charts_take_any_numbers_and_names(rows: list[tuple[str, list[float], int]]) -> None:
    drawn = [
        charts.strips([charts.Series(n, v, t) for n, v, t in rows], "t", "ms", "k"),
        charts.lines([charts.Line(n, list(pairwise(v)), t, t) for n, v, t in rows], "t", "x", "y", "k"),
        charts.scatter([charts.Point(n, v[0], v[-1], t, t, n) for n, v, t in rows if v], "t", "x", "y", "k"),
        charts.stacks([charts.Bar(n, {str(i): x for i, x in enumerate(v)}) for n, v, _ in rows], "t", "ms", "k"),
    ]
    for chart in drawn:
        if chart:
            root = ElementTree.fromstring(f"<r>{chart}</r>")
            for element in root.iter():
                for name in ("x", "y", "cx", "cy", "x1", "x2", "y1", "y2", "width", "height"):
                    value = element.get(name)
                    assert value is None or -1e5 < float(value) < 1e5


@given(NAMES, NAMES, NAMES)
@settings(max_examples=40)
def test_every_text_of_a_page_is_escaped(a: str, b: str, c: str) -> None:
    texts = [f"{text}<b>{HOSTILE}" for text in (a, b, c)]
    one, two, three = texts
    table = Table(
        one, [Column(two, numeric=False, hint=three), Column(one)], [TableRow([two, three], "wrong", one, 0.5)]
    )
    parts = [table, Facts([(one, two)])]
    page = render(Page(one, two, three, [Tile(*texts)], [Notice(one, [two])], [Section(one, parts, two)], three))
    assert "<b>" not in page
    assert "<script" not in page
    read(page)


@pytest.mark.parametrize("name", ["charts", "svg", "style", "page"])
def test_charts_and_page_need_the_standard_library_only(name: str) -> None:
    for node in ast.walk(ast.parse((FOLDER / f"{name}.py").read_text(encoding="utf-8"))):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for module in modules:
            own = module in ("srgan_fast.bench.html.style", "srgan_fast.bench.html.svg")
            assert own or module.split(".")[0] in sys.stdlib_module_names


def test_a_page_is_made_where_nothing_else_is_installed() -> None:
    code = """
import sys
from srgan_fast.bench.html import charts, page
drawing = charts.strips([charts.Series("a", [1.0, 2.0])], "t", "ms", "k")
page.render(page.Page("t", "e", "s", sections=[page.Section("s", [page.Chart("c", drawing)])]))
assert not {"numpy", "pydantic", "torch"} & sys.modules.keys(), sys.modules.keys()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


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
    assert (tmp_path / "new" / "page.html").read_text(encoding="utf-8") == report_page(report)
    assert result.stdout.endswith("page.html\n")


def test_what_is_no_report_makes_no_page(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{}", encoding="utf-8")
    result = call(tmp_path / "report.json", "-o", tmp_path / "page.html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"error: {tmp_path / 'report.json'}: is JSON, but no report; give one that --json wrote\n"
    assert not (tmp_path / "page.html").exists()
    result = call(tmp_path / "report.json", "-o", tmp_path)
    assert result.stderr == f"error: {tmp_path}: is a folder\n"
    result = call(tmp_path / "report.json", "-o", tmp_path / "report.json")
    assert result.stderr == f"error: {tmp_path / 'report.json'}: is the report itself; give another file for the page\n"
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == "{}"
