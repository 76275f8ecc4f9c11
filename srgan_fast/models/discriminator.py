"""Discriminators: the paper's, the fully convolutional one of the common training loop, and Real-ESRGAN's U-Net.

The first two share a trunk of eight 3x3 convolutions (Ledig et al. 2017, figure 4); the second can also use spectral
norm instead of BatchNorm. All return logits; a sigmoid, if any, is part of the loss.
"""

from collections import OrderedDict
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.errors import ModelError
from srgan_fast.models.presets import DiscriminatorName
from srgan_fast.ops.modules import LEAKY_SLOPE, ConvBNLeakyReLU, start
from srgan_fast.ops.pending import convolve
from srgan_fast.ops.prologue import Pending
from srgan_fast.ops.spectral import SpectralConv2d
from srgan_fast.ops.switch import Switched

TRUNK_WIDTHS = (64, 64, 128, 128, 256, 256, 512, 512)
TRUNK_STRIDE = 16  # every second of the eight convolutions has stride 2
UNET_WIDTH = 64
UNET_STRIDE = 8  # downscaling of the U-Net's smallest map


def _trunk(spectral: bool = False) -> nn.Sequential:
    """The eight convolutions; all except the first with BatchNorm or, if `spectral`, with spectral norm."""
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    in_channels = 3
    for i, width in enumerate(TRUNK_WIDTHS):
        later = i > 0
        layers[f"conv{i + 1}"] = ConvBNLeakyReLU(
            in_channels, width, stride=1 + i % 2, with_bn=later and not spectral, spectral=later and spectral
        )
        in_channels = width
    return nn.Sequential(layers)


def _pending(trunk: nn.Sequential, image: Tensor) -> Pending:
    """Computes the trunk with fused kernels; its last BatchNorm and activation are deferred."""
    features = start(image)
    for layer in trunk:
        features = cast(ConvBNLeakyReLU, layer).pending(features)
    return features


def _check(image: Tensor) -> None:
    if image.dim() != 4 or image.shape[1] != 3:
        raise ModelError(f"a discriminator takes N, 3, H, W images, got a tensor of shape {tuple(image.shape)}")


class SRGANDiscriminator(Switched):
    """The paper's discriminator: the trunk, a dense layer with 1024 outputs, a dense layer with one logit.

    Args:
        image_size: side of the square input images, a multiple of 16; determines the size of the first dense layer.

    Raises:
        ModelError: `image_size` is not a positive multiple of 16.
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
        """N, 3, image_size, image_size, after the preset's `discriminator_map`, to N, 1 logits.

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
    """PatchGAN: the trunk and a 3x3 convolution that gives one logit per 16x16 pixels; takes images of any size.

    Args:
        spectral: whether the trunk's convolutions except the first have spectral norm instead of BatchNorm. Training
            must then call `srgan_fast.ops.spectral.power_iteration` once per step.
    """

    def __init__(self, spectral: bool = False) -> None:
        super().__init__()
        self.trunk = _trunk(spectral)
        self.head = nn.Conv2d(TRUNK_WIDTHS[-1], 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """N, 3, H, W, after the preset's `discriminator_map`, to N, 1, ceil(H / 16), ceil(W / 16) logits."""
        _check(image)
        if self._fuses(image):
            return convolve(_pending(self.trunk, image), self.head.weight, self.head.bias).y
        return cast(Tensor, self.head(self.trunk(image)))

    @staticmethod
    def output_shape(height: int, width: int) -> tuple[int, int, int]:
        """Shape of the logits, without the batch, for images of the given size."""
        return (1, -(-height // TRUNK_STRIDE), -(-width // TRUNK_STRIDE))


class _Halving(nn.Module):
    """4x4 convolution of stride 2 with spectral norm, LeakyReLU; in PyTorch, since no fused kernel has this shape."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = SpectralConv2d(in_channels, out_channels, 4, 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """N, C_in, H, W with even H and W to N, C_out, H / 2, W / 2."""
        return F.leaky_relu(self.conv(x), LEAKY_SLOPE)


class UNetDiscriminator(Switched):
    """Real-ESRGAN's U-Net: three halvings, three bilinear doublings with skip connections, and one logit per pixel.

    Wang et al. 2021, "Real-ESRGAN", section 3.3, figure 6. There is no BatchNorm; all convolutions except the first and
    the last have spectral norm. Training must call `srgan_fast.ops.spectral.power_iteration` once per step.
    """

    def __init__(self) -> None:
        super().__init__()
        width = UNET_WIDTH

        def conv(in_channels: int, out_channels: int) -> ConvBNLeakyReLU:
            return ConvBNLeakyReLU(in_channels, out_channels, 1, False, spectral=True, bias=False)

        self.first = ConvBNLeakyReLU(3, width, 1, False)
        self.down1 = _Halving(width, 2 * width)
        self.down2 = _Halving(2 * width, 4 * width)
        self.down3 = _Halving(4 * width, 8 * width)
        self.up1 = conv(8 * width, 4 * width)
        self.up2 = conv(4 * width, 2 * width)
        self.up3 = conv(2 * width, width)
        self.last1 = conv(width, width)
        self.last2 = conv(width, width)
        self.head = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """N, 3, H, W, after the preset's `discriminator_map`, H and W multiples of 8, to N, 1, H, W logits.

        Raises:
            ModelError: another shape.
        """
        _check(image)
        if image.shape[2] % UNET_STRIDE or image.shape[3] % UNET_STRIDE:
            raise ModelError(
                f"the U-Net discriminator takes images whose sides are multiples of {UNET_STRIDE}, got "
                f"{image.shape[3]}x{image.shape[2]}"
            )
        full = self.first(image)
        half = self.down1(full)
        quarter = self.down2(half)
        features = self.down3(quarter)
        for up, skip in ((self.up1, quarter), (self.up2, half), (self.up3, full)):
            features = up(F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)) + skip
        features = self.last2(self.last1(features))
        if self._fuses(image):
            return convolve(start(features), self.head.weight, self.head.bias).y
        return cast(Tensor, self.head(features))


Discriminator = SRGANDiscriminator | PatchDiscriminator | UNetDiscriminator


def build_discriminator(kind: DiscriminatorName, image_size: int = 96) -> Discriminator:
    """Creates a discriminator by its name in presets and configurations.

    Args:
        kind: name; with `-sn` for spectral norm.
        image_size: side of the input images; used only by `paper`.
    """
    if kind == "paper":
        return SRGANDiscriminator(image_size)
    return UNetDiscriminator() if kind == "unet-sn" else PatchDiscriminator(spectral=kind == "patch-sn")
