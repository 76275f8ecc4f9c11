"""The sections `pretrain` and `gan`: steps, losses and learning rates of the two stages."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field, model_validator

from srgan_fast.models.presets import Adversarial, DiscriminatorName, Distance
from srgan_fast.training.config.fields import ConfigSection, Count, Decay, Positive, Rate, Share, Weight

StageName = Literal["pretrain", "gan"]
# An index here names a stage's checkpoints and seeds its crops, so it is the same if the other stage is skipped.
STAGES: tuple[StageName, ...] = get_args(StageName)
Betas = tuple[Decay, Decay]
_ADAM: Betas = (0.9, 0.999)  # Ledig et al. 2017, section 3.2: beta1 = 0.9; beta2 is Adam's default


class ScheduleSection(ConfigSection):
    """Learning rate schedule of a stage, a function of the step alone.

    Attributes:
        kind: `constant`, `cosine` (half a period, down to `floor` times the rate) or `steps`.
        warmup: number of steps over which the rate rises linearly from 0.
        floor: for `cosine`, last rate as a fraction of the highest.
        milestones: for `steps`, the steps at which the rate changes.
        factor: for `steps`, factor of the rate at each milestone.
    """

    kind: Literal["constant", "cosine", "steps"] = "constant"
    warmup: Count = 0
    floor: Share = 0.01
    milestones: tuple[Positive, ...] = ()
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1


class FeaturesSection(ConfigSection):
    """Network and layers of the content loss.

    Attributes:
        vgg: `vgg19`, `vgg16`, or `keras-vgg16` for Keras' weights under torchvision's names.
        weights: `torchvision` to download them, `random` for tests, or a file.
        cut: single layer whose features are compared, after its ReLU: `vgg54`, `conv5_4` or `features[:n]`.
        layers: several layers with their weights; `conv3_3` is before its ReLU, `relu3_3` after it. If neither cut nor
            layers are given, `gan` uses the preset's cut, and `pretrain` the last convolution of each of the five
            groups, before its ReLU, with the weights 0.1, 0.1, 1, 1, 1.
    """

    vgg: Literal["vgg19", "vgg16", "keras-vgg16"] = "vgg19"
    weights: str = "torchvision"
    cut: str = ""
    layers: dict[str, Weight] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _cut_or_layers(self) -> "FeaturesSection":
        if self.cut and self.layers:
            raise ValueError("cut names one layer and layers name several; leave out one of them")
        if self.layers and not any(self.layers.values()):
            raise ValueError("all weights of layers are 0; for no content loss set content_weight to 0")
        return self


class StageSection(ConfigSection):
    """What both stages have.

    Attributes:
        steps: number of steps; 0 to skip the stage.
        targets_weight: value of `data.targets_weight` for this stage, if different; 0 for the originals alone.
        learning_rate: highest learning rate, of all networks.
        betas: Adam's betas.
        schedule: learning rate schedule.
        freeze_batchnorm_after: number of steps after which the generator's BatchNorms use their running statistics,
            which then stay constant, so that training and the saved model compute the same function; never by default.
        features: network and layers of the content loss.
        checkerboard_weight: factor of the loss on patterns that repeat with the scale, see `losses.checkerboard`.
        variation_weight: factor of the total variation loss.
    """

    steps: Count = 0
    targets_weight: Share | None = None
    learning_rate: Rate = 1e-4
    betas: Betas = _ADAM
    schedule: ScheduleSection = ScheduleSection()
    freeze_batchnorm_after: Count | None = None
    features: FeaturesSection = FeaturesSection()
    checkerboard_weight: Weight = 0.0
    variation_weight: Weight = 0.0


class PretrainSection(StageSection):
    """Stage without a discriminator: a pixel loss (SRResNet), a VGG content loss, or both.

    Both losses compare with `data.targets` if given.

    Attributes:
        loss: distance of pixels in the pixel loss.
        pixel_weight: factor of the pixel loss.
        content: distance of VGG features in the content loss.
        content_weight: factor of the content loss; by default 1 if `features` are given, else 0.
        feature_scale: factor applied to the features before the distance is computed.
    """

    loss: Distance = "mse"
    pixel_weight: Weight = 1.0
    content: Distance = "l1"
    content_weight: Weight = 0.0
    feature_scale: Weight = 1.0

    @model_validator(mode="before")
    @classmethod
    def _features_count(cls, values: Any) -> Any:
        """Sets the default of `content_weight` to 1 if features are given."""
        if isinstance(values, dict) and values.get("features") and "content_weight" not in values:
            return {**values, "content_weight": 1.0}
        return values

    @model_validator(mode="after")
    def _learns(self) -> "PretrainSection":
        if self.steps and not self.pixel_weight and not self.content_weight:
            raise ValueError("pixel_weight and content_weight are 0; the generator would learn nothing")
        return self


class GanSection(StageSection):
    """Adversarial stage.

    By default, the discriminator, the adversarial loss, and distance, scale and layers of the content loss are those of
    the preset.

    Pixel and content losses compare with `data.targets` if given; the discriminator's real images are always the
    originals, and its BatchNorms are never frozen.

    Attributes:
        discriminator: `paper` ends in dense layers, `patch` has one logit per 16x16 pixels; both have BatchNorm.
            `patch-sn` is `patch` with spectral norm instead of BatchNorm. `unet-sn` is Real-ESRGAN's U-Net with
            spectral norm and one logit per pixel.
        content: distance of VGG features in the content loss.
        content_weight: factor of the content loss.
        feature_scale: factor applied to the features before the distance is computed.
        adversarial: kind of adversarial loss.
        adversarial_weight: factor of the generator's adversarial loss.
        pixel: distance of images in 0..1 in the pixel loss.
        pixel_weight: factor of the pixel loss.
        discriminator_average: whether the discriminator's loss is `(real + fake) / 2`; otherwise `real + fake`.
    """

    discriminator: DiscriminatorName | None = None
    content: Distance | None = None
    content_weight: Weight = 1.0
    feature_scale: Weight | None = None
    adversarial: Adversarial | None = None
    adversarial_weight: Weight | None = None
    pixel: Distance = "l1"
    pixel_weight: Weight = 0.0
    discriminator_average: bool | None = None
