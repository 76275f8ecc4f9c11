"""The best model of a stage so far, by the first validation set.

Where pixels alone are trained on, PSNR is what the stage maximises. With features or a discriminator it falls while
images become better, so that ST-LPIPS decides there; where that is not installed, no best model is kept.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from srgan_fast.models.presets import LossRecipe
from srgan_fast.training.validation import Scores

Figure = Literal["psnr_y", "st_lpips"]


@dataclass(frozen=True, slots=True)
class Best:
    """What a stage's best model had.

    Attributes:
        stage: its name.
        validation: name or folder of the set that decided.
        figure: that decided.
        value: of it.
        step: number of steps after which it was measured.
    """

    stage: str
    validation: str
    figure: Figure
    value: float
    step: int

    def as_state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return asdict(self)

    def is_beaten_by(self, other: "Best") -> bool:
        """Whether another one is better, or was measured in another way, so that the two cannot be compared."""
        measured = (self.stage, self.validation, self.figure)
        if measured != (other.stage, other.validation, other.figure):
            return True
        return other.value > self.value if self.figure == "psnr_y" else other.value < self.value


def deciding_figure(recipe: LossRecipe, adversarial: bool) -> Figure:
    """Which figure chooses the best model of a stage with that recipe."""
    return "st_lpips" if adversarial or recipe.content_weight else "psnr_y"


def candidate(stage: str, step: int, scores: Scores, folder: str, figure: Figure) -> Best | None:
    """What was just measured, as a candidate; None where the figure could not be measured."""
    value = scores.psnr_y if figure == "psnr_y" else scores.st_lpips
    return None if value is None else Best(stage, f"{scores.name} {folder}".strip(), figure, value, step)
