"""The losses of each stage (the preset's recipe with the configuration's changes), and the VGG network for them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeVar, cast

from srgan_fast.errors import ModelError, TrainingError
from srgan_fast.models.features import DEFAULT_LAYERS, FeatureExtractor, VggName
from srgan_fast.models.presets import LossRecipe, Preset
from srgan_fast.training.config import FeaturesSection, GanSection, PretrainSection

_T = TypeVar("_T")


def stage_recipe(section: PretrainSection | GanSection, preset: Preset) -> LossRecipe:
    """The losses of a stage.

    Args:
        section: the stage's section of the configuration.
        preset: source of defaults for the adversarial stage; the first stage has only a pixel loss by default.
    """
    if isinstance(section, PretrainSection):
        return LossRecipe(
            pixel=section.loss,
            pixel_weight=section.pixel_weight,
            content=section.content,
            content_weight=section.content_weight,
            layers=_layers(section.features, DEFAULT_LAYERS[_vgg(section.features)]),
            feature_scale=section.feature_scale,
            checkerboard_weight=section.checkerboard_weight,
            variation_weight=section.variation_weight,
        )
    base = preset.losses
    return replace(
        base,
        pixel=section.pixel,
        pixel_weight=section.pixel_weight,
        content=_given(section.content, base.content),
        content_weight=section.content_weight,
        layers=_layers(section.features, base.layers),
        feature_scale=_given(section.feature_scale, base.feature_scale),
        checkerboard_weight=section.checkerboard_weight,
        variation_weight=section.variation_weight,
        adversarial=_given(section.adversarial, base.adversarial),
        adversarial_weight=_given(section.adversarial_weight, base.adversarial_weight),
        discriminator_average=_given(section.discriminator_average, base.discriminator_average),
    )


def _given(value: _T | None, default: _T) -> _T:
    return default if value is None else value


def build_features(section: PretrainSection | GanSection, preset: Preset) -> FeatureExtractor | None:
    """The network of a stage's content loss; None if the loss has weight 0.

    Raises:
        TrainingError: unknown layers, or weights that cannot be read.
    """
    recipe, features = stage_recipe(section, preset), section.features
    if not recipe.content_weight:
        return None
    # Presets and `cut` name a cut, `layers` and pretrain's defaults name layers: two naming schemes.
    own = section.features.layers or (isinstance(section, PretrainSection) and not features.cut)
    cut, layers = ("", tuple(recipe.layers)) if own else (next(iter(recipe.layers)), ())
    stage = "pretrain" if isinstance(section, PretrainSection) else "gan"
    try:
        if features.vgg == "keras-vgg16":
            return FeatureExtractor.from_keras_vgg16(Path(features.weights), cut, layers=layers)
        known = features.weights in ("torchvision", "random")
        weights = cast(Literal["torchvision", "random"], features.weights) if known else Path(features.weights)
        return FeatureExtractor(cut, layers=layers, weights=weights, vgg=_vgg(features), input_map=preset.feature_map)
    except ModelError as error:
        raise TrainingError(f"{stage}.features (vgg, weights, cut, layers): {error}") from None


def _layers(features: FeaturesSection, default: Mapping[str, float]) -> Mapping[str, float]:
    return features.layers or ({features.cut: 1.0} if features.cut else default)


def _vgg(features: FeaturesSection) -> VggName:
    return "vgg19" if features.vgg == "vgg19" else "vgg16"
