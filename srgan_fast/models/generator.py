"""The SRGAN generator in plain torch: the readable yardstick of every faster implementation.

Ledig et al. 2017, figure 4: k9n64s1 and PReLU; residual blocks; a convolution with BatchNorm and the long skip; one
[convolution, pixel shuffle, PReLU] per factor of two; k9n3s1.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from srgan_fast.errors import ModelError
from srgan_fast.models.config import AffineMap, GeneratorConfig
from srgan_fast.models.recompute import recomputed


class Affine(nn.Module):
    """Per-channel `gain * x + offset` on N, 3, H, W; constants, so neither trained nor saved."""

    gain: Tensor
    offset: Tensor

    def __init__(self, values: AffineMap) -> None:
        super().__init__()
        self.is_identity = values.is_identity
        self.register_buffer("gain", torch.tensor(values.gain).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(values.offset).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N, 3, H, W; returns the input itself where there is nothing to do."""
        return x if self.is_identity else x * self.gain + self.offset


class ConvAct(nn.Module):
    """9x9 convolution and PReLU, the head of the network."""

    def __init__(self, in_channels: int, out_channels: int, slopes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 9, padding=4)
        self.act = nn.PReLU(slopes)

    def forward(self, x: Tensor) -> Tensor:
        """N, 3, H, W to N, C, H, W."""
        return cast(Tensor, self.act(self.conv(x)))


class ConvBN(nn.Module):
    """3x3 convolution and BatchNorm, what closes the trunk."""

    def __init__(self, channels: int, bias: bool, eps: float) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn = nn.BatchNorm2d(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """N, C, H, W to the same shape."""
        return cast(Tensor, self.bn(self.conv(x)))


class ResidualBlock(nn.Module):
    """`x + bn2(conv2(prelu(bn1(conv1(x)))))`."""

    def __init__(self, channels: int, bias: bool, eps: float, slopes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn1 = nn.BatchNorm2d(channels, eps=eps)
        self.act = nn.PReLU(slopes)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=bias)
        self.bn2 = nn.BatchNorm2d(channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """N, C, H, W to the same shape."""
        return cast(Tensor, x + self.bn2(self.conv2(self.act(self.bn1(self.conv1(x))))))


class UpsampleBlock(nn.Module):
    """`prelu(pixel_shuffle(bn(conv(x))))`, the BatchNorm being optional."""

    def __init__(self, channels: int, with_bn: bool, eps: float, slopes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 4 * channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(4 * channels, eps=eps) if with_bn else None
        self.shuffle = nn.PixelShuffle(2)
        self.act = nn.PReLU(slopes)

    def forward(self, x: Tensor) -> Tensor:
        """N, C, H, W to N, C, 2H, 2W."""
        y = self.conv(x)
        if self.bn is not None:
            y = self.bn(y)
        return cast(Tensor, self.act(self.shuffle(y)))


def icnr_(weight: Tensor, factor: int = 2) -> None:
    """Initialises a convolution that feeds a pixel shuffle so that it starts as nearest-neighbour upsampling.

    Every output channel of a shuffled group gets the same kernel, drawn by He's rule, which avoids checkerboards
    (Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution").

    Args:
        weight: C * factor^2, C_in, kH, kW; changed in place.
        factor: of the pixel shuffle.
    """
    with torch.no_grad():
        kernel = torch.empty_like(weight[:: factor**2])
        nn.init.kaiming_normal_(kernel, a=0.25)
        weight.copy_(kernel.repeat_interleave(factor**2, dim=0))


class Generator(nn.Module):
    """Super-resolution generator: images in 0..1 to images in 0..1, whatever range the network works in inside.

    The output is not clamped (a loss must see overshoot); whoever writes pictures clamps.

    Args:
        config: architecture and conventions.

    Attributes:
        recompute: compute each residual block again in backward instead of keeping its activations; saves memory, costs
            one more forward pass through the trunk.
    """

    def __init__(self, config: GeneratorConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or GeneratorConfig()
        self.recompute = False
        c, conventions = config.channels, config.conventions
        slopes = c if config.prelu == "channel" else 1
        self.lr_map = Affine(conventions.lr_map)
        self.head = ConvAct(3, c, slopes)
        self.blocks = nn.Sequential(
            *(ResidualBlock(c, config.block_bias, conventions.block_eps, slopes) for _ in range(config.blocks))
        )
        self.fuse = ConvBN(c, config.block_bias, conventions.block_eps)
        self.upsample = nn.Sequential(
            *(UpsampleBlock(c, config.upsample_bn, conventions.upsample_eps, slopes) for _ in range(config.stages))
        )
        self.tail = nn.Conv2d(c, 3, 9, padding=4)
        self.hr_map = Affine(conventions.hr_map.inverse())
        self._initialise()

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.config.scale

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, a=0.25)  # the slope that PReLU starts with
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.upsample:
            icnr_(cast(UpsampleBlock, block).conv.weight)
        # The tail feeds no activation: a plain variance-keeping start, and small, so that training begins near grey.
        nn.init.normal_(self.tail.weight, std=0.1 / math.sqrt(81 * self.config.channels))

    def forward(self, lr: Tensor) -> Tensor:
        """Upscales a batch.

        Args:
            lr: N, 3, H, W in 0..1, any H, W >= 1.

        Returns:
            N, 3, scale * H, scale * W, nominally in 0..1, not clamped.

        Raises:
            ModelError: another rank or number of channels.
        """
        if lr.dim() != 4 or lr.shape[1] != 3:
            raise ModelError(f"a generator takes N, 3, H, W images, got a tensor of shape {tuple(lr.shape)}")
        head = self.head(self.lr_map(lr))
        features = head + self.fuse(self._trunk(head))
        out = self.tail(self.upsample(features))
        if self.config.conventions.output == "tanh":
            out = torch.tanh(out)
        return cast(Tensor, self.hr_map(out))

    def _trunk(self, x: Tensor) -> Tensor:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return cast(Tensor, self.blocks(x))
        for block in self.blocks:
            x = recomputed(block, x)
        return x
