"""Named recipes, as data: which generator, discriminator and losses belong together, and in which value ranges.

`paper` is Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR
2017. `pytorch-gan` is the widely copied training loop of the repository of that name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from srgan_fast.architectures.srgan import IDENTITY, IMAGENET_NORMALISED, SIGNED, Conventions, GeneratorConfig
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import ColourMap

Distance = Literal["l1", "mse"]
Adversarial = Literal["lsgan", "bce", "ragan"]
DiscriminatorName = Literal["paper", "patch", "patch-sn", "unet-sn"]


@dataclass(frozen=True, slots=True)
class LossRecipe:
    """What a stage's loss is made of: the weighted sum that the generator minimises, and the discriminator's part.

    Presets, configurations and training steps share it. It is no pydantic model, since steps are also timed where only
    PyTorch is installed; what users write is checked where configurations are read.

    Attributes:
        pixel: distance of images in 0..1.
        pixel_weight: factor of it; 0 leaves it out.
        content: distance between VGG features of the super-resolved image and of what it shall be.
        content_weight: factor of it; 0 leaves it out.
        layers: factor of each layer's distance, by the name of the layer or of a cut; see
            `srgan_fast.models.FeatureExtractor`.
        feature_scale: factor on the features before the distance is taken.
        adversarial: how the discriminator's verdict becomes a loss.
        adversarial_weight: factor of the generator's adversarial loss.
        checkerboard_weight: factor of the pattern that repeats with the scale; 0 leaves it out.
        variation_weight: factor of the total variation; 0 leaves it out.
        discriminator_average: D's loss is `(real + fake) / 2` if true, else their sum.
    """

    pixel: Distance = "l1"
    pixel_weight: float = 0.0
    content: Distance = "l1"
    content_weight: float = 0.0
    layers: Mapping[str, float] = field(default_factory=dict)
    feature_scale: float = 1.0
    adversarial: Adversarial = "bce"
    adversarial_weight: float = 0.0
    checkerboard_weight: float = 0.0
    variation_weight: float = 0.0
    discriminator_average: bool = False

    @property
    def weights(self) -> tuple[float, ...]:
        """Factors of the terms that need no discriminator."""
        return self.content_weight, self.pixel_weight, self.checkerboard_weight, self.variation_weight

    @property
    def layer_weights(self) -> tuple[float, ...]:
        """Factors of the layers, in their order; 1 where none is named, as for an extractor that was cut elsewhere."""
        return tuple(self.layers.values()) or (1.0,)


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe.

    Attributes:
        name: what the user types.
        generator: architecture with its value ranges.
        discriminator: see `srgan_fast.models.build_discriminator`.
        discriminator_map: from images in 0..1 to the input of D.
        feature_map: from images in 0..1 to the input of a torchvision VGG.
        losses: the adversarial stage.
    """

    name: str
    generator: GeneratorConfig
    discriminator: DiscriminatorName
    discriminator_map: ColourMap
    feature_map: ColourMap
    losses: LossRecipe


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        name="paper",
        generator=GeneratorConfig(conventions=Conventions(lr_map=IDENTITY, hr_map=SIGNED)),
        discriminator="paper",
        discriminator_map=SIGNED,
        feature_map=IMAGENET_NORMALISED,
        losses=LossRecipe(
            content="mse",
            content_weight=1.0,
            layers={"vgg54": 1.0},
            feature_scale=1 / 12.75,
            adversarial="bce",
            adversarial_weight=1e-3,
            discriminator_average=False,
        ),
    ),
    "pytorch-gan": Preset(
        name="pytorch-gan",
        # The eps of 0.8 is that repository's second positional argument of BatchNorm2d, meant as a momentum or not.
        generator=GeneratorConfig(
            block_bias=True,
            upsample_bn=True,
            conventions=Conventions(
                block_eps=0.8, output="tanh", lr_map=IMAGENET_NORMALISED, hr_map=IMAGENET_NORMALISED
            ),
        ),
        discriminator="patch",
        discriminator_map=IMAGENET_NORMALISED,
        feature_map=IMAGENET_NORMALISED,
        losses=LossRecipe(
            content="l1",
            content_weight=1.0,
            layers={"features[:18]": 1.0},
            feature_scale=1.0,
            adversarial="lsgan",
            adversarial_weight=1e-3,
            discriminator_average=True,
        ),
    ),
}


def get_preset(name: str) -> Preset:
    """The preset of that name.

    Raises:
        ModelError: there is none; the message lists those there are.
    """
    try:
        return PRESETS[name]
    except KeyError:
        raise ModelError(f"unknown preset {name!r}; choose from {', '.join(sorted(PRESETS))}") from None


def generator_config(preset: str, *, scale: int = 4, channels: int = 64, blocks: int = 16) -> GeneratorConfig:
    """A preset's generator in another size.

    Raises:
        ModelError: unknown preset, or a size that no generator has.
    """
    return replace(get_preset(preset).generator, scale=scale, channels=channels, blocks=blocks)
