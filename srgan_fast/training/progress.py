"""Progress of a run: reported to an observer, and written as curves."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Protocol

from srgan_fast.training.config import StageName, TrainConfig
from srgan_fast.training.curves import Curves
from srgan_fast.training.stage import FinishedStep
from srgan_fast.training.validation import Scores

_RATE_STEPS = 20  # steps over which the speed is averaged


class Observer(Protocol):
    """Receives a run's progress; the command line's observer shows a live line."""

    def started(self, stage: str, step: int, steps: int) -> None:
        """A stage starts or resumes at `step` of `steps`."""

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        """Step number `step` was finished; `rate` is the speed in images per second."""

    def validated(self, step: int, scores: Scores) -> None:
        """The averaged generator was measured after `step` steps; called for each validation set."""

    def noted(self, text: str) -> None:
        """A message for the user."""


class SilentObserver:
    """An observer that ignores everything; base of observers that need only some of the methods."""

    def started(self, stage: str, step: int, steps: int) -> None:
        """See `Observer`."""

    def stepped(self, step: int, rate: float, losses: dict[str, float]) -> None:
        """See `Observer`."""

    def validated(self, step: int, scores: Scores) -> None:
        """See `Observer`."""

    def noted(self, text: str) -> None:
        """See `Observer`."""


class TrainingProgress:
    """Reports a run's progress to an observer, and writes its curves within `recording`.

    Args:
        config: configuration of the run.
        observer: receiver; None in all processes except the first, which then report and write nothing.
    """

    def __init__(self, config: TrainConfig, observer: Observer | None) -> None:
        self._config, self._observer = config, observer
        self._curves: Curves | None = None
        self._times: deque[float] = deque(maxlen=_RATE_STEPS + 1)

    @contextmanager
    def recording(self, first: int) -> Iterator[None]:
        """Context in which curves are written.

        Args:
            first: see `Curves`.
        """
        if self._observer is None:
            yield
            return
        with closing(Curves(self._config.run.output, self._config.pretrain.steps, first)) as curves:
            self._curves = curves
            try:
                yield
            finally:
                self._curves = None

    def noted(self, text: str) -> None:
        """Passes on a message for the user."""
        if self._observer is not None:
            self._observer.noted(text)

    def started(self, stage: StageName, step: int) -> None:
        """Reports the start of a stage at a step."""
        if self._observer is not None:
            self._observer.started(stage, step, self._config.stage(stage).steps)

    def stepped(self, stage: StageName, step: FinishedStep) -> None:
        """Reports a step, and writes its losses every `run.log_every` steps."""
        if self._observer is not None:
            self._observer.stepped(step.number, self._rate(), step.losses)
        if self._curves is not None and step.number % self._config.run.log_every == 0:
            self._curves.stepped(stage, step.number, {**step.losses, "learning_rate": step.learning_rate})

    def validated(self, stage: StageName, step: int, scores: Scores) -> None:
        """Reports and writes the figures of a validation set."""
        if self._observer is not None:
            self._observer.validated(step, scores)
        if self._curves is not None:
            self._curves.validated(stage, step, scores)

    def _rate(self) -> float:
        """Images per second over the last steps, including validations and checkpoints in between."""
        self._times.append(time.monotonic())
        spent = self._times[-1] - self._times[0]
        return self._config.data.batch * (len(self._times) - 1) / spent if spent else 0.0
