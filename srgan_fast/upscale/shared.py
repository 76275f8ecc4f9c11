"""Batches with a manifest: they can be resumed, and shared by several processes."""

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from srgan_fast.errors import SrganFastError
from srgan_fast.files import shown
from srgan_fast.runtime.tiling import Tile
from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale.batch import run_jobs, upscaler_threads
from srgan_fast.upscale.job import Job, JobResult, OutputOptions
from srgan_fast.upscale.manifest import CLAIM_HOLDS, Manifest

_log = logging.getLogger("srgan_fast.upscale")
_RENEW_EVERY = CLAIM_HOLDS / 5  # seconds
_POLL = 0.5  # seconds between checks of other processes' claims


def run_shared(
    jobs: Iterable[Job],
    upscaler: Upscaler,
    options: OutputOptions,
    manifest: Manifest,
    on_tile: Callable[[Tile], None] | None = None,
    stop: threading.Event | None = None,
    workers: int | None = None,
) -> Iterator[JobResult]:
    """Like `run_jobs`, but claims each image in the manifest before computing it, and records the outcome after.

    Images that are already done are skipped. Those claimed by other processes are checked again at the end: they are
    skipped if they are done by then, and taken over if the other process died.
    """
    left = list(jobs)
    workers = min(workers or upscaler_threads(upscaler), max(1, len(left)))
    stop = stop or threading.Event()
    with _renewed(manifest):
        while left and not stop.is_set():
            waiting: list[Job] = []
            skipped: list[JobResult] = []
            claimed: list[Job] = []
            free = _claimed(left, manifest, waiting, skipped, claimed)
            try:
                for result in run_jobs(free, upscaler, options, on_tile, stop, workers):
                    _record(manifest, result)
                    claimed.remove(result.job)
                    yield result
                    yield from skipped
                    skipped.clear()
            finally:
                for job in claimed:  # of a run that was stopped: other processes may take them
                    if job.source is not None and job.target is not None and manifest.has_claimed(job.target):
                        manifest.record(job.source, job.target, "released")
            yield from skipped
            if len(waiting) == len(left):
                stop.wait(_POLL)
            left = waiting


def _claimed(
    jobs: list[Job], manifest: Manifest, waiting: list[Job], skipped: list[JobResult], claimed: list[Job]
) -> Iterator[Job]:
    """Yields the jobs that this process may run; each is claimed when it is requested."""
    for job in jobs:
        if job.source is None or job.target is None:
            claimed.append(job)
            yield job
            continue
        state = manifest.claim(job.source, job.target)
        if state == "held":
            waiting.append(job)
        elif state == "done":
            skipped.append(JobResult(job, "skipped", f"{shown(job.target)} is done according to the manifest"))
        else:
            mine = replace(job, redo=True) if state == "again" else job
            claimed.append(mine)
            yield mine


def _record(manifest: Manifest, result: JobResult) -> None:
    source, target = result.job.source, result.job.target
    if source is None or target is None:
        return
    status = "left" if result.status == "skipped" else result.status
    manifest.record(source, target, status, result.seconds, result.message)


@contextmanager
def _renewed(manifest: Manifest) -> Iterator[None]:
    """Renews the claims of this process while the context is active."""
    ended = threading.Event()

    def renew() -> None:
        told = False
        while not ended.wait(_RENEW_EVERY):
            try:
                manifest.renew()
                told = False
            except SrganFastError as error:  # such as a full disk: may pass before the claims expire
                if not told:
                    _log.warning("claims could not be renewed, other machines may take over these images: %s", error)
                told = True

    thread = threading.Thread(target=renew, name="claims", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
