"""The learning rate is the promised function of the step."""

import math

import pytest

from srgan_fast.training.config import ScheduleSection
from srgan_fast.training.schedule import learning_rate


def rates(schedule: ScheduleSection, steps: int, rate: float = 1.0) -> list[float]:
    return [learning_rate(schedule, rate, step, steps) for step in range(steps)]


def test_constant_is_the_rate() -> None:
    assert rates(ScheduleSection(), 5, 3e-4) == [3e-4] * 5


def test_warmup_rises_linearly_and_reaches_the_rate_with_its_last_step() -> None:
    assert rates(ScheduleSection(warmup=4), 7, 0.8) == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8])


def test_cosine_is_half_a_wave_down_to_the_floor() -> None:
    seen = rates(ScheduleSection(kind="cosine", floor=0.1), 100, 2.0)
    assert seen[0] == 2.0
    assert seen[50] == pytest.approx(2.0 * (0.1 + 0.9 / 2))
    assert seen[25] == pytest.approx(2.0 * (0.1 + 0.9 * (1 + math.sqrt(0.5)) / 2))
    assert seen == sorted(seen, reverse=True)
    assert 0.2 < seen[-1] < 0.2 * 1.01
    schedule = ScheduleSection(kind="cosine", floor=0.1)
    assert learning_rate(schedule, 2.0, 100, 100) == pytest.approx(0.2)
    assert learning_rate(schedule, 2.0, 1000, 100) == pytest.approx(0.2)


def test_cosine_with_floor_0_never_reaches_0_within_the_stage() -> None:
    assert min(rates(ScheduleSection(kind="cosine", floor=0.0), 10)) > 0


def test_steps_multiply_at_each_milestone_in_any_order() -> None:
    expected = [1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25]
    for milestones in ((2, 5), (5, 2)):
        schedule = ScheduleSection(kind="steps", milestones=milestones, factor=0.5)
        assert rates(schedule, 7) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["cosine", "steps"])
def test_warmup_multiplies_the_other_kinds(kind: str) -> None:
    plain = ScheduleSection.model_validate({"kind": kind, "milestones": [3], "factor": 0.1})
    warm = plain.model_copy(update={"warmup": 4})
    ramp = [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert rates(warm, 6) == pytest.approx([a * b for a, b in zip(rates(plain, 6), ramp, strict=True)])


@pytest.mark.parametrize("kind", ["constant", "cosine", "steps"])
def test_stage_of_one_step_has_the_rate(kind: str) -> None:
    assert rates(ScheduleSection.model_validate({"kind": kind}), 1, 0.3) == [0.3]
