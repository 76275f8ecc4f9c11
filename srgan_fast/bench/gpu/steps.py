"""Whole adversarial training steps on a GPU, each ending with its losses on the host."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from srgan_fast.bench.training.options import Stage
from srgan_fast.bench.training.rows import Losses, Trainee, Work, find_row, make_trainee

WARM_UP_STEPS = 5  # includes the capture of CUDA graphs


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

    @contextmanager
    def context(self) -> Iterator[None]:
        """Sets the float32 precision of its name, independent of PyTorch's defaults."""
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=self.tf32):
            yield


# By precision and way of `comparison.WAYS`.
STEP_ROWS = {
    "bf16": {
        "ours": StepRow("fused-bf16", captured=True),
        "ours, own GEMMs": StepRow("fused-bf16", captured=True),
        "ours, unrecorded": StepRow("fused-bf16"),
        "eager": StepRow("stock-lean-bf16"),
        "recorded": StepRow("stock-lean-bf16", captured=True),
        "compiled": StepRow("stock-lean-bf16", captured=True, compiled=True),
        "common loop": StepRow("stock-bf16"),
    },
    "fp32": {
        "ours": StepRow("fused", captured=True, tf32=True),
        "eager": StepRow("stock-lean", tf32=True),
        "recorded": StepRow("stock-lean", captured=True, tf32=True),
        "compiled": StepRow("stock-lean", captured=True, compiled=True, tf32=True),
        "common loop": StepRow("stock", tf32=True),
    },
}


def step_call(precision: str, way: str, batch: int, hr: int, device: torch.device) -> Callable[[], Losses]:
    """A warmed-up step of the `paper` generator, with VGG19 cut at `features[:18]`."""
    row = STEP_ROWS[precision][way]

    def step() -> Losses:
        with row.context():
            return trainee.step()

    with row.context():
        trainee = row.make("gan", batch, hr, device)
    for _ in range(WARM_UP_STEPS):
        step()
    return step
