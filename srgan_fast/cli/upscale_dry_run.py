"""Report of `--dry-run`: input and output files with their sizes, and estimates of time and file size."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srgan_fast.cli.console import say
from srgan_fast.cli.upscale_report import print_json
from srgan_fast.errors import ImageError
from srgan_fast.files import shown

if TYPE_CHECKING:
    from srgan_fast.upscale import Job, Manifest, OutputOptions, Plan, Upscaler

# Bytes per pixel (colour, 8 bits) of results of srresnet-x4 on a mosaic of test photographs at quality 95.
_BYTES_PER_PIXEL = {"png": 1.42, "apng": 1.42, "jpg": 0.43, "webp": 0.24, "tif": 1.59, "gif": 0.54, "avif": 0.49}
_SAMPLE = 96  # side in pixels of the image that is timed


def report_dry_run(
    plan: "Plan", upscaler: "Upscaler", options: "OutputOptions", manifest: "Manifest | None", as_json: bool
) -> None:
    """Prints the report, as text or JSON. Bytes are estimated from the format, times from that of a small image.

    Args:
        plan: planned jobs.
        upscaler: upscaler with the model.
        options: options of the results.
        manifest: manifest of an earlier run that would be continued.
        as_json: whether to print JSON.
    """
    from srgan_fast.data.images import counted  # noqa: PLC0415 (start-up time)

    rate = _seconds_per_pixel(upscaler)
    entries = [_entry(job, upscaler, options, manifest, rate) for job in plan.jobs]
    refused: list[dict[str, Any]] = [
        {"input": r.job.name, "output": None, "problem": r.message, "skipped": ""} for r in plan.refused
    ]  # fmt: skip
    fine = [entry for entry in entries if not entry["problem"] and not entry["skipped"]]
    seconds, size = sum(entry["seconds"] for entry in fine), sum(entry["bytes"] for entry in fine)
    if as_json:
        facts = {"dry_run": True, "seconds": round(seconds, 1), "bytes": size, "images": refused + entries}
        print_json(json.dumps(facts, indent=2))
        return
    for entry in refused + entries:
        if entry["problem"]:
            say(entry["problem"], label="would fail")
        elif entry["skipped"]:
            say(entry["skipped"], label="would skip")
        elif entry["input_size"] is None:
            say(f"{entry['input']} -> {entry['output']}, of a size that is known when it is read")
        else:
            (a, b), (c, d) = entry["input_size"], entry["output_size"]
            what = f"{entry['input']} ({a}x{b}) -> {entry['output']} ({c}x{d})"
            say(f"{what}, about {entry['bytes'] / 1e6:.1f} MB, {entry['seconds']:.1f} s")
    skipped = sum(bool(entry["skipped"]) for entry in entries)
    failing = len(refused) + len(entries) - len(fine) - skipped
    say(
        f"{len(fine)} to upscale, about {size / 1e6:.1f} MB in {seconds:.0f} s"
        + (f"; {skipped} would be skipped" if skipped else "")
        + (f"; {plan.earlier} ignored as results of earlier runs" if plan.earlier else "")
        + (f"; left out: {counted(plan.left_out)}" if plan.left_out else "")
        + (f"; {failing} would fail" if failing else "")
    )


def _seconds_per_pixel(upscaler: "Upscaler") -> float:
    sample = np.zeros((_SAMPLE, _SAMPLE, 3), np.uint8)
    upscaler(sample)
    began = time.perf_counter()
    upscaler(sample)
    return (time.perf_counter() - began) / _SAMPLE**2


def _entry(
    job: "Job", upscaler: "Upscaler", options: "OutputOptions", manifest: "Manifest | None", rate: float
) -> dict[str, Any]:
    from srgan_fast.data.images import frames_held, image_header  # noqa: PLC0415
    from srgan_fast.upscale.by_rows import rows_of  # noqa: PLC0415
    from srgan_fast.upscale.limits import check_limits, check_target, result_size  # noqa: PLC0415
    from srgan_fast.upscale.one import already_there, contents  # noqa: PLC0415

    target = "-" if job.target is None else shown(job.target)
    entry: dict[str, Any] = {"input": job.name, "output": target, "problem": "", "skipped": ""}
    if job.source is None:
        return entry | {"input_size": None, "output_size": None, "frames": None, "seconds": 0.0, "bytes": 0}
    try:
        if job.target is not None:
            state = None if manifest is None else manifest.would_claim(job.source, job.target)
            if state == "done":
                return entry | {"skipped": f"{target} is done according to the manifest"}
            if state == "held":
                return entry | {"skipped": f"{target} is being made by another process"}
            there = already_there(replace(job, redo=state == "again"), job.target, options)
            if there is not None:
                return entry | {"problem" if there.status == "failed" else "skipped": there.message}
            if isinstance(job.target, Path):
                check_target(job.target)
        source = contents(job)
        header = image_header(source)
        check_limits(job, header, upscaler.scale, options, rows_of(job, source, header, upscaler, options))
    except ImageError as error:
        return entry | {"problem": str(error)}
    frames = frames_held(header.kind, header.frames, job.fmt)
    width, height = result_size(header, upscaler.scale, options)
    return entry | {
        "input_size": (header.width, header.height),
        "output_size": (width, height),
        "frames": frames,
        "seconds": rate * header.width * header.height * frames,
        "bytes": round(width * height * frames * _BYTES_PER_PIXEL[job.fmt]),
    }
