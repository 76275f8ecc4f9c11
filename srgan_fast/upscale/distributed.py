"""A batch on a Ray cluster: Ray Data distributes parts of the work, and each worker processes them with `run_shared`.

The manifest, not Ray, ensures that every image gets exactly one result. If a worker dies, Ray reruns its part on
another one: images that the manifest lists as done are skipped, and those in progress are computed again. Workers read
the images themselves, since in Ray Data's readers one unreadable file ends the whole run.
"""

import importlib.util
import logging
import os
import pickle
import queue
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from srgan_fast.errors import BackendError, FileError, SrganFastError, UsageError
from srgan_fast.files import sweep
from srgan_fast.models import ModelFile
from srgan_fast.runtime.upscaler import Upscaler, UpscalerOptions
from srgan_fast.upscale.job import Job, JobResult, OutputOptions, Plan
from srgan_fast.upscale.manifest import Manifest
from srgan_fast.upscale.places import Place, absolute, place_of
from srgan_fast.upscale.plan import plan_shard
from srgan_fast.upscale.shared import run_shared

# Largest number of images in a part: some seconds of work, so that little is lost if a worker dies.
_LARGEST_PART = 32
_POLL = 0.2  # seconds between checks of whether the run was stopped
_PARTS_PER_WORKER = 4  # minimum number of parts per worker, so that all workers end at about the same time


_AnyPlace = TypeVar("_AnyPlace", bound=Place)


@dataclass(frozen=True, slots=True)
class RayOptions:
    """Options for distributing a batch.

    Attributes:
        workers: Number of processes with an engine; as many as the cluster's CPUs allow if None.
        threads: CPUs and threads per worker.
        upscaler: Arguments of `Upscaler` other than the model and the number of threads.
    """

    workers: int | None = None
    threads: int = 1
    upscaler: UpscalerOptions | None = None


@dataclass(frozen=True, slots=True)
class _Task:
    """Arguments of a worker, see `run_on_ray`; paths are absolute."""

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
    """Upscales images on the Ray cluster of the environment variable RAY_ADDRESS, or on a local one by default.

    Results are yielded as parts finish. The manifest, and all files that are not given as URLs, must be on storage that
    all workers share under the same path.

    Args:
        plan: Jobs to run, with unopened shards.
        output: Output that was passed to `plan_jobs`, for the images in shards.
        model: The model.
        options: Options of the results.
        manifest: Manifest of the run.
        spread: Workers and their CPUs.
        stop: Event that ends the run; images in progress are dropped.

    Raises:
        UsageError: Ray is not installed.
        BackendError: Ray failed, or a worker cannot start.
    """
    ray = _ray(manifest.path)
    before = {target for target, line in manifest.lines.items() if line.status == "done"}
    jobs = [_absolute(job) for job in plan.jobs]
    where = {id_of(job): own for job, own in zip(jobs, plan.jobs, strict=True)}
    with _cluster(ray):
        workers = spread.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // spread.threads)
        size = max(1, min(_LARGEST_PART, len(jobs) // (_PARTS_PER_WORKER * workers)))
        parts: list[list[Job] | str] = [jobs[first : first + size] for first in range(0, len(jobs), size)]
        parts += [absolute(shard) for shard in plan.shards]
        task = _Task(
            model, spread, options, absolute(manifest.path), manifest.run, absolute(place_of(output))
        )  # fmt: skip
        for reported in _results(ray, task, parts, min(workers, len(parts)), stop or threading.Event()):
            result = replace(reported, job=where.get(id_of(reported.job), reported.job))
            target = result.job.target
            if result.status == "skipped" and target is not None and absolute(target) not in before:
                line = manifest.line_of(target)
                if line is not None and line.status == "done":  # by a worker that died before reporting it
                    result = replace(result, status="done", message="", seconds=line.seconds)
            yield result
    for folder in {job.target.parent for job in jobs if isinstance(job.target, Path)}:
        sweep(folder)


def id_of(job: Job) -> tuple[str, str]:
    """Identifier of a job, the same in every process: absolute source and target."""
    return tuple("" if place is None else absolute(place) for place in (job.source, job.target))  # type: ignore[return-value]


def _results(
    ray: Any, task: _Task, parts: list[list[Job] | str], workers: int, stop: threading.Event
) -> Iterator[JobResult]:
    if not parts:
        return
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)  # users are informed by results
    # One part at a time per worker: Ray does not reassign parts that are queued for a worker that died.
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1)
    rows = ray.data.from_items([{"part": pickle.dumps(part)} for part in parts], override_num_blocks=len(parts))
    needs: dict[str, int] = {"num_cpus": task.spread.threads}
    if (task.spread.upscaler or {}).get("backend") == "cuda":
        needs["num_gpus"] = 1
    done = rows.map_batches(_Worker, batch_size=1, compute=pool, fn_constructor_args=(task,), **needs)
    answers: queue.SimpleQueue[list[JobResult] | str | Exception | None] = queue.SimpleQueue()

    def fetch() -> None:
        """Waits for Ray in a thread, so that the main thread can handle signals."""
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
            raise BackendError(f"Ray failed ({text}); finished results are kept; continue with --resume") from answer
        if isinstance(answer, str):
            raise BackendError(answer)
        yield from answer


class _Worker:
    """Processes parts of the work, one after the other, with the same engine."""

    def __init__(self, task: _Task) -> None:
        self.task = task
        self.upscaler: Upscaler | None = None

    def __call__(self, batch: dict[str, Sequence[bytes]]) -> dict[str, list[bytes]]:
        try:
            answer: list[JobResult] | str = [one for part in batch["part"] for one in self._do(pickle.loads(part))]
        except SrganFastError as error:  # as text: the driver may lack the exception's classes
            answer = str(error)
        return {"results": [pickle.dumps(answer)]}

    def _do(self, part: list[Job] | str) -> list[JobResult]:
        """Upscales a list of images, or those of a shard."""
        task = self.task
        path = Path(task.manifest)
        if not path.exists():
            raise FileError(
                f"{task.manifest}: does not exist on {socket.gethostname()}; a manifest must be on storage that all "
                f"workers share"
            )
        if self.upscaler is None:
            self.upscaler = Upscaler(task.model, threads=task.spread.threads, **(task.spread.upscaler or {}))
        plan = plan_shard(place_of(part), task.output, task.options) if isinstance(part, str) else Plan(part)
        return plan.refused + list(run_shared(plan.jobs, self.upscaler, task.options, Manifest(path, task.run)))


def _absolute(job: Job) -> Job:
    """The job with absolute paths, which are valid in every process.

    Raises:
        UsageError: the job uses standard input or output.
    """

    def whole(place: _AnyPlace) -> _AnyPlace | Path:
        return Path(absolute(place)) if isinstance(place, Path) else place

    if job.source is None or job.target is None:
        raise UsageError("standard input and output belong to one process; --engine ray takes files and URLs")
    return replace(job, source=whole(job.source), target=whole(job.target))


def check_ray(manifest: Path | None) -> None:
    """Checks that a batch can be distributed, without importing Ray, which takes seconds.

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
    """Connects to an existing cluster, or starts a local one and shuts it down afterwards."""
    if ray.is_initialized():
        yield
        return
    own = {} if os.environ.get("RAY_ADDRESS") else {"include_dashboard": False}
    # By default Ray gives its workers a lower priority than all other processes; here they do the main work.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ENABLE_AUTO_CONNECT", "0")  # what still runs at the end must not start another one
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # failures are also raised, and reported in one line
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        ray.init(log_to_driver=False, logging_level=logging.ERROR, **own)
    except Exception as error:
        text = " ".join(str(error).split())[:300]
        raise BackendError(f"Ray cannot be started or reached ({text})") from error
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():  # Ray installs its own, which end the process at once
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
    try:
        yield
    finally:
        ray.shutdown()
