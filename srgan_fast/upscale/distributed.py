"""A batch on a Ray cluster: Ray Data hands out pieces of the work, and each worker does them as `run_shared` does.

What makes that exact is the manifest, not Ray. Ray runs the piece of a worker that died again on another one; what the
first one finished is in the manifest and is left alone, what it had begun is done again. Workers read the images
themselves: in Ray Data's own readers one file that cannot be read ends the whole run.
"""

import importlib.util
import logging
import os
import pickle
import queue
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from srgan_fast.errors import BackendError, FileError, SrganFastError, UsageError
from srgan_fast.files import sweep
from srgan_fast.models import ModelFile
from srgan_fast.runtime.upscaler import Upscaler
from srgan_fast.upscale.job import Job, JobResult, OutputOptions, Plan
from srgan_fast.upscale.manifest import Manifest
from srgan_fast.upscale.places import Place, absolute, place_of
from srgan_fast.upscale.plan import plan_shard
from srgan_fast.upscale.shared import run_shared

# Images in a piece at most: some seconds of work, so that what a worker's death costs is little.
_PIECE = 32
_POLL = 0.2  # seconds between looks at whether the run is to end
_PIECES = 4  # for each worker at least, so that all end at about the same time


@dataclass(frozen=True, slots=True)
class RayOptions:
    """How a batch is spread.

    Attributes:
        workers: Processes that hold an engine; None for as many as the cluster has processors for.
        threads: Processors for each of them.
        upscaler: Arguments of `Upscaler` apart from the model and the threads.
    """

    workers: int | None = None
    threads: int = 1
    upscaler: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """What a worker has to know."""

    model: ModelFile
    spread: RayOptions
    options: OutputOptions
    manifest: str
    run: str
    output: str


def run_on_ray(
    plan: Plan,
    output: str,
    model: ModelFile,
    options: OutputOptions,
    manifest: Manifest,
    spread: RayOptions,
    stop: threading.Event | None = None,
) -> Iterator[JobResult]:
    """Upscales images on a Ray cluster: that of the environment variable RAY_ADDRESS, or else one of this machine.

    Results come as pieces are finished. The manifest must be on storage that all workers share under the same path, and
    so must files that are not given as URLs.

    Args:
        plan: What to do, with its shards unopened.
        output: As it was given to `plan_jobs`, for the images in shards.
        model: The model.
        options: How results are written.
        manifest: What was done, and by whom.
        spread: Workers and their processors.
        stop: Set by whoever wants it to end: what is under way is dropped.

    Raises:
        UsageError: Ray is not installed.
        BackendError: Ray fails, or a worker cannot begin.
    """
    ray = _ray(manifest.path)
    before = {target for target, line in manifest.lines.items() if line.status == "done"}
    jobs = [_absolute(job) for job in plan.jobs]
    where = {id_of(job): own for job, own in zip(jobs, plan.jobs, strict=True)}
    with _cluster(ray):
        workers = spread.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // spread.threads)
        size = max(1, min(_PIECE, len(jobs) // (_PIECES * workers)))
        pieces: list[list[Job] | str] = [jobs[first : first + size] for first in range(0, len(jobs), size)]
        pieces += [absolute(shard) for shard in plan.shards]
        task = _Task(
            model, spread, options, absolute(manifest.path), manifest.run, absolute(place_of(output))
        )  # fmt: skip
        for told in _results(ray, task, pieces, min(workers, len(pieces)), stop or threading.Event()):
            result = replace(told, job=where.get(id_of(told.job), told.job))
            target = result.job.target
            if result.status == "skipped" and target is not None and absolute(target) not in before:
                line = manifest.line_of(target)
                if line is not None and line.status == "done":  # by a worker that died before it could tell
                    result = replace(result, status="done", message="", seconds=line.seconds)
            yield result
    for folder in {job.target.parent for job in jobs if isinstance(job.target, Path)}:
        sweep(folder)


def id_of(job: Job) -> tuple[str, str]:
    """What tells a job from all others wherever it is computed."""
    return tuple("" if place is None else absolute(place) for place in (job.source, job.target))  # type: ignore[return-value]


def _results(
    ray: Any, task: _Task, pieces: list[list[Job] | str], workers: int, stop: threading.Event
) -> Iterator[JobResult]:
    if not pieces:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # what concerns the user comes as results
    # One piece at a time for each worker: those that wait for one that died are not given to others.
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1)
    rows = ray.data.from_items([{"piece": pickle.dumps(piece)} for piece in pieces], override_num_blocks=len(pieces))
    needs: dict[str, Any] = {"num_cpus": task.spread.threads}
    if (task.spread.upscaler or {}).get("backend") == "cuda":
        needs["num_gpus"] = 1
    done = rows.map_batches(_Worker, batch_size=1, compute=pool, fn_constructor_args=(task,), **needs)
    answers: queue.SimpleQueue[list[JobResult] | str | Exception | None] = queue.SimpleQueue()

    def fetch() -> None:
        """Waits for Ray in a thread, so that a signal is heard meanwhile."""
        try:
            for row in done.iter_rows():
                answers.put(pickle.loads(row["results"]))
            answers.put(None)
        except Exception as error:
            answers.put(error)

    threading.Thread(target=fetch, name="ray", daemon=True).start()
    while not stop.is_set():
        try:
            answer = answers.get(timeout=_POLL)
        except queue.Empty:
            continue
        if answer is None:
            return
        if isinstance(answer, Exception):
            text = f"{type(answer).__name__}: {' '.join(str(answer).split())[:300]}"
            raise BackendError(f"Ray failed ({text}); what was done is kept, see --resume") from answer
        if isinstance(answer, str):
            raise BackendError(answer)
        yield from answer


class _Worker:
    """Holds an engine and does one piece after the other."""

    def __init__(self, task: _Task) -> None:
        self.task = task
        self.upscaler: Upscaler | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        try:
            answer: list[JobResult] | str = [one for piece in batch["piece"] for one in self._do(pickle.loads(piece))]
        except SrganFastError as error:  # as text: whoever asked need not have the classes of what raised it
            answer = str(error)
        return {"results": [pickle.dumps(answer)]}

    def _do(self, piece: list[Job] | str) -> list[JobResult]:
        """Images, or those in a shard."""
        task = self.task
        path = Path(task.manifest)
        if not path.exists():
            raise FileError(
                f"{task.manifest}: is not there on {socket.gethostname()}; a manifest has to be on storage that all "
                f"workers share"
            )
        if self.upscaler is None:
            self.upscaler = Upscaler(task.model, threads=task.spread.threads, **(task.spread.upscaler or {}))
        plan = plan_shard(place_of(piece), task.output, task.options) if isinstance(piece, str) else Plan(piece)
        return plan.refused + list(run_shared(plan.jobs, self.upscaler, task.options, Manifest(path, task.run)))


def _absolute(job: Job) -> Job:
    """The job with names that hold in every process."""

    def whole(place: Place | None) -> Any:
        return Path(absolute(place)) if isinstance(place, Path) else place

    if job.source is None or job.target is None:
        raise UsageError("standard input and output belong to one process; --engine ray takes files and URLs")
    return replace(job, source=whole(job.source), target=whole(job.target))


def check_ray(manifest: Path | None) -> None:
    """Whether a batch can be spread, without the seconds that importing Ray takes.

    Raises:
        UsageError: There is no manifest, or Ray is not installed.
    """
    if manifest is None:
        raise UsageError("--engine ray needs --manifest FILE, on storage that all workers share")
    missing = [name for name in ("ray", "pyarrow") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f"--engine ray needs {' and '.join(missing)}: pip install 'srgan_fast[distributed]'")


def _ray(manifest: Path) -> Any:
    check_ray(manifest)
    try:
        import ray  # noqa: PLC0415 (an extra, which takes seconds to import)
        import ray.data  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"--engine ray: Ray cannot be imported ({error}); reinstall it") from None
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Connects to the cluster that there is, or starts one of this machine and ends it."""
    if ray.is_initialized():
        yield
        return
    own = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    # Workers of a cluster of our own are what this command is about; Ray would let every other process go first.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what fails is raised, too, and becomes one line
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise BackendError(f"Ray cannot be started or reached ({text})") from error
    try:
        yield
    finally:
        ray.shutdown()
