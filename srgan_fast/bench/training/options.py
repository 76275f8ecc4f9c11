"""Options of the training benchmark, checked before anything slow begins."""

from dataclasses import dataclass
from typing import Literal, get_args

from srgan_fast.errors import UsageError
from srgan_fast.models.discriminator import TRUNK_STRIDE

Stage = Literal["gan", "pretrain"]


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """Options of `bench_training`.

    Batch size; side of the square high-resolution crops, a multiple of 16, since the discriminator halves it four
    times; layer of VGG19 (see `srgan_fast.models.FeatureExtractor`; its weights are random); all three networks or only
    the generator; timed steps of each row; CPU threads (None: all that this process may use); names of rows (empty:
    all); row that ratios refer to (None: `stock`, or the fastest correct row if that is not measured).

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
            raise UsageError(f"one image of {self.hr}x{self.hr} leaves BatchNorm a single value; use a larger batch")
