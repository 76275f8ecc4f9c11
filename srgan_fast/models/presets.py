"""Named recipes, as data: which generator, discriminator and losses belong together, and in which value ranges.

`paper` is Ledig et al., "Photo-Realistic Single Image Super-Resolution Using a Generative Adversarial Network", CVPR
2017. `pytorch-gan` is the widely copied training loop of the repository of that name.
"""

from dataclasses import dataclass, replace
from typing import Literal

from srgan_fast.architectures.srgan import IDENTITY, IMAGENET_NORMALISED, SIGNED, Conventions, GeneratorConfig
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import ColourMap


@dataclass(frozen=True, slots=True)
class LossRecipe:
    """Losses of the adversarial stage.

    Attributes:
        content: distance between VGG features of the super-resolved and the original image.
        features: where VGG19 is cut; see `srgan_fast.models.FeatureExtractor`.
        feature_scale: factor on the features before the distance is taken.
        adversarial: how the discriminator's verdict becomes a loss.
        adversarial_weight: factor of the adversarial term beside the content term.
        discriminator_average: D's loss is `(real + fake) / 2` if true, else their sum.
    """

    content: Literal["l1", "mse"]
    features: str
    feature_scale: float
    adversarial: Literal["bce", "lsgan"]
    adversarial_weight: float
    discriminator_average: bool


@dataclass(frozen=True, slots=True)
class Preset:
    """A recipe.

    Attributes:
        name: what the user types.
        generator: architecture with its value ranges.
        discriminator: `paper` ends in dense layers and takes one image size, `patch` is fully convolutional.
        critic_map: from images in 0..1 to the input of D.
        feature_map: from images in 0..1 to the input of a torchvision VGG.
        losses: the adversarial stage.
    """

    name: str
    generator: GeneratorConfig
    discriminator: Literal["paper", "patch"]
    critic_map: ColourMap
    feature_map: ColourMap
    losses: LossRecipe


PRESETS: dict[str, Preset] = {
    "paper": Preset(
        name="paper",
        generator=GeneratorConfig(conventions=Conventions(lr_map=IDENTITY, hr_map=SIGNED)),
        discriminator="paper",
        critic_map=SIGNED,
        feature_map=IMAGENET_NORMALISED,
        losses=LossRecipe(
            content="mse",
            features="vgg54",
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
        critic_map=IMAGENET_NORMALISED,
        feature_map=IMAGENET_NORMALISED,
        losses=LossRecipe(
            content="l1",
            features="features[:18]",
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
