"""Jobs, options of their results, and outcomes."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from srgan_fast.data.images import MAX_PIXELS, Format
from srgan_fast.files import shown
from srgan_fast.upscale.places import Place, Remote

STANDARD_STREAM = "-"


@dataclass(frozen=True, slots=True)
class Size:
    """Requested size of a result in pixels.

    Attributes:
        width: number of columns.
        height: number of rows; follows from the aspect ratio if None.
        fit: whether to keep the aspect ratio and fit the result into a box of width x height.
    """

    width: int
    height: int | None = None
    fit: bool = False

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result for an image of the given size."""
        if self.height is None:
            return self.width, max(1, round(height * self.width / width))
        if not self.fit:
            return self.width, self.height
        factor = min(self.width / width, self.height / height)
        return max(1, round(width * factor)), max(1, round(height * factor))


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Options for naming and writing results.

    Attributes:
        suffix: suffix appended to the stem of output file names.
        name: template of output file names, used instead of `suffix`, with {stem}, {parent}, {type} (the input's
            suffix), {scale} and {ext}.
        fmt: file format; the input's if None (png for formats that can only be read).
        outscale: final scale; the model's if None.
        size: final size, used instead of a scale.
        existing: action if the target exists; `skip` only skips targets that can be decoded completely.
        quality: JPEG, WebP and AVIF quality, 1..100.
        compression: PNG compression level, 0..9; the default of `data.images` if None.
        colour: `auto` converts images to sRGB's curve for the network, and results back; `keep` passes values
            unchanged.
        max_pixels: limit on the pixels of one input, all frames together.
    """

    suffix: str = "_x4"
    name: str | None = None
    fmt: Format | None = None
    outscale: float | None = None
    size: Size | None = None
    existing: Literal["error", "skip", "overwrite"] = "error"
    quality: int = 95
    compression: int | None = None
    colour: Literal["auto", "keep"] = "auto"
    max_pixels: int = MAX_PIXELS


@dataclass(frozen=True, slots=True)
class Job:
    """An image to upscale.

    Attributes:
        source: image file; None for standard input.
        target: file of the result; None for standard output.
        fmt: file format of the result.
        redo: whether an existing target is replaced whatever the options are, since an earlier run created it.
    """

    source: Place | None
    target: Path | Remote | None
    fmt: Format
    redo: bool = False

    @property
    def name(self) -> str:
        """Name of the source for messages."""
        return "standard input" if self.source is None else shown(self.source)


@dataclass(frozen=True, slots=True)
class JobResult:
    """Outcome of a job.

    Attributes:
        job: the job.
        status: `done`, `skipped` (the target existed) or `failed`.
        message: reason for failing or skipping.
        lr_size: width and height of the input; None if unknown.
        hr_size: width and height of the result; None if unknown.
        seconds: time spent in the model; includes reading and writing for images that are computed by rows.
        frames: number of frames or pages written.
        notes: contents of the input that were dropped, one clause each.
    """

    job: Job
    status: Literal["done", "skipped", "failed"]
    message: str = ""
    lr_size: tuple[int, int] | None = None
    hr_size: tuple[int, int] | None = None
    seconds: float = 0.0
    frames: int = 1
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Planned jobs of a run.

    Attributes:
        jobs: jobs to run.
        refused: failed results of inputs that were rejected.
        left_out: number of files of unsupported image formats, by suffix, and of linked folders.
        earlier: number of inputs that are results of earlier runs, with this factor or another; they are not upscaled
            again.
        shards: WebDataset shards that have not been opened yet.
    """

    jobs: list[Job] = field(default_factory=list)
    refused: list[JobResult] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    earlier: int = 0
    shards: list[Path | Remote] = field(default_factory=list)
