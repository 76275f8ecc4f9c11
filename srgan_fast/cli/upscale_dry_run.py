"""Report of `--dry-run`: input and output files with their sizes, and estimates of time and file size."""

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from srgan_fast.cli.console import say
from srgan_fast.cli.upscale_report import print_json
from srgan_fast.errors import ImageError
from srgan_fast.files import shown

if TYPE_CHECKING:
    from srgan_fast.upscale import Job, OutputOptions, Plan, Upscaler

# Bytes per pixel (colour, 8 bits) of results of srresnet-x4 on a mosaic of test photographs at quality 95.
_BYTES_PER_PIXEL = {"png": 1.42, "apng": 1.42, "jpg": 0.43, "webp": 0.24, "tif": 1.59, "gif": 0.54, "avif": 0.49}
_SAMPLE = 96  # side in pixels of the image that is timed


def report_dry_run(plan: "Plan", upscaler: "Upscaler", options: "OutputOptions", as_json: bool) -> None:
    """Prints the report, as text or JSON. Bytes are estimated from the format, times from that of a small image."""
    rate = _seconds_per_pixel(upscaler)
    entries = [_entry(job, upscaler, options, rate) for job in plan.jobs]
    refused: list[dict[str, Any]] = [
        {"input": r.job.name, "output": None, "problem": r.message} for r in plan.refused
    ]  # fmt: skip
    fine = [entry for entry in entries if not entry["problem"]]
    seconds, size = sum(entry["seconds"] for entry in fine), sum(entry["bytes"] for entry in fine)
    if as_json:
        facts = {"dry_run": True, "seconds": round(seconds, 1), "bytes": size, "images": refused + entries}
        print_json(json.dumps(facts, indent=2))
        return
    for entry in refused + entries:
        if entry["problem"]:
            say(entry["problem"], label="would fail")
        else:
            (a, b), (c, d) = entry["input_size"], entry["output_size"]
            what = f"{entry['input']} ({a}x{b}) -> {entry['output']} ({c}x{d})"
            say(f"{what}, about {entry['bytes'] / 1e6:.1f} MB, {entry['seconds']:.1f} s")
    failing = len(refused) + len(entries) - len(fine)
    say(
        f"{len(fine)} to upscale, about {size / 1e6:.1f} MB in {seconds:.0f} s"
        + (f"; {failing} would fail" if failing else "")
    )


def _seconds_per_pixel(upscaler: "Upscaler") -> float:
    sample = np.zeros((_SAMPLE, _SAMPLE, 3), np.uint8)
    upscaler(sample)
    began = time.perf_counter()
    upscaler(sample)
    return (time.perf_counter() - began) / _SAMPLE**2


def _entry(job: "Job", upscaler: "Upscaler", options: "OutputOptions", rate: float) -> dict[str, Any]:
    from srgan_fast.data.images import frames_held, image_header  # noqa: PLC0415
    from srgan_fast.upscale.by_rows import rows_of  # noqa: PLC0415
    from srgan_fast.upscale.limits import check_limits, check_target, result_size  # noqa: PLC0415
    from srgan_fast.upscale.one import contents  # noqa: PLC0415

    target = "-" if job.target is None else shown(job.target)
    entry: dict[str, Any] = {"input": job.name, "output": target, "problem": ""}
    if job.source is None:
        return entry | {"problem": "standard input: is only read when it is upscaled"}
    try:
        if job.target is not None:
            if isinstance(job.target, Path):
                check_target(job.target)
            if job.target.exists() and options.existing == "error":
                raise ImageError(f"{target}: exists already; use --overwrite or --skip-existing")
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
