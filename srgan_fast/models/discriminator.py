"""Discriminators: the paper's, and the fully convolutional one of the common training loop.

Both share a trunk of eight 3x3 convolutions (Ledig et al. 2017, figure 4). They return logits; the loss knows whether a
sigmoid belongs to them.
"""

from collections import OrderedDict
from typing import Literal, cast

import torch
from torch import Tensor, nn

from srgan_fast.errors import ModelError
from srgan_fast.ops.modules import LEAKY_SLOPE, ConvBNLeakyReLU, start
from srgan_fast.ops.pending import Pending, convolve
from srgan_fast.ops.switch import Switched

TRUNK_WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
TRUNK_STRIDE = 16  # every second of the eight convolutions halves the image


def _trunk() -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    in_channels = 3
    for i, width in enumerate(TRUNK_WIDTHS):
        layers[f"conv{i + 1}"] = ConvBNLeakyReLU(in_channels, width, stride=1 + i % 2, with_bn=i > 0)
        in_channels = width
    return nn.Sequential(layers)


def _pending(trunk: nn.Sequential, image: Tensor) -> Pending:
    """The trunk with fused kernels."""
    features = start(image)
    for layer in trunk:
        features = cast(ConvBNLeakyReLU, layer).pending(features)
    return features


def _check(image: Tensor) -> None:
    if image.dim() != 4 or image.shape[1] != 3:
        raise ModelError(f"a discriminator takes N, 3, H, W images, got a tensor of shape {tuple(image.shape)}")


class SRGANDiscriminator(Switched):
    """The paper's: the trunk, a dense layer of 1024, a dense layer of one logit.

    Args:
        image_size: side of the square images it will see, a multiple of 16; the dense layer depends on it.

    Raises:
        ModelError: another image size.
    """

    def __init__(self, image_size: int = 96) -> None:
        super().__init__()
        if image_size < TRUNK_STRIDE or image_size % TRUNK_STRIDE:
            raise ModelError(f"image_size is {image_size}; it must be a multiple of {TRUNK_STRIDE}")
        self.image_size = image_size
        self.trunk = _trunk()
        self.dense1 = nn.Linear(TRUNK_WIDTHS[-1] * (image_size // TRUNK_STRIDE) ** 2, 1024)
        self.act = nn.LeakyReLU(LEAKY_SLOPE)
        self.dense2 = nn.Linear(1024, 1)

    def forward(self, image: Tensor) -> Tensor:
        """N, 3, image_size, image_size, in the preset's critic space, to N, 1 logits.

        Raises:
            ModelError: another shape.
        """
        _check(image)
        if image.shape[2:] != (self.image_size, self.image_size):
            raise ModelError(
                f"this discriminator takes {self.image_size}x{self.image_size} images, got "
                f"{image.shape[3]}x{image.shape[2]}; build it with image_size, or use the patch discriminator"
            )
        features = _pending(self.trunk, image).finish() if self._fuses(image) else self.trunk(image)
        features = torch.flatten(features, 1)
        return cast(Tensor, self.dense2(self.act(self.dense1(features))))


class PatchDiscriminator(Switched):
    """PatchGAN: the trunk and a 3x3 convolution that gives one logit for each 16x16 patch, any image size."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = _trunk()
        self.head = nn.Conv2d(TRUNK_WIDTHS[-1], 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """N, 3, H, W, in the preset's critic space, to N, 1, ceil(H / 16), ceil(W / 16) logits."""
        _check(image)
        if self._fuses(image):
            return convolve(_pending(self.trunk, image), self.head.weight, self.head.bias).y
        return cast(Tensor, self.head(self.trunk(image)))

    @staticmethod
    def output_shape(height: int, width: int) -> tuple[int, int, int]:
        """Shape of the logits, without the batch, for images of that size."""
        return (1, -(-height // TRUNK_STRIDE), -(-width // TRUNK_STRIDE))


def build_discriminator(
    kind: Literal["paper", "patch"], image_size: int = 96
) -> SRGANDiscriminator | PatchDiscriminator:
    """The discriminator that a preset names."""
    return SRGANDiscriminator(image_size) if kind == "paper" else PatchDiscriminator()
