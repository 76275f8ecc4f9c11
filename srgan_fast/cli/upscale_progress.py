"""Progress of a run on standard error: a bar, lines for logs, or JSON for programs."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from srgan_fast.cli.console import errors, pixel_progress, say

LINE_EVERY = 10.0  # seconds


class Progress(Protocol):
    """Receives the progress of a run."""

    def advance(self, pixels: int) -> None:
        """Adds a number of upscaled input pixels."""
        ...

    def image(self, name: str) -> None:
        """Adds a finished image, upscaled or failed."""
        ...


class _Silent:
    def advance(self, pixels: int) -> None:
        pass

    def image(self, name: str) -> None:
        pass


class _Lines:
    """A line every `LINE_EVERY` seconds as text; one per image too as JSON."""

    def __init__(self, images: int, pixels: int | None, as_json: bool) -> None:
        self.images, self.pixels, self.as_json = images, pixels, as_json
        self.done, self.done_pixels = 0, 0
        self.began = self.said = time.monotonic()

    def advance(self, pixels: int) -> None:
        self.done_pixels += pixels
        self._say_if_due()

    def image(self, name: str) -> None:
        self.done += 1
        if self.as_json:
            self._say(name)
        else:
            self._say_if_due()

    def _say_if_due(self) -> None:
        if time.monotonic() - self.said >= LINE_EVERY:
            self._say("")

    def _say(self, name: str) -> None:
        self.said = time.monotonic()
        seconds = self.said - self.began
        rate = self.done_pixels / seconds if seconds else 0.0
        left = (self.pixels - self.done_pixels) / rate if self.pixels and rate else None
        if self.as_json:
            facts = {
                "pictures": self.done,
                "of": self.images,
                "pixels": self.done_pixels,
                "of_pixels": self.pixels,
                "seconds": round(seconds, 1),
                "seconds_left": None if left is None else round(max(left, 0.0), 1),
                "picture": name or None,
            }
            print(json.dumps(facts), file=sys.stderr, flush=True)  # noqa: T201 (plain text for programs)
        else:
            until = "" if left is None else f", {max(left, 0.0):.0f} s left"
            say(f"{self.done} of {self.images} images, {rate / 1e6:.2f} MP/s{until}")


@contextmanager
def upscale_progress(kind: str, images: int, pixels: int | None) -> Iterator[Progress]:
    """Shows progress.

    Args:
        kind: `none`, `bar`, `lines`, `json`, or `auto`: a bar on a terminal, else lines.
        images: number of images.
        pixels: number of their input pixels; None if unknown.
    """
    if kind == "auto":
        kind = "bar" if errors.is_terminal else "lines"
    if kind == "none":
        yield _Silent()
    elif kind in ("lines", "json"):
        yield _Lines(images, pixels, kind == "json")
    else:
        with pixel_progress() as bars:
            bar = bars.add_task("", total=pixels)

            class Bar:
                def advance(self, pixels: int) -> None:
                    bars.advance(bar, pixels)

                def image(self, name: str) -> None:
                    bars.update(bar, description=name[:40])

            yield Bar()
