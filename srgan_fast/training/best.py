"""The best model of a stage so far, by the first validation set.

A stage with a pixel loss alone maximises PSNR, so PSNR decides. With a content or adversarial loss PSNR falls while
images improve, so ST-LPIPS decides; if it is not installed, no best model is saved.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from srgan_fast.models.presets import LossRecipe
from srgan_fast.training.checkpoints import SavedState, ValidationState
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


@dataclass(slots=True)
class ValidationRecord:
    """Latest figures of the first validation set, and the best model so far.

    Attributes:
        psnr_y: latest PSNR of luma, in dB; None before the first validation.
        st_lpips: latest ST-LPIPS; None if it was not measured.
        best: the best model; None if there is none.
    """

    psnr_y: float | None = None
    st_lpips: float | None = None
    best: Best | None = None

    @classmethod
    def from_state(cls, state: SavedState) -> "ValidationRecord":
        """The record in a checkpoint; older ones lack some of its keys."""
        best = state.get("best")
        return cls(state.get("psnr"), state.get("st_lpips"), None if best is None else Best(**best))

    def state(self) -> ValidationState:
        """The record, as stored in a checkpoint."""
        return {
            "psnr": self.psnr_y,
            "st_lpips": self.st_lpips,
            "best": None if self.best is None else self.best.as_state(),
        }

    def add(self, scores: Scores, found: Best | None) -> bool:
        """Records the figures of the latest model; returns whether it is the best so far.

        Args:
            scores: figures of the first validation set.
            found: the model as a candidate for the best one; None if it is not.
        """
        self.psnr_y, self.st_lpips = scores.psnr_y, scores.st_lpips
        is_best = found is not None and (self.best is None or self.best.is_beaten_by(found))
        if is_best:
            self.best = found
        return is_best

    def metadata(self) -> dict[str, str]:
        """The latest figures, as metadata of a model file."""
        figures = {}
        if self.psnr_y is not None:
            figures["validation_psnr_y"] = f"{self.psnr_y:.3f}"
        if self.st_lpips is not None:
            figures["validation_st_lpips"] = f"{self.st_lpips:.4f}"
        return figures
