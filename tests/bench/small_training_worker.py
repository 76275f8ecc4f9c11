"""A worker of the benchmark of training whose networks are small, and which knows rows that go wrong.

Run by the benchmark in place of its own, not by pytest.
"""

import os
import signal
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from srgan_fast.bench.training import rows
from srgan_fast.bench.training.rows import ROWS, TrainingRow
from srgan_fast.models import generator_config

Losses = dict[str, float]
# Of the networks, the losses of a step, and how many steps there were with it: one, three to warm up, then the rounds.
Change = Callable[[Any, Losses, int], Losses]


def nan_gradient(networks: Any, losses: Losses, _: int) -> Losses:
    networks.generator.blocks[1].conv2.weight.grad.mul_(float("nan"))
    return losses


def nan_loss_at_last(_: Any, losses: Losses, step: int) -> Losses:
    return losses | ({"content": float("nan")} if step > 5 else {})


def fails_after(done: int, _: Any, losses: Losses, step: int) -> Losses:
    if step > done:
        raise RuntimeError("out of luck\nand more")
    return losses


def killed_in_the_rounds(_: Any, losses: Losses, step: int) -> Losses:
    if step > 4:
        os.write(2, b"not enough\nmemory\n")
        os.kill(os.getpid(), signal.SIGKILL)
    return losses


SPOILT: dict[str, Change] = {
    "nan-gradient": nan_gradient,
    "nan-loss-at-last": nan_loss_at_last,
    "fails-at-once": partial(fails_after, 0),
    "fails-in-the-rounds": partial(fails_after, 5),
    "fails-after-the-rounds": partial(fails_after, 6),
    "killed-in-the-rounds": killed_in_the_rounds,
}
SPOILT_ROWS = {name: TrainingRow(name, "lean") for name in SPOILT}
two_blocks = partial(generator_config, blocks=2)


def spoilt(make: Callable[..., Any], row: TrainingRow, networks: Any, *how_it_runs: Any) -> Any:
    """What makes the step of a row, and spoils it if the row is to go wrong."""
    step, done = make(row, networks, *how_it_runs), count(1)
    return (lambda hr, lr: SPOILT[row.name](networks, step(hr, lr), next(done))) if row.name in SPOILT else step


if __name__ == "__main__":
    from srgan_fast.bench.training.training_row import TrainingRowProcess
    from srgan_fast.bench.worker import serve

    rows.generator_config = two_blocks
    rows._step = partial(spoilt, rows._step)
    ROWS.update(SPOILT_ROWS)
    serve(TrainingRowProcess())
