"""Upscaling of many images: small ones in parallel; large ones in turn, overlapped with decoding and encoding.

A small image is decoded, upscaled and encoded in one thread, with an engine of few threads, so that threads do not wait
for each other. Large images are computed one after the other with all threads, from the caller's thread, which bounds
their memory. Results and their order are those of computing one image after the other.
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path

from srgan_fast import memory
from srgan_fast.data.images import ImageFile, RowSource
from srgan_fast.files import sweep
from srgan_fast.runtime.tiling import Tile
from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale import one
from srgan_fast.upscale.job import Job, JobResult, OutputOptions

# Longest side in pixels of an image that counts as small. Two images in parallel on one thread each, compared with one
# after the other on two threads: 1.30 times as fast at 24, 1.10 at 48, 1.07 at 72 and the same at 256 pixels a side
# (two cores of a Zen 4, srresnet-x4). The gain grows with the number of cores; larger images take more memory.
SMALL_SIDE = 256
_BYTES_A_PIXEL = 8  # of a result and its encoder's copy
_HELD = 16  # results per worker that may wait for an earlier one, to preserve the order


def run_jobs(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    options: OutputOptions,
    on_tile: Callable[[Tile], None] | None = None,
    stop: threading.Event | None = None,
    workers: int | None = None,
) -> Iterator[JobResult]:
    """Upscales images; yields results in the order of the jobs, with the same bytes for any number of workers.

    An image that fails yields a failed result, and the others continue. At most two small images per worker are in
    memory, or three large ones and the results being written; of images that are computed by rows only some rows are.
    Partial files of killed runs are removed from the folders of the results.

    Args:
        jobs: images to upscale; each job is requested shortly before it is computed.
        upscaler: upscaler with the model.
        options: options of the results.
        on_tile: called with every finished tile, by one thread at a time.
        stop: event that ends the run: images in progress are dropped, finished results are still written.
        workers: number of images in parallel; the upscaler's number of threads if None. Reduced if there are fewer jobs
            or little memory.
    """
    workers = workers or upscaler_threads(upscaler)
    if isinstance(jobs, Sized):
        workers = max(1, min(workers, len(jobs)))
    batch = _Batch(upscaler, options, on_tile, stop or threading.Event(), _fitting(workers, upscaler))
    yield from batch.run(iter(jobs))


def upscaler_threads(upscaler: Upscaler) -> int:
    """Number of threads of an upscaler."""
    return upscaler.threads if isinstance(upscaler, Upscaler) else 1


def _fitting(workers: int, upscaler: Upscaler) -> int:
    """Number of workers that memory suffices for, if each processes images of `SMALL_SIDE` x `SMALL_SIDE` pixels."""
    have = memory.available()
    if workers == 1 or have is None or not isinstance(upscaler, Upscaler):
        return workers
    image = SMALL_SIDE**2 * (upscaler.scale**2 + 1) * _BYTES_A_PIXEL
    return max(1, min(workers, have // 2 // (2 * image + upscaler.working_memory(SMALL_SIDE, SMALL_SIDE))))


@dataclass(slots=True)
class _Pending:
    """A job that has not been computed yet.

    Attributes:
        job: the job.
        looked: result of `one.look`.
        decoded: result of `one.decode`, if the image is decoded in advance.
    """

    job: Job
    looked: Future[one.Opened | JobResult]
    decoded: Future[ImageFile | RowSource | JobResult] | None = None


@dataclass(slots=True)
class _Batch:
    upscaler: Upscaler
    options: OutputOptions
    on_tile: Callable[[Tile], None] | None
    stop: threading.Event
    workers: int
    ended: threading.Event = field(default_factory=threading.Event)  # the caller no longer waits for results
    telling: threading.Lock = field(default_factory=threading.Lock)
    swept: set[Path] = field(default_factory=set)
    engines: queue.SimpleQueue[Upscaler] = field(default_factory=queue.SimpleQueue)
    coming: deque[_Pending] = field(default_factory=deque)
    small: set[Future[JobResult]] = field(default_factory=set)
    writing: set[Future[JobResult]] = field(default_factory=set)

    def run(self, jobs: Iterator[Job]) -> Iterator[JobResult]:
        siblings = self.upscaler.siblings(self.workers) if isinstance(self.upscaler, Upscaler) else []
        for engine in siblings:
            self.engines.put(engine)
        # More threads than workers, so that some images are decoded, encoded or written while others are computed.
        most = self.workers + max(1, self.workers // 2)
        with ThreadPoolExecutor(self.workers, "reader") as readers, ThreadPoolExecutor(most, "image") as images:
            results: deque[Future[JobResult]] = deque()
            try:
                while not self.stop.is_set() and (entry := self._next(jobs, readers)) is not None:
                    looked = entry.looked.result()
                    if siblings and _is_small(looked):
                        _wait(self.small, most - 1)
                        future = images.submit(self._small, entry.job, looked)
                        self.small.add(future)
                    else:
                        _wait(self.small, 0)
                        upscaled = self._large(entry, looked, readers)
                        if upscaled is None:
                            break
                        _wait(self.writing, self._writers(upscaled) - 1)
                        future = images.submit(one.finish, upscaled, self.options)
                        self.writing.add(future)
                    results.append(future)
                    yield from _finished(results, _HELD * self.workers)
                yield from _finished(results, 0)
            finally:
                self.ended.set()
                for entry in self.coming:
                    entry.looked.cancel()

    def _next(self, jobs: Iterator[Job], readers: ThreadPoolExecutor) -> _Pending | None:
        """The next job; the headers of those after it are read in the background."""
        while len(self.coming) <= self.workers:
            job = None if self.stop.is_set() else next(jobs, None)
            if job is None:
                break
            if isinstance(job.target, Path) and job.target.parent not in self.swept:
                self.swept.add(job.target.parent)
                sweep(job.target.parent)
            self.coming.append(_Pending(job, readers.submit(one.look, job, self.upscaler, self.options)))
        return self.coming.popleft() if self.coming else None

    def _small(self, job: Job, looked: one.Opened | JobResult) -> JobResult:
        """Decodes, upscales and writes a small image, in parallel with others."""
        image = one.decode(job, looked)
        if isinstance(image, JobResult):
            return image
        engine = self.engines.get()
        try:
            self._watch(None)
            upscaled = one.upscale(job, image, engine, self.options, self._watch)
        finally:
            self.engines.put(engine)
        return one.finish(upscaled, self.options)

    def _large(
        self, entry: _Pending, looked: one.Opened | JobResult, readers: ThreadPoolExecutor
    ) -> one.Upscaled | None:
        """Upscales an image with all threads while the next ones are decoded; returns None if the run was stopped."""
        image = one.decode(entry.job, looked) if entry.decoded is None else entry.decoded.result()
        for following in self.coming:
            if following.decoded is None:
                following.decoded = readers.submit(_decode_ahead, following)
            if not following.looked.done() or not _is_small(following.looked.result()):
                break  # at most one large image is decoded in advance
        try:
            return one.upscale(entry.job, image, self.upscaler, self.options, self._watch)
        except one.Stopped:
            return None

    def _watch(self, tile: Tile | None) -> None:
        if self.stop.is_set() or self.ended.is_set():
            raise one.Stopped
        if tile is not None and self.on_tile is not None:
            with self.telling:
                self.on_tile(tile)

    def _writers(self, upscaled: one.Upscaled) -> int:
        """Number of results that may be encoded and written at the same time."""
        have = memory.available()
        if upscaled.file is None or have is None:
            return self.workers
        size = sum(frame.pixels.nbytes for frame in upscaled.file.frames)
        return max(1, min(self.workers, have // 2 // (2 * size)))


def _decode_ahead(entry: _Pending) -> ImageFile | RowSource | JobResult:
    return one.decode(entry.job, entry.looked.result())


def _is_small(looked: one.Opened | JobResult) -> bool:
    if isinstance(looked, JobResult):
        return True
    header = looked.header
    return max(header.width, header.height) <= SMALL_SIDE and header.frames == 1 and looked.job.source is not None


def _wait(futures: set[Future[JobResult]], most: int) -> None:
    """Waits until at most `most` futures are not done."""
    while True:
        futures -= {future for future in futures if future.done()}
        if len(futures) <= most:
            return
        wait(futures, return_when=FIRST_COMPLETED)


def _finished(results: deque[Future[JobResult]], most: int) -> Iterator[JobResult]:
    """Yields finished results in order; waits for more until at most `most` are left."""
    while results and (len(results) > most or results[0].done()):
        try:
            yield results.popleft().result()
        except one.Stopped:
            continue
