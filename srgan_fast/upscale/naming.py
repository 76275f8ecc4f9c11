"""Names of results: templates, conflicts, and results of earlier runs."""

import os
import re
import string
from collections import defaultdict
from pathlib import Path

from srgan_fast.data.images import FORMAT_OF_SUFFIX, Format
from srgan_fast.errors import UsageError
from srgan_fast.files import shown
from srgan_fast.upscale.job import Job, JobResult, OutputOptions
from srgan_fast.upscale.places import Place

# Suffix of results by default: the factor, or the size in pixels.
_DEFAULT_SUFFIX = re.compile(r"_(x\d+(\.\d+)?|\d+x\d+)$")
_FIELDS = ("stem", "parent", "type", "scale", "ext")


def check_template(name: str) -> None:
    """Checks a template of file names.

    Raises:
        UsageError: an unknown field, a path, or a missing {stem} or {ext}.
    """
    try:
        used = {field for _, field, _, _ in string.Formatter().parse(name) if field is not None}
        name.format(**dict.fromkeys(_FIELDS, "x"))
    except (ValueError, KeyError, IndexError) as error:
        raise UsageError(
            f"--name is {name!r}; it takes {{stem}}, {{parent}}, {{type}}, {{scale}} and {{ext}} ({error})"
        ) from None
    if "/" in name or "\\" in name:
        raise UsageError(f"--name is {name!r}; it is a file name and cannot hold a path")
    if "ext" not in used:
        raise UsageError(f"--name is {name!r}; it must end with .{{ext}}")
    if "stem" not in used:
        raise UsageError(f"--name is {name!r}; without {{stem}} all results would have one name")


def result_name(place: Path, source: Place | None, fmt: Format, options: OutputOptions) -> str:
    """File name of a result.

    Args:
        place: the source's path relative to the input folder.
        source: the source; None for standard input.
        fmt: file format of the result.
        options: options of the results.
    """
    # The suffix keeps its spelling (such as .jpeg) if the format does not change.
    suffix = place.suffix if FORMAT_OF_SUFFIX.get(place.suffix.lower()) == fmt else f".{fmt}"
    if options.name is None:
        return f"{place.stem}{options.suffix}{suffix}"
    parent = "" if source is None else Path(key_of(source)).parent.name
    scale = options.suffix.removeprefix("_x")
    kind = place.suffix[1:] or "none"
    return options.name.format(stem=place.stem, parent=parent, type=kind, scale=scale, ext=suffix[1:])


def key_of(place: Place) -> str:
    """Identifier that is equal for all names of one file; loops of symbolic links do not raise an error."""
    return os.path.realpath(place) if isinstance(place, Path) else os.fspath(place)


def earlier_results(jobs: list[Job], found: set[str]) -> set[str]:
    """The files found in folders that are results of other files, in any format.

    Files with the default suffix of another factor or size count, too, if the original is among the jobs.

    Args:
        jobs: planned jobs of all files.
        found: keys (see `key_of`) of the files that the user did not name.
    """
    results: set[tuple[str, str]] = set()  # folder and stem
    originals: set[tuple[str, str]] = set()  # the same without a suffix
    for job in jobs:
        if job.source is None or job.target is None:
            continue
        target = Path(key_of(job.target))
        originals.add((str(target.parent), job.source.stem))
        if target.stem != job.source.stem:
            results.add((str(target.parent), target.stem))

    def is_result(path: Path) -> bool:
        suffix = _DEFAULT_SUFFIX.search(path.stem)
        return (str(path.parent), path.stem) in results or (
            suffix is not None and (str(path.parent), path.stem[: suffix.start()]) in originals
        )

    return {key for key in found if is_result(Path(key))}


def _advice(jobs: list[Job]) -> str:
    """A template that gives the results different names."""
    parents = {job.source and Path(key_of(job.source)).parent.name for job in jobs}
    return f"--name '{'{parent}_{stem}' if len(parents) > 1 else '{stem}_{type}'}_x{{scale}}.{{ext}}'"


def without_clashes(jobs: list[Job]) -> tuple[list[Job], list[JobResult]]:
    """Splits jobs into valid ones, and failed results of those that would overwrite an input or another result."""
    by_target: dict[str, list[Job]] = defaultdict(list)
    sources = {key_of(job.source): job for job in jobs if job.source is not None}
    for job in jobs:
        if job.target is not None:
            by_target[key_of(job.target)].append(job)
    fine, refused = [], []
    for job in jobs:
        message = ""
        if job.target is not None:
            key = key_of(job.target)
            others = [other for other in by_target[key] if other is not job]
            if key in sources:
                own = job.source is not None and key == key_of(job.source)
                result = "its own result" if own else f"the result of {job.name}"
                message = f"{shown(job.target)} would be overwritten by {result}; give another -o or --suffix"
            elif others:
                names = " and ".join(other.name for other in by_target[key][:5])
                more = f" and {len(others) - 4} more" if len(others) > 4 else ""
                message = f"{names}{more} would all become {shown(job.target)}; try {_advice(by_target[key])}"
                message = message.replace("would all", "would both") if len(others) == 1 else message
        if message:
            refused.append(JobResult(job, "failed", message))
        else:
            fine.append(job)
    return fine, refused
