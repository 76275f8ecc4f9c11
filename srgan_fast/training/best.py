"""The best model of a stage so far, by the first validation set.

A stage with a pixel loss alone maximises PSNR, so PSNR decides. With a content or adversarial loss PSNR falls while
images improve, so ST-LPIPS decides; if it is not installed, no best model is saved.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from srgan_fast.models.presets import LossRecipe
from srgan_fast.training.validation import Scores

Figure = Literal["psnr_y", "st_lpips"]


@dataclass(frozen=True, slots=True)
class Best:
    """Figure of a stage's best model, and how it was measured.

    Attributes:
        stage: name of the stage.
        validation: folder of the validation set, after its name if it has one.
        figure: name of the figure that models are compared by.
        value: value of the figure.
        step: number of finished steps when it was measured.
    """

    stage: str
    validation: str
    figure: Figure
    value: float
    step: int

    def as_state(self) -> dict[str, Any]:
        """The fields, as stored in a checkpoint."""
        return asdict(self)

    def is_beaten_by(self, other: "Best") -> bool:
        """Whether another model replaces this one: it is better, or was measured differently and is not comparable."""
        measured = (self.stage, self.validation, self.figure)
        if measured != (other.stage, other.validation, other.figure):
            return True
        return other.value > self.value if self.figure == "psnr_y" else other.value < self.value


def deciding_figure(recipe: LossRecipe, adversarial: bool) -> Figure:
    """The figure that selects the best model of a stage with this recipe."""
    return "st_lpips" if adversarial or recipe.content_weight else "psnr_y"


def candidate(stage: str, step: int, scores: Scores, folder: str, figure: Figure) -> Best | None:
    """The latest scores as a candidate for the best model; None if they lack the figure."""
    value = scores.psnr_y if figure == "psnr_y" else scores.st_lpips
    return None if value is None else Best(stage, f"{scores.name} {folder}".strip(), figure, value, step)
