"""Many pictures: a short pipeline that reads, upscales and writes at the same time."""

import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from srgan_fast.data.images import ImageFile, RowSource
from srgan_fast.files import sweep
from srgan_fast.runtime.tiling import Tile
from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale import one
from srgan_fast.upscale.job import Job, JobResult, OutputOptions


def run_jobs(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    options: OutputOptions,
    on_tile: Callable[[Tile], None] | None = None,
    stop: threading.Event | None = None,
) -> Iterator[JobResult]:
    """Upscales pictures one after the other; the next is read and the last written meanwhile.

    A picture that fails yields a failed result and the rest go on. At most three pictures are in memory, and of large
    ones only rows (see `by_rows`). Results come in the order of the jobs. What killed runs left unfinished in the
    folders of the results is removed.

    Args:
        jobs: what to do; each is asked for while the one before is computed.
        upscaler: with the model.
        options: how results are written.
        on_tile: called with every finished tile.
        stop: set by whoever wants it to end: the present picture is dropped, what was computed before is written.
    """
    swept: set[Path] = set()
    upcoming = iter(jobs)

    def following() -> Job | None:
        job = None if stop is not None and stop.is_set() else next(upcoming, None)
        if job is not None and job.target is not None and job.target.parent not in swept:
            swept.add(job.target.parent)
            sweep(job.target.parent)
        return job

    def watch(tile: Tile) -> None:
        if stop is not None and stop.is_set():
            raise one.Stopped
        if on_tile:
            on_tile(tile)

    with ThreadPoolExecutor(1, "reader") as reader, ThreadPoolExecutor(1, "writer") as writer:
        reading: Future[ImageFile | RowSource | JobResult] | None = None
        writing: Future[JobResult] | None = None
        try:
            job = following()
            reading = reader.submit(one.read, job, upscaler, options) if job else None
            while job is not None and reading is not None:
                current, then = reading, following()
                reading = reader.submit(one.read, then, upscaler, options) if then else None
                try:
                    result = one.upscale(job, current.result(), upscaler, options, watch)
                except one.Stopped:
                    break
                if writing is not None:
                    yield writing.result()
                writing = writer.submit(one.finish, result, options)
                job = then
            if writing is not None:
                yield writing.result()
        finally:
            if reading is not None:
                reading.cancel()
