"""VGG's features of the target and of SR in a training step, and the content loss of both."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from torch import Tensor
from torch.profiler import record_function

from srgan_fast.models.features import FeatureExtractor
from srgan_fast.models.presets import LossRecipe
from srgan_fast.ops import PackedWeights
from srgan_fast.training import losses

Autocast = Callable[[], AbstractContextManager[object]]
# Elements of weights that VGG's cache does not keep packed: those of 512 to 512 channels would be 1.1 GB in Winograd's
# domain, as much as all else of a step to conv5_4; packing them in each call takes about 2 % of it.
LARGE_WEIGHT = 1 << 20


class Features:
    """VGG and its packed weights, which are reused from step to step."""

    def __init__(self, extractor: FeatureExtractor) -> None:
        self._extractor, self._weights = extractor, PackedWeights(most=LARGE_WEIGHT)

    def begin(self) -> None:
        """Prepares for a step; must be called before each one."""
        if self._extractor.trainable:  # torch's fused optimisers do not increment the version of changed tensors
            self._weights.clear()

    def _of_both(self, target: Tensor, sr: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Features of the target, without gradient, and of SR."""
        if isinstance(self._extractor, FeatureExtractor):
            return self._extractor.of_two(target, sr)
        with torch.no_grad():
            wanted = self._of(target)  # compiled
        return wanted, self._of(sr)

    def of_target(self, target: Tensor, autocast: Autocast) -> list[Tensor]:
        """Features of the target alone, without gradient."""
        with record_function("VGG(HR) forward"), torch.no_grad(), autocast(), self._weights.active():
            return self._of(target)

    def _of(self, image: Tensor) -> list[Tensor]:
        maps: Tensor | list[Tensor] = self._extractor(image)
        return [maps] if isinstance(maps, Tensor) else maps

    def content(
        self, recipe: LossRecipe, sr: Tensor, target: Tensor, autocast: Autocast, wanted: list[Tensor] | None = None
    ) -> Tensor:
        """The content loss of SR; only SR gets a gradient. `wanted` is the result of `of_target`, if it is there."""
        if wanted is not None:
            with record_function("VGG(SR) forward"), autocast(), self._weights.active():
                given = self._of(sr)
        else:
            with record_function("VGG forward"), autocast(), self._weights.active():
                wanted, given = self._of_both(target, sr)
        return losses.layered_content_loss(recipe.content, given, wanted, recipe.layer_weights, recipe.feature_scale)
