"""Page of a GPU report."""

from itertools import groupby
from operator import itemgetter

from srgan_fast.bench.gpu.comparison import WAYS, GpuTime, Kind
from srgan_fast.bench.gpu.report import GpuReport
from srgan_fast.pages import charts
from srgan_fast.pages.document import Chart, Column, KeyFigure, Page, Section, Table, day, facts, number, plural, texts

_TITLES: dict[Kind, str] = {
    "network": "Whole networks, fp16",
    "step": "Whole training steps",
    "layer": "Layers of training steps, bf16",
}
_RIGHT = {"fine": "right", "slower": "right", "wrong": "wrong", "not measured": "not measured"}


def gpu_page(report: GpuReport) -> Page:
    """The page of a report by `srgan_fast.bench.gpu.bench_gpu`."""
    identity, options = report.identity, report.options
    training, upscaling = report.training, report.upscaling
    slower = report.slower()
    tiles = [
        KeyFigure("Outcome", _RIGHT[report.outcome()], plural(len(report.wrong()), "wrong result")),
        KeyFigure("Slower than PyTorch", str(len(slower)), "whole networks and steps"),
    ]
    if training:
        tiles.append(KeyFigure("Training", f"{number(training['images_per_s'])} images/s", "the trainer itself, bf16"))
    if upscaling:
        tiles.append(
            KeyFigure("PNG to PNG", f"{number(upscaling['file_to_file_s'] * 1e3)} ms", f"{upscaling['side']} square")
        )
    return Page(
        title=f"srgan_fast on {identity.get('name', 'a GPU')}",
        eyebrow="srgan_fast GPU report",
        subtitle=f"{day(report.created)}, PyTorch {identity.get('PyTorch', '?')}, driver {identity.get('driver', '?')}",
        tiles=tiles,
        warnings=[*(f"WRONG: {line}" for line in report.wrong()), *report.warnings],
        sections=[
            *(_times(kind, report.times, f"batch {options.batch}, crops of {options.hr}") for kind in _TITLES),
            facts("The trainer itself", training.items()),
            facts("PNG to PNG", upscaling.items()),
            facts("What auto uses", _choice(report)),
            _checks(report),
            Section("Kernels of real sizes", [_coverage(report)], "tested: by the self-test, before the first use."),
            _sanitizer(report),
            facts("GPU", identity.items(), report.rates.items()),
            facts("Before", report.state_before.items()),
            facts("After", report.state_after.items()),
            facts("Ways", WAYS.items()),
        ],
    )


def _times(kind: Kind, times: list[GpuTime], sizes: str) -> Section:
    order, micro = list(dict.fromkeys(row.what for row in times)), kind == "layer"
    rows = sorted((row for row in times if row.kind == kind), key=lambda row: order.index(row.what))
    unit, factor = ("\u00b5s", 1e6) if micro else ("ms", 1e3)
    columns = [
        *texts({"Case": "what", "Way": "way"}),
        Column(unit, "median_s", factor=factor),
        Column("Least", "least_s", factor=factor, page_only=True),
        Column("Most", "most_s", factor=factor, page_only=True),
        Column("Time/ours", "ratio", ".2f", hint="above 1: ours is faster"),
        Column("Range", lambda row: None if row.ratio is None else f"{row.least_ratio:.2f} .. {row.most_ratio:.2f}"),
        Column("Ours is", "against_ours", text=True),
        Column("Load s", "load_s", page_only=True),
        Column("Peak MB", "peak_mb", ".0f", page_only=True),
    ]
    parts: list[Table | Chart] = [Table(columns, rows, page_only=micro)]
    for what, of_case in groupby([] if micro else rows, key=lambda row: row.what):
        bars = [charts.StackedBar(row.way, {"median": (row.median_s or 0) * 1e3}) for row in of_case]
        parts.append(Chart(what, charts.stacks(bars, "ms")))
    return Section(_TITLES[kind], parts if rows else [], "" if kind == "network" else sizes)


def _choice(report: GpuReport) -> list[tuple[str, str]]:
    named = [(name, value or "built-in (not measured)") for name, value in report.choice.items()]
    return [*named, ("stored in", report.choice_file or "not stored")] if named else []


def _checks(report: GpuReport) -> Section:
    """The self-test by group and dtype, the first wrong result of each, and networks against float64 on the CPU."""
    rows = []
    by_group = itemgetter("group", "dtype")
    for (group, dtype), cases in groupby(sorted(report.self_test, key=by_group), key=by_group):
        found = list(cases)
        wrong = [row["what"] for row in found if not row["right"]]
        figures = {"cases": len(found), "wrong": len(wrong), "excess": max(row["excess"] for row in found)}
        marks = {"status": "wrong", "reason": wrong[0]} if wrong else {"status": "ok"}
        rows.append({"group": group, "dtype": dtype, **figures, **marks})
    columns = [
        *texts({"Cases": "group", "dtype": "dtype"}),
        Column("Number", "cases"),
        Column("Wrong", "wrong"),
        Column("Worst error / tolerance", "excess", ".2f"),
    ]
    networks = [row | {"status": "ok" if row["right"] else "wrong"} for row in report.networks]
    against = [Column("Network", "what", text=True), Column("PSNR dB", "psnr_db", ".1f")]
    title = "Networks against float64 on the CPU"
    return Section("Right or wrong", [Table(columns, rows), Table(against, networks, title)])


def _coverage(report: GpuReport) -> Table:
    columns = [
        *texts({"Kernel": "kernel", "Plan": "plan"}),
        Column("Real calls", "selected", ".0f"),
        Column("Variants", "variants", ".0f"),
        Column("Tested", "tested", ".0f"),
    ]
    marked = [
        row | ({} if row["tested"] == row["variants"] else {"status": "failed", "reason": "not tested"})
        for row in report.coverage
    ]
    return Table(columns, marked, page_only=True)


def _sanitizer(report: GpuReport) -> Section:
    figures = [Column("Errors", "errors"), Column("Seconds", "seconds")]
    columns = [*texts({"Tool": "tool", "Result": "status"}), *figures]
    rows = [row | {"reason": "; ".join([*filter(None, [row["reason"]]), *row["findings"]])} for row in report.sanitizer]
    return Section("compute-sanitizer, all cases of the self-test", [Table(columns, rows)])
