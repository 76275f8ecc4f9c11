"""What is to be done, how, and what became of it."""

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
    """Size of a result in pixels.

    Attributes:
        width: columns, or of the box.
        height: rows; as the picture's proportions have it if None.
        fit: keep the proportions, inside the box.
    """

    width: int
    height: int | None = None
    fit: bool = False

    def of(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of the result of a picture."""
        if self.height is None:
            return self.width, max(1, round(height * self.width / width))
        if not self.fit:
            return self.width, self.height
        factor = min(self.width / width, self.height / height)
        return max(1, round(width * factor)), max(1, round(height * factor))


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """How results are named and written.

    Attributes:
        suffix: between the picture's name and its file suffix.
        name: template of file names instead, with {stem}, {parent}, {type} (the input's suffix), {scale} and {ext}.
        fmt: file format; that of the input if None (png for formats that are only read).
        outscale: final factor; the model's own if None.
        size: final size instead of a factor.
        existing: what to do where a target is there already; `skip` takes whole ones only for there.
        quality: of JPEG, WebP and AVIF, 1..100.
        compression: of PNG, 0..9; the default of `data.images` if None.
        colour: `auto` gives the network sRGB's curve and turns it back; `keep` leaves values alone.
        max_pixels: of one input, all frames together.
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
    """A picture to upscale.

    Attributes:
        source: None for standard input.
        target: None for standard output.
        fmt: format of the result.
        redo: whether a target that is there is ours, and to be replaced whatever the options say.
    """

    source: Place | None
    target: Path | Remote | None
    fmt: Format
    redo: bool = False

    @property
    def name(self) -> str:
        """The source for messages."""
        return "standard input" if self.source is None else shown(self.source)


@dataclass(frozen=True, slots=True)
class JobResult:
    """What became of a job.

    Attributes:
        job: which one.
        status: `done`, `skipped` (the target was there) or `failed`.
        message: why it failed or was skipped.
        lr_size: width and height of the input, once known.
        hr_size: width and height of the result, once known.
        seconds: spent in the model; with reading and writing where a picture is computed by rows.
        frames: frames or pages that were written.
        notes: what the input held that the result does not, one clause each.
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
    """Which files become which.

    Attributes:
        jobs: what can be tried.
        refused: what cannot, one failed result each.
        left_out: files of other kinds of pictures, by suffix.
        earlier: results of earlier runs among the inputs, which are not upscaled once more.
        shards: WebDataset shards that have not been looked into yet.
    """

    jobs: list[Job] = field(default_factory=list)
    refused: list[JobResult] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)
    earlier: int = 0
    shards: list[Path | Remote] = field(default_factory=list)
