"""Page of an inference report: what varies between cases, then each case with its charts and tables."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from srgan_fast.bench.report import CaseResult, ColdStart, InferenceReport, Row
from srgan_fast.pages import charts
from srgan_fast.pages.document import (
    NAME,
    Chart,
    Column,
    KeyFigure,
    Page,
    Section,
    Table,
    day,
    facts,
    number,
    plural,
    read,
    texts,
)

_LATENCY = "A dot is a run; the box holds the middle half of them, the thick line is the median."
_ACCURACY = "Discs are fp32, squares bf16 or fp16, diamonds int8; crosses are wrong beyond their tolerance, not ranked."
_SCALING = "Medians, both scales logarithmic. Solid lines are fp32, dashed ones bf16 or fp16, dotted ones int8."
_MEMORY = "Peak resident memory after one run, and that of an interpreter with this package before it loads anything."
_COMMANDS = "The runtime's own benchmark or the call with the same settings, to repeat a row without this program."


def inference_page(report: InferenceReport, memory: bool = False) -> Page:
    """The page of a report; `memory`: also print each row's memory on the console."""
    model = report.model
    rounds = sorted({case.rounds for case in report.cases})
    said = plural(rounds[0], "round") if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]} rounds"
    commands = {row.name: {"name": row.name, "command": row.command} for case in report.cases for row in case.rows}
    command = texts({"Command": "command"})
    left_out = [left.model_dump() | {"why": left.reason, "reason": None} for left in report.left_out]
    why = texts({"Case": "case", "Why": "why", "Remedy": "remedy"})
    return Page(
        title=f"{model.name} x{model.scale} on {report.environment.cpu}",
        eyebrow="srgan_fast inference benchmark",
        subtitle=f"{day(report.created)}, {plural(len(report.cases), 'case')}, {said} of each",
        tiles=list(_tiles(report)),
        warnings=report.warnings,
        sections=[
            *_scaling(report),
            *(_case(case, report, memory) for case in report.cases),
            Section("Rows left out", [Table([NAME, *why], left_out, page_only=True)]),
            *([_cold_start(report.cold_start)] if report.cold_start else []),
            Section("Commands", [Table([NAME, *command], list(commands.values()), page_only=True)], _COMMANDS),
            facts("Machine", report.environment),
            facts("Method", report.method, report.model),
        ],
    )


def _tiles(report: InferenceReport) -> Iterator[KeyFigure]:
    rows = [row for case in report.cases for row in case.rows]
    case = max(report.cases, key=lambda case: case.batch * case.height * case.width, default=None)
    correct = [row for row in case.rows if row.status == "ok"] if case else []
    if correct:
        best = min(correct, key=Row.median_ms)
        yield KeyFigure(f"Fastest at {case}", best.name, f"{number(best.median_ms())} ms median")
    for precision in ("fp32", "bf16", "fp16"):
        alike = [row for row in correct if row.precision == precision]
        ours = min((row for row in alike if row.kind == "backend"), key=Row.median_ms, default=None)
        theirs = min((row for row in alike if row.kind == "peer"), key=Row.median_ms, default=None)
        if ours and theirs:
            note = f"{ours.name} over {theirs.name}, the fastest peer in {precision}"
            yield KeyFigure(f"Speed in {precision}", f"{theirs.median_ms() / ours.median_ms():.2f}\u00d7", note)
            break
    right = sum(row.status == "ok" for row in rows)
    yield KeyFigure("Results checked", f"{right} of {len(rows)} right", f"{len(report.left_out)} rows left out")


def _case(case: CaseResult, report: InferenceReport, memory: bool) -> Section:
    timed = [row for row in case.rows if row.latency]
    points = [_series(row, [(row.psnr_db, row.output_mp_per_s)]) for row in timed]
    known = [row for row in case.rows if row.peak_mib is not None and row.base_mib is not None]
    bars = [
        charts.StackedBar(row.name, {"before loading": row.base_mib, "runtime and a run": row.peak_mib - row.base_mib})  # type: ignore[dict-item, operator]
        for row in known
    ]
    parts: list[Table | Chart] = [
        Chart(
            "Latency of every run",
            charts.strips([_series(row, [(t, 0) for t in row.runs_ms]) for row in timed], "ms"),
            _LATENCY,
        ),
        _latency_table(case, report),
        Chart("Speed against accuracy", charts.scatter(points, "dB PSNR, right is better", "output MP/s"), _ACCURACY),
        _streams_table(case),
        Chart("Memory of each row's process", charts.stacks(bars, "MiB"), _MEMORY),
        Table(
            [NAME, Column("peak MiB", "peak_mib", ".0f"), Column("before loading", "base_mib", ".0f")],
            [{"name": row.name, "peak_mib": row.peak_mib, "base_mib": row.base_mib} for row in known],
            "memory of each row's process",
            page_only=not memory,
        ),
    ]
    against = f"ratio: median over that of {case.baseline}; " if case.baseline else ""
    lead = f"input: {case.input}; {against}errors over the range of {case.reference}; {plural(case.rounds, 'round')}"
    return Section(str(case), parts, lead)


def _latency_table(case: CaseResult, report: InferenceReport) -> Table:
    def percentile(percent: float, row: Row) -> float | None:
        return None if row.latency is None else row.latency.percentiles_ms[f"{percent:g}"]

    on_gpu = any(row.device_ms is not None or row.peak_device_mib is not None for row in case.rows)
    columns = [
        NAME,
        Column("min", "latency.min_ms"),
        Column("mean", "latency.mean_ms"),
        *(
            Column(f"p{percent:g}", partial(percentile, percent), hint="a dash: too few rounds for it")
            for percent in report.method.percentiles
        ),
        Column("max ms", "latency.max_ms"),
        *([Column("GPU ms", "device_ms"), Column("GPU MiB", "peak_device_mib", ".0f")] if on_gpu else []),
        Column("img/s", "images_per_s"),
        Column("MP/s", "output_mp_per_s", hint="output megapixels a second"),
        Column("ratio", "ratio", ".2f", hint="median over the baseline's: above 1 is slower"),
        Column("max err", "max_error", ".1e", hint="over the reference's range"),
        Column("PSNR", "psnr_db", ".1f", hint="dB over the reference's range"),
        Column("CPUs", "cpus_used", ".2f", hint="CPU time over wall time"),
        Column("allowed", "tolerance", text=True, page_only=True),
        Column(
            "GFLOP/s", "gflops", ".0f", page_only=True, hint="direct convolutions: Winograd may exceed a CPU's peak"
        ),
        Column("load s", "load_s", ".2f", page_only=True, hint="from prepared files to ready, compilation included"),
        Column("device", "device", text=True, page_only=True),
    ]
    return Table(columns, case.rows, bar="latency.median_ms")


def _streams_table(case: CaseResult) -> Table:
    def gain(row: Any) -> float | None:
        one, several = read(row, "streams.one_images_per_s"), read(row, "streams.images_per_s")
        return several / one if one and several else None

    columns = [
        NAME,
        Column("img/s", "streams.images_per_s"),
        Column("img/s of one", "streams.one_images_per_s"),
        Column("gain", gain, ".2f"),
        Column("median ms", "streams.median_ms"),
        Column("arrivals/s", "streams.poisson.rate_per_s", hint="at random, at 70 % of the closed loops' rate"),
        Column("median wait ms", "streams.poisson.median_ms", hint="from arrival to result"),
        Column("p90 wait", "streams.poisson.p90_ms"),
        Column("p99 wait", "streams.poisson.p99_ms"),
    ]
    found = [{"name": row.name, "streams": row.streams} for row in case.rows if row.streams]
    notes = [f"{row['name']}: {why}" for row in found if (why := read(row, "streams.reason"))]
    title = f"{read(found[0], 'streams.count') if found else 0} threads call one loaded runtime at the same time"
    return Table(columns, found, title, notes=notes)


def _scaling(report: InferenceReport) -> Iterator[Section]:
    """How medians change along each axis with several values: a line per row, all else equal."""
    axes: dict[str, tuple[Callable[[CaseResult], float], Callable[[CaseResult], str]]] = {
        "size": (lambda c: c.height * c.width, lambda c: f"{c.height}x{c.width}"),
        "batch": (lambda c: c.batch, lambda c: f"batch {c.batch}"),
        "threads": (lambda c: c.threads, lambda c: plural(c.threads, "thread")),
    }
    for axis, (place, label) in axes.items():
        others = [text for name, (_, text) in axes.items() if name != axis]
        found: dict[tuple[str, ...], list[tuple[float, Row]]] = {}
        for case in report.cases:
            for row in case.rows:
                if row.latency:
                    key = (row.name, *(text(case) for text in others))
                    found.setdefault(key, []).append((place(case), row))
        lines = [
            charts.Series(
                ", ".join(name),
                sorted((x, row.median_ms()) for x, row in points),
                points[0][1].runtime,
                points[0][1].precision,
                next(filter(None, (row.mark for _, row in points)), ""),
            )
            for name, points in found.items()
            if len(points) > 1
        ]
        if lines:
            ticks = {place(case): label(case) for case in report.cases}
            yield Section(f"Latency against {axis}", [Chart("", charts.lines(lines, axis, "ms", ticks), _SCALING)])


def _cold_start(cold: ColdStart) -> Section:
    columns = [Column("process", "name", text=True), Column("median ms", "median_ms"), Column("min", "min_ms")]
    tables = [Table(columns, cold.upscale, "upscale a small image with"), Table(columns, cold.imports, "import")]
    return Section("cold start", tables, f"whole processes; python alone {number(cold.python_ms)} ms")


def _series(row: Row, points: list[tuple[Any, Any]]) -> charts.Series:
    known = [(x, y) for x, y in points if x is not None and y is not None]
    return charts.Series(row.name, known, row.runtime, row.precision, row.mark)
