"""The learning rate as a function of the step alone, so that checkpoints need not store a scheduler's state."""

import math

from srgan_fast.training.config import ScheduleSection


def learning_rate(schedule: ScheduleSection, rate: float, step: int, steps: int) -> float:
    """Learning rate at step `step` (from 0) of a stage of `steps` steps; `rate` is the highest one."""
    warm = min(1.0, (step + 1) / schedule.warmup) if schedule.warmup else 1.0
    factor = 1.0
    if schedule.kind == "cosine":
        progress = min(1.0, step / max(1, steps))
        factor = schedule.floor + (1 - schedule.floor) * 0.5 * (1 + math.cos(math.pi * progress))
    elif schedule.kind == "steps":
        factor = schedule.factor ** sum(step >= milestone for milestone in schedule.milestones)
    return rate * warm * factor
