"""Planning of jobs from inputs and output. An invalid input is rejected with a message, and the others continue."""

import glob
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from srgan_fast.data.images import (
    FORMAT_OF_SUFFIX,
    counted,
    find_images,
    known_suffixes,
    readable_suffixes,
    written_suffixes,
)
from srgan_fast.errors import ImageError, UsageError
from srgan_fast.files import shown
from srgan_fast.upscale.job import STANDARD_STREAM, Job, JobResult, OutputOptions, Plan
from srgan_fast.upscale.naming import check_template, earlier_results, key_of, result_name, without_clashes
from srgan_fast.upscale.places import SHARD_SUFFIX, Place, Remote, find, members, place_of

Refuse = Callable[[str, str], None]  # called with the source and the message


@dataclass(frozen=True, slots=True)
class _Found:
    """An input file.

    Attributes:
        source: the file; None for standard input.
        place: path relative to the output folder.
        named: whether the user named the file, rather than a folder or pattern.
    """

    source: Place | None
    place: Path
    named: bool


def plan_jobs(
    inputs: list[str], output: str, options: OutputOptions, recursive: bool = False, open_shards: bool = True
) -> Plan:
    """Plans the jobs of a run.

    Args:
        inputs: files, folders, glob patterns, or `-` for standard input; URLs are supported. Archives (`.tar`) that are
            named or match a pattern are WebDataset shards; their results go to a folder named after the shard.
        output: a folder; or, for a single image, a file with an image suffix, or `-` for standard output; URLs are
            supported.
        options: options of the results.
        recursive: whether to search subfolders; their structure is preserved in the output. An output folder inside an
            input folder is ignored.
        open_shards: whether to open shards; otherwise they are listed as `Plan.shards`.

    Raises:
        UsageError: no inputs, or a format or name that cannot be written.
    """
    if options.name is not None:
        check_template(options.name)
    out = place_of(output)
    refused: list[JobResult] = []
    left_out: Counter[str] = Counter()
    refuse = _refuse_into(refused)
    found: dict[str, _Found] = {}
    shards: dict[str, Path | Remote] = {}
    for text in inputs:
        for one in _expand(text, out, recursive, refuse, left_out):
            key = STANDARD_STREAM if one.source is None else key_of(one.source)
            if isinstance(one.source, Path | Remote) and one.source.suffix.lower() == SHARD_SUFFIX:
                shards[key] = one.source
            elif key not in found or (one.named and not found[key].named):
                found[key] = one
    if open_shards:
        for shard in shards.values():
            found |= {key_of(one.source): one for one in _opened(shard, refuse, left_out) if one.source}
        shards.clear()
    if not found and not refused and not shards:
        extra = f"; left out: {counted(left_out)}" if left_out else ""
        hint = "" if recursive else " (use --recursive to search subfolders)"
        raise UsageError(f"no images in {', '.join(inputs)}{hint}{extra}")
    single = output if _is_file(output, out) else None
    if single and len(found) + len(shards) > 1:
        raise UsageError(f"{output} is one image, but there are {len(found) + len(shards)} inputs; give a folder")
    jobs = {key: _job(one, single, out, options) for key, one in found.items()}
    earlier = earlier_results(list(jobs.values()), {key for key, one in found.items() if not one.named})
    fine, clashes = without_clashes([job for key, job in jobs.items() if key not in earlier])
    distinct = _distinct(list(shards.values()), refuse)
    return Plan(fine, refused + clashes, left_out, len(earlier), distinct)


def plan_shard(shard: Path | Remote, output: str, options: OutputOptions) -> Plan:
    """Plans the jobs for the images of a shard."""
    refused: list[JobResult] = []
    left_out: Counter[str] = Counter()
    found = _opened(shard, _refuse_into(refused), left_out)
    fine, clashes = without_clashes([_job(one, None, place_of(output), options) for one in found])
    return Plan(fine, refused + clashes, left_out)


def _refuse_into(refused: list[JobResult]) -> Refuse:
    def refuse(source: str, message: str) -> None:
        refused.append(JobResult(Job(place_of(source), None, "png"), "failed", message))

    return refuse


def _opened(shard: Path | Remote, refuse: Refuse, left_out: Counter[str]) -> list[_Found]:
    """The images of a shard; other files of its samples are ignored."""
    found = members(shard, lambda line: refuse(os.fspath(shard), line))
    suffixes = readable_suffixes()
    left_out.update(m.suffix.lower() for m in found if m.suffix.lower() in known_suffixes() - suffixes)
    return [_Found(m, Path(shard.stem) / m.path, True) for m in found if m.suffix.lower() in suffixes]


def _distinct(shards: list[Path | Remote], refuse: Refuse) -> list[Path | Remote]:
    """The shards without those whose results would go to the same folder as another's; these are rejected."""
    first: dict[str, Path | Remote] = {}
    for shard in shards:
        if shard.stem in first:
            line = f"{shown(shard)}: its results would go to the same folder as those of {shown(first[shard.stem])}"
            refuse(os.fspath(shard), f"{line}; use another -o")
        else:
            first[shard.stem] = shard
    return list(first.values())


def _is_file(output: str, out: Path | Remote) -> bool:
    """Whether the output is a single file.

    Raises:
        UsageError: a file of a format that cannot be written.
    """
    if output == STANDARD_STREAM:
        return True
    if isinstance(out, Path) and out.is_dir():
        return False
    suffix = out.suffix.lower()
    if suffix in known_suffixes() and suffix not in FORMAT_OF_SUFFIX:
        raise UsageError(f"{output}: cannot write {out.suffix}; use {written_suffixes()}")
    return suffix in FORMAT_OF_SUFFIX


def _expand(text: str, out: Path | Remote, recursive: bool, refuse: Refuse, left_out: Counter[str]) -> list[_Found]:
    if text == STANDARD_STREAM:
        return [_Found(None, Path("stdin"), True)]
    path = place_of(text)
    try:
        if isinstance(path, Remote):
            return _of_store(text, recursive, refuse, left_out)
        if path.is_dir():
            return _folder(path, out, recursive, refuse, left_out)
        if os.path.lexists(path):
            return [_Found(path, Path(path.name), True)]
        if glob.has_magic(text):
            matches = [Path(m) for m in sorted(glob.glob(text, recursive=recursive))]  # noqa: PTH207 (absolute patterns)
            files = [m for m in matches if not m.is_dir()]
            images = [m for m in files if m.suffix.lower() in {*readable_suffixes(), SHARD_SUFFIX}]
            left_out.update(
                m.suffix.lower() for m in files if m.suffix.lower() in known_suffixes() - readable_suffixes()
            )
            if not images:
                refuse(text, f"{text}: matches no image")
            return [_Found(m, Path(m.name), False) for m in images]
        refuse(text, f"{text}: no such file or folder")
    except ImageError as error:
        refuse(text, str(error))
    except OSError as error:
        refuse(text, f"{shown(path)}: cannot be read ({error.strerror or error})")
    return []


def _of_store(url: str, recursive: bool, refuse: Refuse, left_out: Counter[str]) -> list[_Found]:
    files = find(url, recursive)
    if [file.url for file, _ in files] == [url]:
        return [_Found(files[0][0], files[0][1], True)]
    suffixes = {*readable_suffixes(), *([SHARD_SUFFIX] if glob.has_magic(url) else [])}
    left_out.update(f.suffix.lower() for f, _ in files if f.suffix.lower() in known_suffixes() - readable_suffixes())
    images = [_Found(file, place, False) for file, place in files if file.suffix.lower() in suffixes]
    if not images and glob.has_magic(url):
        refuse(url, f"{url}: matches no image")
    return images


def _folder(path: Path, out: Path | Remote, recursive: bool, refuse: Refuse, left_out: Counter[str]) -> list[_Found]:
    here, there = key_of(path), key_of(out)
    inside = there != here and there.startswith(here.rstrip(os.sep) + os.sep)

    def unreadable(line: str) -> None:
        refuse(line.split(": ", maxsplit=1)[0], line)

    found = find_images(path, recursive, unreadable, left_out, skip=there if inside else None)
    return [_Found(file, file.relative_to(path), False) for file in found]


def _job(one: _Found, single: str | None, folder: Path | Remote, options: OutputOptions) -> Job:
    own = FORMAT_OF_SUFFIX.get(one.place.suffix.lower(), "png")
    if single is None:
        fmt = options.fmt or own
        return Job(one.source, folder / one.place.with_name(result_name(one.place, one.source, fmt, options)), fmt)
    if single == STANDARD_STREAM:
        return Job(one.source, None, options.fmt or own)
    target = place_of(single)
    fmt = FORMAT_OF_SUFFIX[target.suffix.lower()]
    if options.fmt not in (None, fmt):
        raise UsageError(f"{single} and --format {options.fmt} contradict each other")
    return Job(one.source, target, fmt)
