"""Training on a GPU: whole steps, and the generator's passes alone, in turns.

A row that cannot be run, compiled or captured gives the reason, and the others continue.
"""

import time
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch

from srgan_fast.bench.gpu.timing import Time, in_graph, time_calls, time_of
from srgan_fast.bench.training.options import Stage
from srgan_fast.bench.training.rows import Losses, Trainee, Work, find_row, make_trainee
from srgan_fast.bench.turns import Taken, take_turns
from srgan_fast.bench.worker import why_not

ROUNDS = 12
WARM_UP_STEPS = 4  # after the first step; includes the capture of CUDA graphs


@dataclass(frozen=True, slots=True)
class StepRow:
    """How a row of `bench.training.rows` is run here.

    Its name there; whether its steps are replayed from a CUDA graph, its networks are compiled by torch.compile, and
    its float32 convolutions use TF32.
    """

    row: str
    captured: bool = False
    compiled: bool = False
    tf32: bool = False

    def make(self, stage: Stage, batch: int, hr: int, device: torch.device) -> Trainee:
        """Creates the networks and the loop on a device."""
        work = Work(stage, batch, hr, "features[:18]", torch.get_num_threads(), str(device))
        return make_trainee(find_row(self.row), work, self.captured, self.compiled, averaged=True)

    def context(self) -> AbstractContextManager[None]:
        """Sets the float32 precision of its name, independent of PyTorch's defaults."""
        return torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=self.tf32)


STEP_ROWS = {
    "stock-tf32": StepRow("stock", tf32=True),
    "stock-bf16": StepRow("stock-bf16"),
    "stock-bf16, compiled": StepRow("stock-bf16", compiled=True),
    "stock-lean-bf16": StepRow("stock-lean-bf16"),
    "stock-lean-bf16, captured": StepRow("stock-lean-bf16", captured=True),
    "stock-lean-bf16, compiled, captured": StepRow("stock-lean-bf16", captured=True, compiled=True),
    "stock-lean-tf32, captured": StepRow("stock-lean", captured=True, tf32=True),
    "fused-tf32, captured": StepRow("fused", captured=True, tf32=True),
    "fused-bf16": StepRow("fused-bf16"),
    "fused-bf16, captured": StepRow("fused-bf16", captured=True),
}
GENERATOR_ROWS = {
    "stock-tf32": StepRow("stock", tf32=True),
    "stock-bf16": StepRow("stock-bf16"),
    "stock-bf16, compiled": StepRow("stock-bf16", compiled=True),
    "fused-bf16": StepRow("fused-bf16"),
}


@dataclass(slots=True)
class StepResult:
    """Whole steps of a row.

    `load_s`: until the first step is done, compilation included; `step`: host time; `peak_mb`: device memory that
    PyTorch allocates for a step, 10^6 bytes, None if a graph holds it permanently; `losses` of the first step.
    """

    status: str = "ok"
    reason: str | None = None
    load_s: float | None = None
    step: Time | None = None
    peak_mb: float | None = None
    losses: Losses | None = None


@dataclass(slots=True)
class GeneratorResult:
    """Forward and backward pass of a row's generator, launched by the host and replayed from a CUDA graph."""

    status: str = "ok"
    reason: str | None = None
    eager: Time | None = None
    graph: Time | None = None


def time_steps(batch: int, hr: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Times whole adversarial steps of all rows in turns, in host time: each ends with its losses on the host.

    Returns:
        `StepResult` of each row, ready for JSON.
    """
    found: dict[str, StepResult] = {}
    trainees: dict[str, Trainee] = {}
    for name, row in STEP_ROWS.items():
        try:
            with row.context():
                began = time.perf_counter()
                trainees[name] = row.make("gan", batch, hr, device)
                losses = trainees[name].step()
                found[name] = StepResult(load_s=time.perf_counter() - began, losses=losses)
                for _ in range(WARM_UP_STEPS):
                    trainees[name].step()
        except Exception as error:  # compilers and kernels raise their own exceptions
            found[name] = StepResult("failed", why_not(error))
            trainees.pop(name, None)
    turns = {name: partial(_turn, STEP_ROWS[name], trainee) for name, trainee in trainees.items()}
    for name, times in (take_turns(turns, ROUNDS, pause_s=0.0) if turns else {}).items():
        try:
            if times.failure is not None:
                raise times.failure
            found[name].step = time_of(times.wall_s)
            if not STEP_ROWS[name].captured:
                with STEP_ROWS[name].context():
                    found[name].peak_mb = _peak_mb(trainees[name], device)
        except Exception as error:
            found[name] = StepResult("failed", why_not(error))
            trainees.pop(name)
    return {name: asdict(result) for name, result in found.items()}


def _turn(row: StepRow, trainee: Trainee, last: bool) -> Taken:
    with row.context():
        torch.cuda.synchronize()
        began = time.perf_counter()
        trainee.step()
        torch.cuda.synchronize()
        return Taken(time.perf_counter() - began, 0.0)


def _peak_mb(trainee: Trainee, device: torch.device) -> float:
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    trainee.step()
    return (torch.cuda.max_memory_allocated(device) - before) / 1e6


def time_generators(batch: int, hr: int, device: torch.device) -> dict[str, dict[str, Any]]:
    """Times forward and backward passes of G in training for all rows; see `time_steps`."""
    found: dict[str, dict[str, Any]] = {}
    for name, row in GENERATOR_ROWS.items():
        try:
            with row.context():
                result = _time_generator(row.make("pretrain", batch, hr, device))
        except Exception as error:  # compilers and kernels raise their own exceptions
            result = GeneratorResult("failed", why_not(error))
        found[name] = asdict(result)
    return found


def _time_generator(trainee: Trainee) -> GeneratorResult:
    generator, (target, lr) = trainee.networks.generator, trainee.images

    def compute() -> None:
        # Inside the captured call: autocast's cached casts from before a capture would refer to other memory.
        with trainee.autocast():
            sr = generator(lr)
        (sr.float() - target).abs().mean().backward()

    return GeneratorResult(eager=time_calls(compute), graph=time_calls(in_graph(compute)))
