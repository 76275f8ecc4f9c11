"""The whole configuration, with the checks that involve several sections."""

from pydantic import model_validator

from srgan_fast.models import PRESETS
from srgan_fast.models.presets import DiscriminatorName
from srgan_fast.training.config.data import DataSection
from srgan_fast.training.config.fields import ConfigSection
from srgan_fast.training.config.generator import GeneratorSection
from srgan_fast.training.config.run import RunSection
from srgan_fast.training.config.stages import GanSection, PretrainSection, StageName

# Multiples that the sides of a discriminator's input must have; for `patch` all sides are allowed.
_DISCRIMINATOR_MULTIPLES: dict[DiscriminatorName, tuple[str, int]] = {
    "paper": ("the paper's discriminator", 16),
    "unet-sn": ("the U-Net discriminator", 8),
}


class TrainConfig(ConfigSection):
    """Configuration of a whole run."""

    generator: GeneratorSection = GeneratorSection()
    data: DataSection
    pretrain: PretrainSection = PretrainSection()
    gan: GanSection = GanSection()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _crop_fits(self) -> "TrainConfig":
        crop, generator = self.data.crop, self.generator
        if crop % generator.scale:
            raise ValueError(f"data.crop is {crop}; it must be a multiple of the scale {generator.scale}")
        settings = generator.settings()
        if settings is not None and crop % (multiple := settings.scale * settings.unshuffle):
            raise ValueError(
                f"data.crop is {crop}; {generator.architecture} of scale {settings.scale} unshuffles its images and "
                f"needs a multiple of {multiple}"
            )
        name, multiple = _DISCRIMINATOR_MULTIPLES.get(self.discriminator, ("", 1))
        if self.gan.steps and crop % multiple:
            raise ValueError(f"data.crop is {crop}; {name} needs a multiple of {multiple}")
        return self

    @model_validator(mode="after")
    def _has_batchnorm_to_freeze(self) -> "TrainConfig":
        if self.generator.settings() is not None:
            for name, stage in (("pretrain", self.pretrain), ("gan", self.gan)):
                if stage.freeze_batchnorm_after is not None:
                    raise ValueError(
                        f"{name}.freeze_batchnorm_after: {self.generator.architecture} has no BatchNorms; leave it out"
                    )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> "TrainConfig":
        if self.data.batch % self.run.accumulate:
            raise ValueError(f"data.batch is {self.data.batch}; it must be a multiple of run.accumulate")
        return self

    @model_validator(mode="after")
    def _trains(self) -> "TrainConfig":
        without = not self.pretrain.steps and not self.gan.pixel_weight and not self.gan.content_weight
        if self.data.targets is not None and without:
            raise ValueError(
                "only pixel and content losses use data.targets; set pretrain.steps, gan.pixel_weight or "
                "gan.content_weight"
            )
        if not self.pretrain.steps and not self.gan.steps:
            raise ValueError("nothing to do: set pretrain.steps or gan.steps")
        return self

    def stage(self, name: StageName) -> PretrainSection | GanSection:
        """ConfigSection of a stage."""
        return self.pretrain if name == "pretrain" else self.gan

    @property
    def discriminator(self) -> DiscriminatorName:
        """Name of the configured discriminator; the preset's by default."""
        return self.gan.discriminator or PRESETS[self.generator.preset].discriminator
