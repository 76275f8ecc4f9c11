"""The section `data`: images for training and validation, and degradations of low-resolution images."""

import re
from pathlib import Path

from pydantic import field_validator, model_validator

from srgan_fast.training.config.fields import ConfigSection, Percentage, Positive, Quality, Range, Share


class RoundSection(ConfigSection):
    """One round of second-order degradations; see `srgan_fast.data.second_order.Round`.

    The defaults are those of the first round in Real-ESRGAN's published training options (Wang et al. 2021).
    """

    blur: Range = (0.2, 3.0)
    blur_probability: Share = 1.0
    sinc_probability: Share = 0.1
    resize: Range = (0.15, 1.5)
    shrink_probability: Share = 0.7
    enlarge_probability: Share = 0.2
    noise: Range = (1.0, 30.0)
    noise_probability: Share = 0.5
    poisson: Range = (0.05, 3.0)
    poisson_probability: Share = 0.5
    gray_probability: Share = 0.4
    jpeg: Quality = (30, 95)
    jpeg_probability: Share = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> "RoundSection":
        self.check_ranges("blur", "resize", "noise", "poisson", "jpeg")
        if not 0 < self.resize[0] <= 1 <= self.resize[1]:
            raise ValueError(f"resize must be [lowest, highest] with 0 < lowest <= 1 <= highest, got {self.resize}")
        for one, other in (("shrink", "enlarge"), ("noise", "poisson")):
            both = getattr(self, f"{one}_probability") + getattr(self, f"{other}_probability")
            if both > 1:
                raise ValueError(
                    f"{one}_probability and {other}_probability exclude each other; their sum is {both}, more than 1"
                )
        return self


class SecondRoundSection(RoundSection):
    """The second round, with Real-ESRGAN's second-round defaults."""

    blur: Range = (0.2, 1.5)
    blur_probability: Share = 0.8
    resize: Range = (0.3, 1.2)
    shrink_probability: Share = 0.4
    enlarge_probability: Share = 0.3
    noise: Range = (1.0, 25.0)
    poisson: Range = (0.05, 2.5)


class SecondOrderSection(ConfigSection):
    """Two rounds of degradations and a final sinc filter, with Real-ESRGAN's ranges by default (Wang et al. 2021).

    Attributes:
        first: first round, at the original's scale.
        second: second round, near the scale of the low-resolution image.
        final_sinc_probability: probability of a sinc filter on the low-resolution image, before or after the last JPEG
            compression.
    """

    first: RoundSection = RoundSection()
    second: SecondRoundSection = SecondRoundSection()
    final_sinc_probability: Share = 0.8


class DegradationSection(ConfigSection):
    """Degradations of low-resolution images besides downscaling, drawn for every crop; (0, 0) for none.

    Attributes:
        blur: range of the standard deviation of a Gaussian blur on the original, in the original's pixels.
        noise: range of the standard deviation of Gaussian noise, in 8-bit steps.
        jpeg: range of the JPEG quality, 1..100.
        second_order: two rounds of blur, resize, noise and JPEG instead of these; an empty table for Real-ESRGAN's.
    """

    blur: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    jpeg: tuple[Percentage, Percentage] = (0, 0)
    second_order: SecondOrderSection | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "DegradationSection":
        self.check_ranges("blur", "noise", "jpeg")
        if self.jpeg[1] and not self.jpeg[0]:
            raise ValueError("jpeg qualities must lie in 1..100, or be [0, 0] for no compression")
        if self.second_order is not None and any(high for _, high in (self.blur, self.noise, self.jpeg)):
            raise ValueError("second_order replaces blur, noise and jpeg; leave those out")
        return self


class DataSection(ConfigSection):
    """Training and validation images.

    Attributes:
        train: folder of original images, searched recursively.
        targets: folder with an image for each original, of the same name and size, that a stronger network made from
            the low-resolution image; empty for none. Pixel and content losses then compare with a mixture of target
            and original.
        targets_weight: share of the target in the mixture; the original has the rest. Stages can override it.
        lr: folder with the low-resolution image of each original, of the same name and exactly 1/scale of its size;
            empty to downscale the originals.
        validation: folder of originals, or a table of named validation sets with their folders, the first of which
            selects the best model; empty for no validation.
        crop: side of a high-resolution crop, a multiple of the scale.
        batch: crops per step, over all processes and accumulated parts.
        degradations: degradations of low-resolution crops, for models that are applied to real photographs.
    """

    train: Path
    targets: Path | None = None
    targets_weight: Share = 1.0
    lr: Path | None = None
    validation: Path | dict[str, Path] | None = None
    crop: Positive = 96
    batch: Positive = 16
    degradations: DegradationSection = DegradationSection()

    @field_validator("validation", "targets", "lr", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("validation", mode="before")
    @classmethod
    def _one_set_or_several(cls, value: object) -> object:
        if isinstance(value, dict):
            for name, folder in value.items():
                if not isinstance(folder, str | Path) or not folder:
                    raise ValueError(f"{name} must be a folder, not {folder!r}")
                if not re.fullmatch(r"[^/\s]+", name):  # used in names of curves, where a slash separates groups
                    raise ValueError(f"{name!r} is not a valid name of a set; leave out slashes and spaces")
            return value or None
        if value is not None and not isinstance(value, str | Path):
            raise ValueError(f"must be a folder, or a table of names and folders, not {value!r}")
        return value

    @property
    def first_validation(self) -> str:
        """Folder of the validation set that selects the best model; empty if there is none."""
        folders = self.validation
        return str(next(iter(folders.values())) if isinstance(folders, dict) else folders or "")

    @model_validator(mode="after")
    def _one_source(self) -> "DataSection":
        if self.lr is not None and self.degradations != DegradationSection():
            raise ValueError("degradations apply only when originals are downscaled; leave out degradations or lr")
        return self
