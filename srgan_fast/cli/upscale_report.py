"""Results of a run, as text or as one JSON document."""

import json
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_fast.cli.console import say
from srgan_fast.files import shown

if TYPE_CHECKING:
    from srgan_fast.upscale import Job, JobResult, Plan


def name_of(job: "Job") -> str:
    """Name of an image without its folder, for messages."""
    return "standard input" if job.source is None else shown(Path(job.source.name))


def as_json(
    results: "list[JobResult]",
    plan: "Plan | None" = None,
    seconds: float = 0.0,
    interrupted: bool = False,
    error: str = "",
) -> str:
    """The document printed by `--json`."""
    count = Counter(result.status for result in results)
    summary = {
        "done": count["done"],
        "skipped": count["skipped"],
        "failed": count["failed"],
        "seconds": round(seconds, 3),
        "interrupted": interrupted,
        "error": error or None,
        "left_out": dict(sorted(plan.left_out.items())) if plan else {},
        "earlier_results": plan.earlier if plan else 0,
        "images": [_entry(result) for result in results],
    }
    return json.dumps(summary, indent=2)


def print_json(document: str) -> None:
    """Prints a document on standard output, without formatting."""
    print(document)  # noqa: T201


def say_result(result: "JobResult") -> None:
    """Prints a line if an image failed, or if contents were dropped or converted."""
    if result.status == "failed":
        say(result.message, label="failed")
    elif result.notes:
        say(f"{result.job.name}: dropped or converted: {'; '.join(result.notes)}", label="note")


def say_summary(results: "list[JobResult]", plan: "Plan", seconds: float, quiet: bool) -> None:
    """Prints a summary of one line; nothing if `quiet` and no image failed."""
    from srgan_fast.data.images import counted  # noqa: PLC0415 (start-up time)

    done = [r for r in results if r.status == "done"]
    skipped = sum(r.status == "skipped" for r in results)
    failed = [r for r in results if r.status == "failed"]
    if quiet and not failed:
        return
    megapixels = sum(r.hr_size[0] * r.hr_size[1] * r.frames for r in done if r.hr_size) / 1e6
    parts = [f"{len(done)} upscaled ({megapixels:.1f} MP in {seconds:.1f} s)"]
    parts += [f"{skipped} skipped"] if skipped else []
    parts += [f"{plan.earlier} ignored as results of earlier runs"] if plan.earlier else []
    parts += [f"left out: {counted(plan.left_out)}"] if plan.left_out else []
    if failed:
        names = ", ".join(name_of(r.job) for r in failed[:20])
        parts.append(f"{len(failed)} failed: {names}" + (f" and {len(failed) - 20} more" if len(failed) > 20 else ""))
    say("; ".join(parts))


def _entry(result: "JobResult") -> dict[str, object]:
    def text(path: PathLike[str] | None) -> str:
        return "-" if path is None else shown(path)

    return {
        "input": text(result.job.source),
        "output": text(result.job.target),
        "status": result.status,
        "message": result.message,
        "input_size": result.lr_size,
        "output_size": result.hr_size,
        "frames": result.frames if result.status == "done" else None,
        "notes": list(result.notes),
        "seconds": round(result.seconds, 4),
    }
