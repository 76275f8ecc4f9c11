"""Tests and measures this machine's GPU: inference, fused kernels, training; writes JSON and a page.

    python tools/gpu_report.py report.json [--html report.html] [--batch 16 --batch 64] [--hr 96] [--no-sanitizer]
    python tools/gpu_report.py report.json --only-html report.html     # the page of a report that is there

It needs torch, numpy and safetensors; for the kernels also srgan_fast built with nvcc (or on PYTHONPATH with its
libraries beside it). TensorRT or TensorRT-RTX is measured if it is installed, which needs onnx; compute-sanitizer of
the CUDA toolkit is run if it is found.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from srgan_fast.bench.gpu import gpu_report
from srgan_fast.bench.page.gpu import gpu_page
from srgan_fast.errors import SrganFastError
from srgan_fast.files import check_writable
from srgan_fast.pages.html import render

_TRAINING = ("steps, ", "generator, ")  # prefixes of parts that have rows by name


def main() -> int:
    """Makes the report; the exit status says whether all results are correct."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="the JSON file to write")
    parser.add_argument("--batch", type=int, action="append", help="batch size; repeatable (default: 16 and 64)")
    parser.add_argument("--hr", type=int, default=96, help="side of the high-resolution crops (default: 96)")
    parser.add_argument("--no-sanitizer", action="store_true", help="skip compute-sanitizer, which takes minutes")
    parser.add_argument("--html", type=Path, help="HTML page to write")
    parser.add_argument("--only-html", type=Path, metavar="HTML", help="only write the page of an existing report")
    options = parser.parse_args()
    if options.only_html is not None:
        return _page_of(options.report, options.only_html)
    try:
        for path in filter(None, (options.report, options.html)):
            check_writable(path)
        report = gpu_report(
            tuple(options.batch or (16, 64)),
            options.hr,
            lambda what: print(what, file=sys.stderr, flush=True),
            not options.no_sanitizer,
        )
    except SrganFastError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.html is not None:
        options.html.write_text(render(gpu_page(report)), encoding="utf-8")
    for line in summary(report):
        print(line)
    return 0 if all_right(report) else 1


def all_right(report: dict[str, Any]) -> bool:
    """Whether every part succeeded, and nothing is wrong, failed or was reported by a sanitizer."""
    rows = [row for case in report.get("inference", []) for row in case["rows"]] + report.get("sanitizer", [])
    rows += [row for name, part in report.items() if name.startswith(_TRAINING) for row in part.values()]
    bad = any(row["status"] in ("wrong", "failed", "errors") for row in rows)
    return not bad and all(row["right"] for row in report.get("checks", [])) and not report["problems"]


def _page_of(report: Path, page: Path) -> int:
    try:
        page.write_text(render(gpu_page(json.loads(report.read_text(encoding="utf-8")))), encoding="utf-8")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"error: {report}: not a report ({error})", file=sys.stderr)
        return 2
    return 0


def summary(report: dict[str, Any]) -> list[str]:
    """Lines that summarise the report."""
    lines = [f"{key}: {value}" for key, value in report.get("environment", {}).items()]
    lines += [
        f"{'right' if row['right'] else 'WRONG'} {row['dtype']} {row['value']:.1e} {row['what']}"
        for row in report.get("checks", [])
    ]
    lines += [_sanitizer(row) for row in report.get("sanitizer", [])]
    for name, rows in report.items():
        if name == "inference":
            lines += [f"{case['shape']} {_inference(row)}" for case in rows for row in case["rows"]]
        elif name.startswith("layers"):
            lines += [f"{name.removeprefix('layers, '):<10} {_layer(row)}" for row in rows]
        elif name.startswith(_TRAINING):
            lines += [f"{name} {row}: {values['reason'] or values}" for row, values in rows.items()]
    return lines + [f"problem: {problem}" for problem in report["problems"]]


def _inference(row: dict[str, Any]) -> str:
    times = ", ".join(
        f"{kind.replace('_', ' ')} {row[kind]['median'] * 1e3:.3f} ms"
        for kind in ("device", "graph", "with_copies")
        if row[kind]
    )
    psnr = "" if row["psnr_db"] is None else f", {row['psnr_db']:.1f} dB"
    return f"{row['name']:<20} {row['status']} {times}{psnr}{' ' + row['reason'] if row['reason'] else ''}"


def _sanitizer(row: dict[str, Any]) -> str:
    seconds = "" if row["seconds"] is None else f" in {row['seconds']:.0f} s"
    told = [] if row["reason"] is None else [row["reason"]]
    errors = f"{row['errors']} errors" if row["errors"] else row["status"]
    return ": ".join([f"{row['tool']}: {errors}{seconds}", *told, *row["findings"][:1]])


def _layer(row: dict[str, Any]) -> str:
    fused, stock = row["fused"]["median"], row["stock"]["median"]
    rate = row["gflop"] / fused * 1e-3
    return (
        f"{row['layer']:<16} {row['direction']:<16} {fused * 1e6:8.1f} us {rate:6.1f} TFLOP/s; "
        f"stock {stock * 1e6:8.1f} us, {stock / fused:5.2f}x"
    )


if __name__ == "__main__":
    sys.exit(main())
