"""What is to be measured, checked before anything slow begins."""

from dataclasses import dataclass
from typing import Literal, get_args

from srgan_fast.errors import UsageError
from srgan_fast.models.discriminator import TRUNK_STRIDE

Stage = Literal["gan", "pretrain"]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """What `bench_training` measures.

    Attributes:
        batch: images of a step.
        hr: side of the square high-resolution crops, a multiple of 16: the discriminator halves it four times.
        features: where VGG19 is cut; see `srgan_fast.models.FeatureExtractor`. Its weights are random.
        stage: adversarial step with all three networks, or the generator alone on a pixel loss.
        rounds: timed steps of each row.
        threads: for every row; all CPUs that this process may use if None.
        rows: names; empty for all.
        baseline: row that ratios refer to; if None `stock`, or the fastest right row where `stock` is not measured.

    Raises:
        UsageError: values out of range.
    """

    batch: int = 16
    hr: int = 96
    features: str = "features[:18]"
    stage: Stage = "gan"
    rounds: int = 7
    threads: int | None = None
    rows: tuple[str, ...] = ()
    baseline: str | None = None

    def __post_init__(self) -> None:
        for name in ("batch", "rounds", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} is {value}; it must be at least 1")
        if self.hr < TRUNK_STRIDE or self.hr % TRUNK_STRIDE:
            raise UsageError(f"hr is {self.hr}; it must be a multiple of {TRUNK_STRIDE}")
        if self.stage not in get_args(Stage):
            raise UsageError(f"stage is {self.stage!r}; there are {', '.join(get_args(Stage))}")
        if self.batch == 1 and self.hr == TRUNK_STRIDE and self.stage == "gan":
            raise UsageError(f"one image of {self.hr}x{self.hr} leaves BatchNorm a single value; take a larger batch")
