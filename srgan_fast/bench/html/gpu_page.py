"""The GPU report as a page, from plain data: the machine that makes it may have nothing but torch."""

from collections.abc import Iterator
from typing import Any

from srgan_fast.bench.html import charts
from srgan_fast.bench.html.page import Chart, Column, Facts, Mark, Notice, Page, Section, Table, TableRow, Tile, render
from srgan_fast.bench.html.svg import number

Report = dict[str, Any]

_DASH = "\u2013"
_MARKS: dict[str, Mark] = {"wrong": "wrong", "failed": "failed", "left out": "failed", "errors": "wrong"}


def gpu_page(report: Report) -> str:
    """The report of `srgan_fast.bench.gpu.gpu_report` as one HTML file."""
    environment = report.get("environment", {})
    sections = [
        *(_inference(case, index) for index, case in enumerate(report.get("inference", []))),
        *(_steps(name, rows) for name, rows in report.items() if name.startswith("steps, ")),
        *(_generators(name, rows) for name, rows in report.items() if name.startswith("generator, ")),
        *(_layers(name, rows, index) for index, (name, rows) in enumerate(_layer_tables(report))),
        _checks(report.get("checks", [])),
        *([_sanitizer(report["sanitizer"])] if report.get("sanitizer") else []),
        Section("Machine", [Facts([(str(name), str(value)) for name, value in environment.items()])]),
    ]
    return render(
        Page(
            title=f"srgan_fast on {environment.get('device', 'a GPU')}",
            eyebrow="srgan_fast GPU report",
            subtitle=f"PyTorch {environment.get('torch', '?')}, CUDA {environment.get('cuda', '?')}, "
            f"driver {environment.get('driver', '?')}",
            tiles=list(_tiles(report)),
            notices=[Notice("What did not work", [str(problem) for problem in report.get("problems", [])])],
            sections=sections,
            footer="The file stands alone: it loads nothing and runs no script.",
        )
    )


def _tiles(report: Report) -> Iterator[Tile]:
    checks = report.get("checks", [])
    if checks:
        right = sum(row["right"] for row in checks)
        yield Tile("Fused kernels", f"{right} of {len(checks)} right", "against PyTorch in float64")
    for case in report.get("inference", [])[:2]:
        right = [row for row in case["rows"] if row["status"] == "ok" and _best(row) is not None]
        if right:
            best = min(right, key=lambda row: _best(row) or 0.0)
            yield Tile(f"Fastest at {case['shape']}", best["name"], f"{_ms(_best(best))} ms, the GPU's time")
    for name, rows in report.items():
        medians = {row: float(found["step"]["median"]) for row, found in _timed(name, rows).items()}
        if medians:
            best_name = min(medians, key=lambda row: medians[row])
            yield Tile(f"Fastest step, {name[7:]}", best_name, f"{_ms(medians[best_name])} ms")


def _timed(name: str, rows: Any) -> dict[str, Report]:
    """Rows of a part with steps that came to their end; none of any other part."""
    return {row: found for row, found in rows.items() if found["step"]} if name.startswith("steps, ") else {}


def _best(row: Report) -> float | None:
    """Seconds of the GPU alone, from a graph where there is one."""
    times = [row[kind]["median"] for kind in ("device", "graph") if row.get(kind)]
    return min(times, default=None)


def _inference(case: Report, index: int) -> Section:
    rows = case["rows"]
    columns = [
        Column("Row", numeric=False),
        Column("GPU ms", hint="between two events, calls queued one after the other"),
        Column("Graph ms", hint="the same work replayed from a CUDA graph"),
        Column("With copies ms", hint="from host memory to host memory"),
        Column("Images/s"),
        Column("Peak MB"),
        Column("Max error"),
        Column("PSNR dB"),
        Column("Load s"),
    ]
    slowest = max((_best(row) or 0.0 for row in rows), default=0.0) or 1.0
    ordered = sorted(rows, key=lambda row: (row["status"] != "ok", _best(row) or float("inf")))
    table = Table(
        "",
        columns,
        [
            TableRow(
                [
                    row["name"],
                    _median(row["device"]),
                    _median(row["graph"]),
                    _median(row["with_copies"]),
                    _figure(row["images_per_second"]),
                    _figure(row["peak_mb"]),
                    _DASH if row["max_error"] is None else f"{row['max_error']:.1e}",
                    _DASH if row["psnr_db"] is None else f"{row['psnr_db']:.1f}",
                    _figure(row["load_s"]),
                ],
                _MARKS.get(row["status"], "best" if place == 0 and _best(row) else ""),
                row["reason"] or (f"no graph: {row['graph_reason']}" if row["graph_reason"] else ""),
                None if _best(row) is None else (_best(row) or 0.0) / slowest,
                _tone(row["name"]),
            )
            for place, row in enumerate(ordered)
        ],
    )
    drawing = charts.scatter(
        [
            charts.Point(row["name"], 1 / (_best(row) or 1.0), row["psnr_db"], _tone(row["name"]), mark=_word(row))
            for row in rows
            if _best(row) is not None and row["psnr_db"] is not None
        ],
        f"Speed against accuracy at {case['shape']}",
        "runs a second",
        "PSNR against float64, dB",
        f"inference{index}",
        "better",
    )
    return Section(f"Inference, {case['shape']}", [table, Chart("Speed against accuracy", drawing)])


def _steps(name: str, rows: Report) -> Section:
    slowest = max((found["step"]["median"] for found in _timed(name, rows).values()), default=1.0)
    table = Table(
        "",
        [
            Column("Loop", numeric=False),
            Column("Median ms"),
            Column("Least"),
            Column("Most"),
            Column("Peak MB"),
            Column("First step s", hint="from nothing to the end of the first step, compilation included"),
        ],
        [
            TableRow(
                [
                    row,
                    *(_ms(found["step"] and found["step"][kind]) for kind in ("median", "least", "most")),
                    _figure(found["peak_mb"]),
                    _figure(found.get("load_s")),
                ],
                _mark(found),
                found.get("reason") or "",
                share=found["step"] and found["step"]["median"] / slowest,
                tone=0 if "fused" in row else 1,
            )
            for row, found in rows.items()
        ],
    )
    lead = "Whole adversarial steps by the host's clock, each ending with its losses on the host."
    return Section(f"Training s{name[1:]}", [table], lead)


def _generators(name: str, rows: Report) -> Section:
    table = Table(
        "",
        [Column("Kernels", numeric=False), Column("Eager ms"), Column("Graph ms")],
        [
            TableRow([row, _median(found["eager"]), _median(found["graph"])], _mark(found), found.get("reason") or "")
            for row, found in rows.items()
        ],
    )
    return Section(f"G{name[1:]}", [table], "The generator's forward and backward pass in training.")


def _layer_tables(report: Report) -> list[tuple[str, list[Report]]]:
    return [(name, rows) for name, rows in report.items() if name.startswith("layers, ")]


def _layers(name: str, rows: list[Report], index: int) -> Section:
    table = Table(
        "",
        [
            Column("Layer", numeric=False),
            Column("Direction", numeric=False),
            Column("Fused \u00b5s"),
            Column("PyTorch \u00b5s"),
            Column("Ratio", hint="PyTorch's time over ours: above 1 is faster"),
            Column("TFLOP/s"),
        ],
        [
            TableRow(
                [
                    row["layer"],
                    row["direction"],
                    number(row["fused"]["median"] * 1e6),
                    number(row["stock"]["median"] * 1e6),
                    f"{row['stock']['median'] / row['fused']['median']:.2f}",
                    f"{row['gflop'] / row['fused']['median'] * 1e-3:.1f}",
                ]
            )
            for row in rows
        ],
    )
    return Section(f"L{name[1:]}", [table])


def _checks(rows: list[Report]) -> Section:
    table = Table(
        "",
        [Column("Case", numeric=False), Column("Type", numeric=False), Column("Worst error"), Column("Over bound")],
        [
            TableRow(
                [row["what"], row["dtype"], f"{row['value']:.1e}", f"{row['value'] / row['tolerance']:.2f}"],
                "" if row["right"] else "wrong",
            )
            for row in rows
        ],
    )
    return Section("Checks of the fused kernels", [table], "Against PyTorch in float64; above 1 is wrong.")


def _sanitizer(rows: list[Report]) -> Section:
    table = Table(
        "",
        [Column("Tool", numeric=False), Column("Result", numeric=False), Column("Errors"), Column("Seconds")],
        [
            TableRow(
                [
                    row["tool"],
                    row["status"],
                    _DASH if row["errors"] is None else str(row["errors"]),
                    _figure(row["seconds"]),
                ],
                _MARKS.get(row["status"], ""),
                "; ".join([*([row["reason"]] if row["reason"] else []), *row["findings"]]),
            )
            for row in rows
        ],
    )
    lead = "compute-sanitizer over all cases of these checks, forward and backward, in both types."
    return Section("Sanitizer", [table], lead)


def _mark(found: Report) -> Mark:
    """Of a row of a part whose older reports have no failed ones."""
    return _MARKS.get(found.get("status", "ok"), "")


def _word(row: Report) -> str:
    return "" if row["status"] == "ok" else str(row["status"])


def _tone(name: str) -> int:
    return 6 if name.startswith("tensorrt") else 3 if name.startswith("onnxruntime") else 1


def _median(time: Report | None) -> str:
    return _ms(None if time is None else time["median"])


def _ms(seconds: float | None) -> str:
    return _figure(None if seconds is None else seconds * 1e3)


def _figure(value: float | None) -> str:
    return _DASH if value is None else number(value)
