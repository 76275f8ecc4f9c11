"""Many pictures at once: small ones side by side, of larger ones the next is read and the last written meanwhile.

A small picture goes through decoder, network and encoder in one thread, with an engine of few threads, so that no
threads wait for each other. Larger ones get all threads, one after the other, in the caller's thread: they are what
memory is bounded for. What comes out is the same, in the same order.
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

# Sides in pixels up to which a picture counts as small. Two pictures side by side on one thread each, against one after
# the other on two threads: 1.30 times as fast at 24, 1.10 at 48, 1.07 at 72 and the same at 256 pixels a side (two
# cores of a Zen 4, srresnet-x4). More cores have more to wait for; larger pictures take more memory.
SMALL_SIDE = 256
_BYTES_A_PIXEL = 8  # of a result and its encoder's copy
_HELD = 16  # results for each worker that wait for one before them, so that the order stays


def run_jobs(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    options: OutputOptions,
    on_tile: Callable[[Tile], None] | None = None,
    stop: threading.Event | None = None,
    workers: int | None = None,
) -> Iterator[JobResult]:
    """Upscales pictures; results come in the order of the jobs, and are the same bytes however many workers there are.

    A picture that fails yields a failed result and the rest go on. For each worker two small pictures are in memory at
    most, of larger ones three and the results that are written, of those that are computed by rows only rows. What
    killed runs left unfinished in the folders of the results is removed.

    Args:
        jobs: what to do; each is asked for shortly before it is computed.
        upscaler: with the model.
        options: how results are written.
        on_tile: called with every finished tile, by one thread at a time.
        stop: set by whoever wants it to end: pictures under way are dropped, what was computed before is written.
        workers: pictures at once; as many as the upscaler has threads if None. Fewer where there are fewer jobs or
            memory is short.
    """
    workers = workers or upscaler_threads(upscaler)
    if isinstance(jobs, Sized):
        workers = max(1, min(workers, len(jobs)))
    batch = _Batch(upscaler, options, on_tile, stop or threading.Event(), _fitting(workers, upscaler))
    yield from batch.run(iter(jobs))


def upscaler_threads(upscaler: Upscaler) -> int:
    """Threads of an upscaler."""
    return upscaler.threads if isinstance(upscaler, Upscaler) else 1


def _fitting(workers: int, upscaler: Upscaler) -> int:
    """How many workers have memory for small pictures, all of them the largest that are small."""
    have = memory.available()
    if workers == 1 or have is None or not isinstance(upscaler, Upscaler):
        return workers
    picture = SMALL_SIDE**2 * (upscaler.scale**2 + 1) * _BYTES_A_PIXEL
    return max(1, min(workers, have // 2 // (2 * picture + upscaler.working_memory(SMALL_SIDE, SMALL_SIDE))))


@dataclass(slots=True)
class _Pending:
    """A job on its way.

    Attributes:
        job: what to do.
        looked: what is known before it is decoded.
        decoded: of what is decoded before its turn.
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
    ended: threading.Event = field(default_factory=threading.Event)  # nobody waits for results any more
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
        # Some small pictures are decoded, encoded and written while others are computed.
        most = self.workers + max(1, self.workers // 2)
        with ThreadPoolExecutor(self.workers, "reader") as readers, ThreadPoolExecutor(most, "picture") as pictures:
            results: deque[Future[JobResult]] = deque()
            try:
                while not self.stop.is_set() and (entry := self._next(jobs, readers)) is not None:
                    looked = entry.looked.result()
                    if siblings and _is_small(looked):
                        _wait(self.small, most - 1)
                        future = pictures.submit(self._small, entry.job, looked)
                        self.small.add(future)
                    else:
                        _wait(self.small, 0)
                        upscaled = self._large(entry, looked, readers)
                        if upscaled is None:
                            break
                        _wait(self.writing, self._writers(upscaled) - 1)
                        future = pictures.submit(one.finish, upscaled, self.options)
                        self.writing.add(future)
                    results.append(future)
                    yield from _finished(results, _HELD * self.workers)
                yield from _finished(results, 0)
            finally:
                self.ended.set()
                for entry in self.coming:
                    entry.looked.cancel()

    def _next(self, jobs: Iterator[Job], readers: ThreadPoolExecutor) -> _Pending | None:
        """The next job; those after it are looked at meanwhile."""
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
        """Everything about a small picture, beside others."""
        picture = one.decode(job, looked)
        if isinstance(picture, JobResult):
            return picture
        engine = self.engines.get()
        try:
            self._watch(None)
            upscaled = one.upscale(job, picture, engine, self.options, self._watch)
        finally:
            self.engines.put(engine)
        return one.finish(upscaled, self.options)

    def _large(
        self, entry: _Pending, looked: one.Opened | JobResult, readers: ThreadPoolExecutor
    ) -> one.Upscaled | None:
        """A picture by all threads while the next ones are decoded; None where the run is to end."""
        picture = one.decode(entry.job, looked) if entry.decoded is None else entry.decoded.result()
        for following in self.coming:
            if following.decoded is None:
                following.decoded = readers.submit(_decode_ahead, following)
            if not following.looked.done() or not _is_small(following.looked.result()):
                break  # one large picture ahead
        try:
            return one.upscale(entry.job, picture, self.upscaler, self.options, self._watch)
        except one.Stopped:
            return None

    def _watch(self, tile: Tile | None) -> None:
        if self.stop.is_set() or self.ended.is_set():
            raise one.Stopped
        if tile is not None and self.on_tile is not None:
            with self.telling:
                self.on_tile(tile)

    def _writers(self, upscaled: one.Upscaled) -> int:
        """How many results may be on their way to the disk at once."""
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
    """Waits until no more than so many are left."""
    while True:
        futures -= {future for future in futures if future.done()}
        if len(futures) <= most:
            return
        wait(futures, return_when=FIRST_COMPLETED)


def _finished(results: deque[Future[JobResult]], most: int) -> Iterator[JobResult]:
    """Results in their order: those that are there, and others until no more than so many are left."""
    while results and (len(results) > most or results[0].done()):
        try:
            yield results.popleft().result()
        except one.Stopped:
            continue
