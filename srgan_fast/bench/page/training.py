"""Page of a training report: time of a step, its phases, memory, errors."""

from functools import partial

from srgan_fast.bench.report import TrainingReport, TrainingRowResult
from srgan_fast.pages import charts
from srgan_fast.pages.document import NAME, Chart, Column, Page, Section, Table, day, facts, plural, read

# Related rows share a style, as runtimes do on the inference page: the common loop tuned, our step on stock operators,
# our step with our kernels.
_LIKE = {"stock": "torch", "stock-lean": "onnxruntime", "fused": "native"}
_STEPS = "A dot is a step; the box holds the middle half of them, the thick line is the median."
_ERRORS = "Relative differences of the first step from stock PyTorch in fp32; the worst tensor of each network."


def training_page(report: TrainingReport) -> Page:
    """The page of a report."""
    work, environment = report.work, report.environment
    return Page(
        title=f"{work}, {environment.threads} threads, {environment.cpu}",
        eyebrow="srgan_fast training benchmark",
        subtitle=f"{day(report.created)}, {plural(report.method.rounds, 'round')}",
        warnings=report.warnings,
        sections=[
            *(make(report) for make in (_steps, _phases, _memory, _errors)),
            facts("Machine", environment),
            facts("Method", report.method, work),
        ],
    )


def _steps(report: TrainingReport) -> Section:
    def series(row: TrainingRowResult) -> charts.Series:
        like = _LIKE.get(row.name.removesuffix("-bf16"), "")
        return charts.Series(row.name, [(s, 0.0) for s in row.rounds_seconds], like, row.precision, row.mark)

    columns = [
        NAME,
        Column("s/step", "step_seconds"),
        Column("x", "ratio", ".2f", hint="over the baseline: above 1 is slower"),
        Column("min", "min_seconds"),
        Column("max", "max_seconds"),
        Column("img/s", "images_per_second"),
        Column("GFLOP/s", "gflops", ".0f"),
        Column("CPUs", "cpus_used", ".2f", page_only=True),
        Column("peak MB", "peak_rss_mb", ".0f"),
        Column("before networks", "base_rss_mb", ".0f", page_only=True),
        Column("x", "peak_rss_ratio", ".2f"),
        Column("G keeps MB", "saved_activation_mb", ".1f"),
        Column("x", "saved_activation_ratio", ".2f"),
        Column("loss err", "loss_error", ".0e"),
        Column("grad err", lambda row: max(row.gradient_error.values(), default=None), ".0e"),
    ]
    lead = f"x: over that of {report.baseline}; {report.method.rounds} rounds" if report.baseline else ""
    chart = Chart("Every step", charts.strips(map(series, report.rows), "s"), _STEPS)
    return Section("Time of a step", [chart, Table(columns, report.rows, bar="step_seconds")], lead)


def _phases(report: TrainingReport) -> Section:
    rows = [row for row in report.rows if row.phases]
    bars = [charts.StackedBar(row.name, {n: p.seconds * 1e3 for n, p in row.phases.items()}, row.mark) for row in rows]
    peak = report.environment.fp32_peak_gflops
    known = "" if peak is None else f"; multiply-adds alone in fp32: {peak:.0f}"
    names = list(dict.fromkeys(name for row in rows for name in row.phases))

    def figure(row: TrainingRowResult, field: str, part: dict[str, str]) -> float | None:
        value: float | None = read(row.phases.get(part["name"]), field)
        return value

    tables = []
    titles = {"seconds": "milliseconds of its parts, under the profiler", "gflops": f"GFLOP/s{known}"}
    for field, title in titles.items():
        columns = [Column("part", "name", text=True)]
        columns += [
            Column(row.name, partial(figure, row, field), ".0f", 1e3 if field == "seconds" else 1.0) for row in rows
        ]
        parts = [{"name": n} for n in names if any(figure(row, field, {"name": n}) is not None for row in rows)]
        tables.append(Table(columns, parts, title))
    steps = plural(report.method.profiled_steps, "more step")
    chart = Chart(
        "Where the time goes", charts.stacks(bars, "ms"), f"Medians of {steps}, profiled: not quite a step in sum."
    )
    return Section("Parts of a step", [chart, *tables])


def _memory(report: TrainingReport) -> Section:
    peaks = [
        charts.StackedBar(row.name, {"torch": row.base_rss_mb, "networks and steps": row.peak_rss_mb - row.base_rss_mb})
        for row in report.rows
        if row.peak_rss_mb is not None and row.base_rss_mb is not None
    ]
    saved = [charts.StackedBar(row.name, dict(row.saved_mb), row.mark) for row in report.rows]
    parts = [
        Chart("Peak of each row's process", charts.stacks(peaks, "MB"), "Resident, until the last round; 10^6 bytes."),
        Chart("Saved activations", charts.stacks(saved, "MB"), "What a forward pass saves for its backward pass."),
    ]
    return Section("Memory", parts)


def _errors(report: TrainingReport) -> Section:
    networks = list(dict.fromkeys(name for row in report.rows for name in row.gradient_error))
    columns = [
        NAME,
        Column("Loss error", "loss_error", ".1e"),
        *(Column(f"{name} gradient", f"gradient_error.{name}", ".1e") for name in networks),
        Column("Allowed", "tolerance", text=True),
    ]
    return Section("Errors", [Table(columns, report.rows, page_only=True)], _ERRORS)
