"""Whole adversarial training steps on a GPU, each ending with its losses on the host."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from srgan_fast.bench.training.rows import ROWS, Losses, Work, make_trainee

WARM_UP_STEPS = 5  # includes the capture of CUDA graphs

_ROW_OF_WAY = {
    "ours": replace(ROWS["fused"], captured=True),
    "ours, own GEMMs": replace(ROWS["fused"], captured=True),
    "ours, unrecorded": ROWS["fused"],
    "eager": ROWS["stock-lean"],
    "recorded": replace(ROWS["stock-lean"], captured=True),
    "compiled": replace(ROWS["stock-lean"], captured=True, compiled=True),
    "common loop": ROWS["stock"],
}
# By precision and way of `comparison.WAYS`.
STEP_ROWS = {
    "bf16": {way: replace(row, name=f"{row.name}-bf16", precision="bf16") for way, row in _ROW_OF_WAY.items()},
    "fp32": {way: replace(row, tf32=True) for way, row in _ROW_OF_WAY.items()},
}


def step_call(precision: str, way: str, batch: int, hr: int, device: torch.device) -> Callable[[], Losses]:
    """A warmed-up step of the `paper` generator, with VGG19 cut at `features[:18]`.

    Its float32 precision is that of its name, independent of PyTorch's defaults.
    """
    row = STEP_ROWS[precision][way]
    work = Work("gan", batch, hr, "features[:18]", torch.get_num_threads(), str(device))
    context = partial(torch.backends.cudnn.flags, enabled=True, benchmark=True, allow_tf32=row.tf32)

    def step() -> Losses:
        with context():
            return trainee.step()

    with context():
        trainee = make_trainee(row, work, averaged=True)
    for _ in range(WARM_UP_STEPS):
        step()
    return step
