"""A report of training as a page: time of a step, what it consists of, memory, errors."""

from collections.abc import Iterator

from srgan_fast.bench.html import charts
from srgan_fast.bench.html.facts import day, environment_facts, figure, fixed, mark_of, plural
from srgan_fast.bench.html.page import Chart, Column, Facts, Notice, Page, Section, Table, TableRow, Tile, render
from srgan_fast.bench.training.report import TrainingReport, TrainingRowResult

# What belongs together looks alike: the plain loop, stock as well as can be, our step, our step with our kernels.
_TONES = {"stock": 1, "stock-lean": 3, "fused": 0}
_OTHER_TONE = 7


def training_page(report: TrainingReport) -> str:
    """The report as one HTML file."""
    work, environment = report.work, report.environment
    features = f", VGG19 {work.features}" if work.features else ""
    return render(
        Page(
            title=f"A {work.stage} step of {work.batch} crops of {work.hr}x{work.hr} on {environment.cpu}",
            eyebrow="srgan_fast training benchmark",
            subtitle=f"{day(report.created)}, {plural(environment.threads, 'thread')}{features}, "
            f"{plural(report.method.rounds, 'round')}",
            tiles=list(_tiles(report)),
            notices=[Notice("These figures may not be worth quoting", report.warnings)],
            sections=[
                _steps(report),
                _phases(report),
                _memory(report),
                _errors(report),
                _environment(report),
                _method(report),
            ],
            footer=f"srgan_fast {environment.versions.get('srgan_fast', '')}, from a report {report.schema_name}. "
            "The file stands alone: it loads nothing and runs no script.",
        )
    )


def _tiles(report: TrainingReport) -> Iterator[Tile]:
    right = [row for row in report.rows if row.status == "ok" and row.step_seconds]
    if right:
        best = right[0]
        yield Tile("Fastest right row", best.name, f"{figure(best.step_seconds, 's')} a step, median")
        yield Tile(
            "Its throughput", f"{figure(best.images_per_second)} images/s", f"{fixed(best.gflops, '.0f')} GFLOP/s"
        )
        if best.ratio and report.baseline and report.baseline != best.name:
            yield Tile("Speed", f"{1 / best.ratio:.2f}\u00d7", f"{best.name} over {report.baseline}")
    counts = {status: sum(row.status == status for row in report.rows) for status in ("ok", "wrong", "failed")}
    yield Tile(
        "Gradients checked",
        f"{counts['ok']} of {len(report.rows)} right",
        f"{counts['wrong']} wrong, {counts['failed']} failed",
    )


def _steps(report: TrainingReport) -> Section:
    drawing = charts.strips(
        [charts.Series(row.name, row.rounds_seconds, _tone(row), _word(row)) for row in report.rows],
        "Seconds of every step",
        "s",
        "steps",
    )
    slowest = max((row.step_seconds or 0.0 for row in report.rows), default=0.0) or 1.0
    names = ("Median s", "Min", "Max", "Images/s", "GFLOP/s", "Ratio", "CPUs")
    rows = [
        TableRow(
            [
                row.name,
                figure(row.step_seconds),
                figure(row.min_seconds),
                figure(row.max_seconds),
                figure(row.images_per_second),
                fixed(row.gflops, ".0f"),
                fixed(row.ratio, ".2f"),
                fixed(row.cpus_used, ".2f"),
            ],
            mark_of(row.status, row.rank),
            row.reason or "",
            None if row.step_seconds is None else row.step_seconds / slowest,
            _tone(row),
        )
        for row in report.rows
    ]
    against = f"Ratios are over {report.baseline}: above 1 is slower." if report.baseline else ""
    note = "A dot is a step; the box holds the middle half of them, the thick line is the median. Left is faster."
    table = Table("", _columns("Row", *names), rows)
    return Section("Time of a step", [Chart("Every step", drawing, note), table], against)


def _phases(report: TrainingReport) -> Section:
    rows = [row for row in report.rows if row.phases]
    drawing = charts.stacks(
        [charts.Bar(row.name, {n: p.seconds * 1e3 for n, p in row.phases.items()}, _word(row)) for row in rows],
        "Milliseconds of the parts of a step",
        "ms",
        "phases",
    )
    names = list(dict.fromkeys(name for row in rows for name in row.phases))
    tables = []
    for title, factor, of in (("Milliseconds", 1e3, "seconds"), ("GFLOP/s", 1.0, "gflops")):
        cells = [
            TableRow([name, *(_part(row, name, of, factor) for row in rows)])
            for name in names
            if any(_part(row, name, of, factor) != figure(None) for row in rows)
        ]
        tables.append(Table(title, _columns("Part", *(row.name for row in rows)), cells))
    steps = plural(report.method.profiled_steps, "more step")
    note = f"Medians of {steps} under the profiler, so that their sum is not quite a step."
    return Section("Parts of a step", [Chart("Where the time goes", drawing, note), *tables])


def _part(row: TrainingRowResult, name: str, of: str, factor: float) -> str:
    value = getattr(row.phases.get(name), of, None)
    return figure(None if value is None else value * factor)


def _memory(report: TrainingReport) -> Section:
    peaks = charts.stacks(
        [
            charts.Bar(
                row.name,
                {"torch before networks": row.base_rss_mb, "networks and steps": row.peak_rss_mb - row.base_rss_mb},
                _word(row),
            )
            for row in report.rows
            if row.peak_rss_mb is not None and row.base_rss_mb is not None
        ],
        "Peak resident memory",
        "MB",
        "peaks",
        tones=(7, 0),
    )
    saved = charts.stacks(
        [charts.Bar(row.name, dict(row.saved_mb), _word(row)) for row in report.rows],
        "What one forward pass of each network keeps for its backward pass",
        "MB",
        "saved",
    )
    names = ("Peak MB", "Before networks", "Ratio", "Generator keeps MB", "Ratio")
    rows = [
        TableRow(
            [
                row.name,
                fixed(row.peak_rss_mb, ".0f"),
                fixed(row.base_rss_mb, ".0f"),
                fixed(row.peak_rss_ratio, ".2f"),
                fixed(row.saved_activation_mb, ".1f"),
                fixed(row.saved_activation_ratio, ".2f"),
            ],
            mark_of(row.status, row.rank),
        )
        for row in report.rows
    ]
    parts: list[Chart | Table] = [
        Chart("Peak of each row's process", peaks, "Resident, until the last round; 10^6 bytes."),
        Chart("Saved activations", saved, "What a forward pass keeps for its backward pass; 10^6 bytes."),
        Table("", _columns("Row", *names), rows),
    ]
    return Section("Memory", parts)


def _errors(report: TrainingReport) -> Section:
    networks = list(dict.fromkeys(name for row in report.rows for name in row.gradient_error))
    columns = _columns("Row", "Loss error", *(f"{name} gradient" for name in networks), "Allowed")
    columns[-1] = Column("Allowed", numeric=False)
    rows = [
        TableRow(
            [
                row.name,
                fixed(row.loss_error, ".1e"),
                *(fixed(row.gradient_error.get(name), ".1e") for name in networks),
                row.tolerance,
            ],
            mark_of(row.status, row.rank),
            row.reason or "",
        )
        for row in report.rows
    ]
    lead = "Relative differences of the first step from stock PyTorch in fp32; the worst tensor of each network."
    return Section("Errors", [Table("", columns, rows)], lead)


def _environment(report: TrainingReport) -> Section:
    environment = report.environment
    peak = environment.fp32_peak_gflops
    facts = environment_facts(
        environment,
        ("Threads", str(environment.threads)),
        ("Peak in fp32", "not known" if peak is None else f"{peak:.0f} GFLOP/s of multiply-adds alone, measured"),
    )
    return Section("Machine", [facts], "As it was when the run began.")


def _method(report: TrainingReport) -> Section:
    method, work = report.method, report.work
    pairs = [
        ("Work", f"{work.gflop:.0f} GFLOP a step of direct convolutions, where nothing is computed twice"),
        ("Networks", f"generator {work.generator}" + (f", losses {work.losses}" if work.losses else "")),
        ("Learning rate", f"{work.learning_rate:g}"),
        ("Rounds", f"{method.rounds}; every row does one step a round, in a process of its own"),
        ("Order", method.order),
        ("Warm-up", f"{plural(method.warm_up_steps, 'step')}, not timed"),
        ("Rest", f"{method.pause_ms:g} ms before each step"),
        (
            "Other processes",
            "not known" if report.other_cpus is None else f"used {report.other_cpus:.2f} CPUs during the rounds",
        ),
    ]
    return Section("Method", [Facts(pairs)])


def _columns(first: str, *names: str) -> list[Column]:
    return [Column(first, numeric=False), *(Column(name) for name in names)]


def _tone(row: TrainingRowResult) -> int:
    return _TONES.get(row.name.removesuffix("-bf16"), _OTHER_TONE)


def _word(row: TrainingRowResult) -> str:
    return "" if row.status == "ok" else row.status
