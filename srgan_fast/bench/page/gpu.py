"""Page of a GPU report, made from plain data: the machine that writes it may have little more than torch."""

from typing import Any

from srgan_fast.pages import charts
from srgan_fast.pages.document import NAME, Chart, Column, Facts, Page, Section, Table

Report = dict[str, Any]


def gpu_page(report: Report) -> Page:
    """The page of a report by `srgan_fast.bench.gpu.gpu_report`."""
    environment = report.get("environment", {})
    return Page(
        title=f"srgan_fast on {environment.get('device', 'a GPU')}",
        eyebrow="srgan_fast GPU report",
        subtitle=", ".join(f"{name} {environment.get(name, '?')}" for name in ("torch", "cuda", "driver")),
        warnings=[str(problem) for problem in report.get("problems", [])],
        sections=[
            *(_inference(case) for case in report.get("inference", [])),
            *(_training(name, rows) for name, rows in report.items() if name.startswith(("steps, ", "generator, "))),
            *(_layers(name, rows) for name, rows in report.items() if name.startswith("layers, ")),
            _checks(report.get("checks", [])),
            _sanitizer(report.get("sanitizer") or []),
            Section("Machine", [Facts([(str(name), str(value)) for name, value in environment.items()])]),
        ],
    )


def _best(row: Report) -> float | None:
    """GPU seconds, from a CUDA graph if there is one."""
    return min((row[kind]["median"] for kind in ("device", "graph") if row.get(kind)), default=None)


def _inference(case: Report) -> Section:
    rows = [row | {"best": _best(row)} for row in case["rows"]]
    for row in rows:
        row["reason"] = row["reason"] or (row["graph_reason"] and f"no graph: {row['graph_reason']}")
    rows.sort(key=lambda row: (row["status"] != "ok", row["best"] or float("inf")))
    columns = [
        NAME,
        Column("GPU ms", "device.median", factor=1e3, hint="between two events, calls queued one after the other"),
        Column("Graph ms", "graph.median", factor=1e3, hint="the same work replayed from a CUDA graph"),
        Column("With copies ms", "with_copies.median", factor=1e3, hint="from host memory to host memory"),
        Column("Images/s", "images_per_second"),
        Column("Peak MB", "peak_mb"),
        Column("Max error", "max_error", ".1e"),
        Column("PSNR dB", "psnr_db", ".1f"),
        Column("Load s", "load_s"),
    ]
    series = [
        charts.Series(
            row["name"],
            [(row["psnr_db"], 1 / row["best"])],
            row["name"],
            row["precision"],
            "" if row["status"] == "ok" else row["status"],
        )
        for row in rows
        if row["best"] and row["psnr_db"]
    ]
    chart = Chart("Speed against accuracy", charts.scatter(series, "PSNR against float64, dB", "runs a second"))
    return Section(f"Inference, {case['shape']}", [Table(columns, rows, bar="best"), chart])


def _training(name: str, rows: Report) -> Section:
    """Whole steps in host time, or the generator's forward and backward pass."""
    named = [{"name": row, **found} for row, found in rows.items()]
    if name.startswith("generator"):
        columns = [NAME, *(Column(f"{kind} ms", f"{kind}.median", factor=1e3) for kind in ("eager", "graph"))]
        return Section(f"G{name[1:]}", [Table(columns, named)], "Forward and backward pass in training.")
    columns = [
        NAME,
        *(Column(f"{kind} ms", f"step.{kind}", factor=1e3) for kind in ("median", "least", "most")),
        Column("Peak MB", "peak_mb"),
        Column("First step s", "load_s", hint="from nothing to the end of the first step, compilation included"),
    ]
    lead = "Whole adversarial steps by the host's clock, each ending with its losses on the host."
    return Section(f"Training s{name[1:]}", [Table(columns, named, bar="step.median")], lead)


def _layers(name: str, rows: list[Report]) -> Section:
    columns = [
        Column("Layer", "layer", text=True),
        Column("Direction", "direction", text=True),
        Column("Fused \u00b5s", "fused.median", factor=1e6),
        Column("PyTorch \u00b5s", "stock.median", factor=1e6),
        Column("Ratio", lambda row: float(row["stock"]["median"] / row["fused"]["median"]), ".2f"),
        Column("TFLOP/s", lambda row: float(row["gflop"] / row["fused"]["median"]), ".1f", 1e-3),
    ]
    return Section(f"L{name[1:]}", [Table(columns, rows)], "Ratio: PyTorch's time over ours, above 1 is faster.")


def _checks(rows: list[Report]) -> Section:
    columns = [
        Column("Case", "what", text=True),
        Column("Type", "dtype", text=True),
        Column("Worst error", "value", ".1e"),
        Column("Over bound", lambda row: float(row["value"] / row["tolerance"]), ".2f"),
    ]
    marked = [row | {"status": "ok" if row["right"] else "wrong"} for row in rows]
    lead = "Against PyTorch in float64; above 1 is wrong."
    return Section("Checks of the fused kernels", [Table(columns, marked)], lead)


def _sanitizer(rows: list[Report]) -> Section:
    columns = [Column("Tool", "tool", text=True), Column("Result", "status", text=True)]
    columns += [Column("Errors", "errors"), Column("Seconds", "seconds")]
    told = [row | {"reason": "; ".join([*filter(None, [row["reason"]]), *row["findings"]])} for row in rows]
    lead = "compute-sanitizer over all cases of these checks, forward and backward, in both types."
    return Section("Sanitizer", [Table(columns, told)], lead)
