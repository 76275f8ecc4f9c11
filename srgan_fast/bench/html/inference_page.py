"""A report of inference as a page: what varies from case to case, then each case with its charts and tables."""

import math
from collections.abc import Callable, Iterator

from srgan_fast.bench.html import charts
from srgan_fast.bench.html.facts import (
    day,
    environment_facts,
    figure,
    fixed,
    mark_of,
    plural,
    runtime_tone,
)
from srgan_fast.bench.html.page import (
    Chart,
    Column,
    Facts,
    Notice,
    Page,
    Section,
    Table,
    TableRow,
    Tile,
    render,
)
from srgan_fast.bench.report import CaseResult, InferenceReport, Latency, Row

_TEXT = Column("", numeric=False)
# Of dashes and shapes, by precision.
_STROKES = {"fp32": 0, "bf16": 1, "fp16": 1, "int8": 2}


def inference_page(report: InferenceReport) -> str:
    """The report as one HTML file."""
    environment, model = report.environment, report.model
    rounds = sorted({case.rounds for case in report.cases})
    said = plural(rounds[0], "round") if len(rounds) == 1 else f"{rounds[0]} to {rounds[-1]} rounds"
    return render(
        Page(
            title=f"{model.name} x{model.scale} on {environment.cpu}",
            eyebrow="srgan_fast inference benchmark",
            subtitle=f"{day(report.created)}, {plural(len(report.cases), 'case')}, {said} of each",
            tiles=list(_tiles(report)),
            notices=[Notice("These figures may not be worth quoting", report.warnings)],
            sections=[
                *_scaling(report),
                *(_case(case, index, report) for index, case in enumerate(report.cases)),
                _left_out(report),
                _cold_start(report),
                Section("Machine", [environment_facts(environment)], "As it was when the run began."),
                _method(report),
            ],
            footer=f"srgan_fast {environment.versions.get('srgan_fast', '')}, from a report {report.schema_name}. "
            "The file stands alone: it loads nothing and runs no script.",
        )
    )


def case_name(case: CaseResult) -> str:
    """As in `128x128, batch 4, 2 threads`."""
    batch = f", batch {case.batch}" if case.batch != 1 else ""
    return f"{case.height}x{case.width}{batch}, {plural(case.threads, 'thread')}"


def _tiles(report: InferenceReport) -> Iterator[Tile]:
    rows = [row for case in report.cases for row in case.rows]
    case = max(report.cases, key=lambda case: case.batch * case.height * case.width, default=None)
    right = [row for row in case.rows if row.latency and row.status == "ok"] if case else []
    if case and right:
        best = min(right, key=_median)
        yield Tile(f"Fastest at {case_name(case)}", best.name, f"{figure(_median(best), 'ms')} median")
        yield Tile("Its throughput", f"{figure(best.output_mp_per_s)} MP/s", f"{figure(best.images_per_s)} images/s")
        for precision in ("fp32", "bf16", "fp16"):
            alike = [row for row in right if row.precision == precision]
            ours = min((row for row in alike if row.kind == "backend"), key=_median, default=None)
            theirs = min((row for row in alike if row.kind == "peer"), key=_median, default=None)
            if ours and theirs:
                ratio = _median(theirs) / _median(ours)
                note = f"{ours.name} over {theirs.name}, the fastest peer in {precision}"
                yield Tile(f"Speed in {precision}", f"{ratio:.2f}\u00d7", note)
                break
    counts = {status: sum(row.status == status for row in rows) for status in ("ok", "wrong", "failed")}
    bad = f"{counts['wrong']} wrong, {counts['failed']} failed, {len(report.left_out)} left out"
    yield Tile("Results checked", f"{counts['ok']} of {len(rows)} right", bad)


def _case(case: CaseResult, index: int, report: InferenceReport) -> Section:
    timed = [row for row in case.rows if row.latency]
    against = f" Ratios are over the median of {case.baseline}." if case.baseline else ""
    parts = [
        Chart(
            "Latency of every run",
            charts.strips(
                [charts.Series(r.name, _latency(r).rounds_ms, runtime_tone(r.runtime), _word(r)) for r in timed],
                f"Latency of every run at {case_name(case)}",
                "ms",
                f"runs{index}",
            ),
            "A dot is a run; the box holds the middle half of them, the thick line is the median. Left is faster.",
        ),
        _latency_table(case, report),
        Chart(
            "Speed against accuracy",
            charts.scatter(
                [
                    charts.Point(
                        r.name, r.psnr_db, r.output_mp_per_s, runtime_tone(r.runtime), _STROKES[r.precision], _word(r)
                    )
                    for r in timed
                    if r.psnr_db is not None and r.output_mp_per_s is not None
                ],
                f"Speed against accuracy at {case_name(case)}",
                f"dB PSNR against PyTorch {case.reference}",
                "MP/s",
                f"accuracy{index}",
                "better",
            ),
            "Output megapixels a second. Discs are fp32, squares bf16 or fp16, diamonds int8; crosses are wrong beyond "
            "their tolerance, and not ranked.",
        ),
        _accuracy_table(case),
        _streams_table(case),
        *_memory(case, index),
    ]
    return Section(case_name(case), parts, f"Input: {case.input}.{against}")


def _latency_table(case: CaseResult, report: InferenceReport) -> Table:
    slowest = max((_median(row) for row in case.rows if row.latency), default=1.0)
    asked = [percent for percent in report.method.percentiles if percent != 50]
    on_gpu = any(row.device_ms is not None or row.peak_device_mib is not None for row in case.rows)
    gpu = [Column("GPU ms", hint="between CUDA events"), Column("GPU MiB", hint="most device memory")] if on_gpu else []
    columns = [
        Column("Row", numeric=False),
        Column("Median ms"),
        Column("Min"),
        Column("Mean"),
        *(Column(f"p{percent:g}") for percent in asked),
        Column("Max"),
        Column("Images/s"),
        Column("MP/s", hint="output megapixels a second"),
        Column("Ratio", hint="median over the baseline's: above 1 is slower"),
        Column("CPUs", hint="CPU time over wall time"),
        *gpu,
        Column("Device", numeric=False),
    ]
    rows = []
    for row in case.rows:
        latency = row.latency
        times = [figure(None)] * (4 + len(asked))
        if latency:
            percentiles = [latency.percentiles_ms[f"{percent:g}"] for percent in asked]
            values = [latency.median_ms, latency.min_ms, latency.mean_ms, *percentiles, latency.max_ms]
            times = [figure(value) for value in values]
        cells = [row.name, *times, figure(row.images_per_s), figure(row.output_mp_per_s)]
        cells += [fixed(row.ratio, ".2f"), fixed(row.cpus_used, ".2f")]
        cells += [figure(row.device_ms), fixed(row.peak_device_mib, ".0f")] if on_gpu else []
        share = _median(row) / slowest if latency else None
        mark = mark_of(row.status, row.rank)
        rows.append(
            TableRow([*cells, row.device or figure(None)], mark, row.reason or "", share, runtime_tone(row.runtime))
        )
    return Table("", columns, rows)


def _accuracy_table(case: CaseResult) -> Table:
    columns = [
        Column("Row", numeric=False),
        Column("PSNR dB", hint="over the reference's range"),
        Column("Largest error", hint="over the reference's range"),
        Column("Allowed", numeric=False),
        Column("GFLOP/s", hint="direct convolutions over the median: may exceed a CPU's peak for Winograd"),
        Column("Load s", hint="from prepared files to ready"),
    ]
    rows = [
        TableRow(
            [
                row.name,
                fixed(row.psnr_db, ".1f") if row.psnr_db is not None or row.max_error != 0 else "equal",
                fixed(row.max_error, ".1e"),
                row.tolerance,
                fixed(row.gflops, ".0f"),
                fixed(row.load_s, ".2f"),
            ],
            mark_of(row.status, row.rank),
        )
        for row in case.rows
    ]
    return Table("", columns, rows)


def _streams_table(case: CaseResult) -> Table:
    found = [(row, row.streams) for row in case.rows if row.streams]
    counts = {streams.count for _, streams in found}
    columns = [
        Column("Row", numeric=False),
        Column("Images/s"),
        Column("One caller"),
        Column("Gain"),
        Column("Median ms"),
    ]
    rows = []
    for row, streams in found:
        both = streams.images_per_s and streams.one_images_per_s
        gain = streams.images_per_s / streams.one_images_per_s if both else None  # type: ignore[operator]
        cells = [
            figure(streams.images_per_s),
            figure(streams.one_images_per_s),
            fixed(gain, ".2f"),
            figure(streams.median_ms),
        ]
        rows.append(TableRow([row.name, *cells], "wrong" if both and streams.reason else "", streams.reason or ""))
    return Table(f"{max(counts, default=0)} threads call one loaded runtime at the same time", columns, rows)


def _memory(case: CaseResult, index: int) -> Iterator[Chart | Table]:
    known = [row for row in case.rows if row.peak_mib is not None and row.base_mib is not None]
    yield Chart(
        "Memory of a process of its own",
        charts.stacks(
            [
                charts.Bar(
                    row.name,
                    {
                        "before loading": row.base_mib or 0,
                        "the runtime and a run": (row.peak_mib or 0) - (row.base_mib or 0),
                    },
                    _word(row),
                )
                for row in known
            ],
            f"Peak resident memory at {case_name(case)}",
            "MiB",
            f"memory{index}",
            tones=(7, 0),
        ),
        "Peak resident memory after one run, and what an interpreter with this package holds before it loads anything.",
    )
    columns = [
        Column("Row", numeric=False),
        Column("Alone ms"),
        Column("Beside others / alone"),
        Column("Peak MiB"),
        Column("Before loading"),
    ]
    rows = []
    for row in case.rows:
        if row.alone_ms is None or row.latency is None:
            continue
        beside = row.latency.median_ms / row.alone_ms if row.alone_ms else None
        cells = [figure(row.alone_ms), fixed(beside, ".2f"), fixed(row.peak_mib, ".0f"), fixed(row.base_mib, ".0f")]
        rows.append(TableRow([row.name, *cells], mark_of(row.status, row.rank)))
    yield Table("", columns, rows)


def _scaling(report: InferenceReport) -> Iterator[Section]:
    """How medians change along each axis that has several values, all else equal."""
    axes: list[tuple[str, Callable[[CaseResult], float], Callable[[CaseResult], str], str]] = [
        ("size", lambda c: c.height * c.width, lambda c: f"{c.height}x{c.width}", "size of the input, log scale"),
        ("batch", lambda c: c.batch, lambda c: str(c.batch), "pictures of a run, log scale"),
        ("threads", lambda c: c.threads, lambda c: str(c.threads), "threads, log scale"),
    ]
    for name, value, label, axis in axes:
        groups: dict[tuple[object, ...], list[CaseResult]] = {}
        for case in report.cases:
            others = {"size": (case.height, case.width), "batch": case.batch, "threads": case.threads}
            groups.setdefault(tuple(v for k, v in others.items() if k != name), []).append(case)
        parts: list[Chart | Table] = []
        for index, cases in enumerate(groups.values()):
            ordered = sorted(cases, key=value)
            if len({value(case) for case in ordered}) > 1:
                parts += _along(ordered, name, value, label, axis, f"{name}{index}")
        if parts:
            yield Section(f"Latency against {name}", parts)


def _along(
    cases: list[CaseResult],
    name: str,
    value: Callable[[CaseResult], float],
    label: Callable[[CaseResult], str],
    axis: str,
    key: str,
) -> list[Chart | Table]:
    names = list(dict.fromkeys(row.name for case in cases for row in case.rows if row.latency))
    found = {(id(case), row.name): row for case in cases for row in case.rows if row.latency}
    rows = [next(row for case in cases if (row := found.get((id(case), each)))) for each in names]
    marks = {
        each: next((word for case in cases if (row := found.get((id(case), each))) and (word := _word(row))), "")
        for each in names
    }
    lines = [
        charts.Line(
            row.name,
            [(value(case), _median(at)) for case in cases if (at := found.get((id(case), row.name)))],
            runtime_tone(row.runtime),
            _STROKES[row.precision],
            marks[row.name],
        )
        for row in rows
    ]
    case = cases[0]
    rest = {
        "size": f"{plural(case.threads, 'thread')}, batch {case.batch}",
        "batch": f"{case.height}x{case.width}, {plural(case.threads, 'thread')}",
        "threads": f"{case.height}x{case.width}, batch {case.batch}",
    }[name]
    drawing = charts.lines(
        lines, f"Median latency against {name}, {rest}", axis, "ms", key, {value(case): label(case) for case in cases}
    )
    columns = [Column("Median ms", numeric=False), *(Column(label(case)) for case in cases)]
    table = []
    for each in names:
        measured = [found.get((id(case), each)) for case in cases]
        cells = [figure(None if at is None else _median(at)) for at in measured]
        table.append(TableRow([each, *cells], "wrong" if marks[each] else ""))
    note = "Medians, both scales logarithmic. Solid lines are fp32, dashed ones bf16 or fp16, dotted ones int8."
    return [Chart(rest, drawing, note), Table("", columns, table)]


def _left_out(report: InferenceReport) -> Section:
    columns = [Column("Row", numeric=False), *(Column(name, numeric=False) for name in ("Case", "Why", "What to do"))]
    rows = [TableRow([left.name, left.case or "all", left.reason, left.remedy or ""]) for left in report.left_out]
    return Section("Rows left out", [Table("", columns, rows)])


def _cold_start(report: InferenceReport) -> Section:
    cold = report.cold_start
    columns = [Column("Process", numeric=False), Column("Median ms"), Column("Min")]
    if cold is None:
        return Section("Cold start", [])
    parts = [
        Table(
            title,
            columns,
            [
                TableRow([t.name, figure(t.median_ms), figure(t.min_ms)], "failed" if t.reason else "", t.reason or "")
                for t in times
            ],
        )
        for title, times in (("Upscaling a small picture", cold.upscale), ("Importing a runtime", cold.imports))
    ]
    return Section("Cold start", parts, f"Whole processes. Python alone takes {figure(cold.python_ms, 'ms')}.")


def _method(report: InferenceReport) -> Section:
    method, model = report.method, report.model
    others = [case.other_cpus for case in report.cases if case.other_cpus is not None]
    pairs = [
        ("Rounds", f"{method.rounds} at least, for {method.duration_s:g} s at least; every row runs once a round"),
        ("Order", method.order),
        ("Warm-up", f"{method.warm_up_runs} runs and {method.warm_up_ms:g} ms at least, not timed"),
        ("Rest", f"{method.pause_ms:g} ms before each run, until other runtimes' threads sleep"),
        (
            "Checks",
            "the warm-up's result and the last round's against the network in float64 (float32 for large pictures)",
        ),
        ("Tolerances", "; ".join(dict.fromkeys(f"{r.precision}: {r.tolerance}" for c in report.cases for r in c.rows))),
        ("int8", f"calibrated on {method.calibration}" if method.calibration else "not calibrated"),
        ("Other processes", f"used {max(others):.2f} CPUs during the rounds at most" if others else "not known"),
        ("Model", f"{model.name}, {model.architecture}, SHA-256 {model.sha256}"),
        (
            "Work",
            f"{model.macs_per_lr_pixel / 1e6:.2f} million multiply-adds for an input pixel, as direct convolutions",
        ),
    ]
    return Section(
        "Method",
        [Facts(pairs)],
        "Percentiles lie between the two nearest runs: p99 of fewer than 100 runs is the longest, or nearly so.",
    )


def _latency(row: Row) -> Latency:
    assert row.latency is not None
    return row.latency


def _median(row: Row) -> float:
    return math.inf if row.latency is None else row.latency.median_ms


def _word(row: Row) -> str:
    return "" if row.status == "ok" else row.status
