"""The SRGAN generator, in plain PyTorch, which is the reference of all faster versions, and with fused kernels.

Ledig et al. 2017, figure 4: k9n64s1 and PReLU; residual blocks; a convolution with BatchNorm and the long skip; one
[convolution, pixel shuffle, PReLU] per factor of two; k9n3s1.
"""

import math
from typing import cast

import torch
from torch import Tensor, nn

from srgan_fast.architectures.srgan import GeneratorConfig
from srgan_fast.errors import ModelError
from srgan_fast.models.recompute import recomputed
from srgan_fast.network.graph import ColourMap
from srgan_fast.ops.modules import ConvAct, ConvBN, ResidualBlock, UpsampleBlock, start, tail
from srgan_fast.ops.switch import Switched


class Affine(nn.Module):
    """Per-channel `gain * x + offset` on N, 3, H, W; constants, so neither trained nor saved."""

    gain: Tensor
    offset: Tensor

    def __init__(self, values: ColourMap) -> None:
        super().__init__()
        self.is_identity = values.is_identity
        self.register_buffer("gain", torch.tensor(values.gain).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("offset", torch.tensor(values.offset).view(1, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Maps N, 3, H, W; returns the input itself if the map is the identity."""
        return x if self.is_identity else x * self.gain + self.offset


def icnr_(weight: Tensor, factor: int = 2) -> None:
    """Initialises a convolution before a pixel shuffle so that it starts as nearest-neighbour upsampling (ICNR).

    All output channels of a shuffle group get the same kernel, initialised by He's rule, which avoids checkerboard
    artifacts (Aitken et al. 2017, "Checkerboard artifact free sub-pixel convolution").

    Args:
        weight: C * factor^2, C_in, kH, kW; modified in place.
        factor: of the pixel shuffle.
    """
    with torch.no_grad():
        kernel = torch.empty_like(weight[:: factor**2])
        nn.init.kaiming_normal_(kernel, a=0.25)
        weight.copy_(kernel.repeat_interleave(factor**2, dim=0))


class Generator(Switched):
    """Super-resolution generator: images in 0..1 to images in 0..1, whatever range the network uses internally.

    The output is not clamped (a loss must see values out of range); clamp before writing images.

    Args:
        config: architecture and conventions.

    Attributes:
        kernels: see `ops.use_kernels`.
        recompute: recompute each residual block in the backward pass instead of storing its activations; saves memory
            at the cost of another forward pass through the trunk.
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
                nn.init.kaiming_normal_(module.weight, a=0.25)  # PReLU's initial slope
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for block in self.upsample:
            icnr_(cast(UpsampleBlock, block).conv.weight)
        # No activation follows the tail: a plain variance-preserving initialisation, scaled down so that training
        # starts near grey.
        nn.init.normal_(self.tail.weight, std=0.1 / math.sqrt(81 * self.config.channels))

    def forward(self, lr: Tensor) -> Tensor:
        """Upscales a batch.

        Args:
            lr: N, 3, H, W in 0..1, any H, W >= 1.

        Returns:
            N, 3, scale * H, scale * W, nominally in 0..1, not clamped.

        Raises:
            ModelError: wrong rank or number of channels.
        """
        if lr.dim() != 4 or lr.shape[1] != 3:
            raise ModelError(f"a generator takes N, 3, H, W images, got a tensor of shape {tuple(lr.shape)}")
        x = self.lr_map(lr)
        out = self._fused(x) if self._fuses(lr) else self._plain(x)
        if self.config.conventions.output == "tanh":
            out = torch.tanh(out)
        return cast(Tensor, self.hr_map(out))

    def _plain(self, x: Tensor) -> Tensor:
        head = self.head(x)
        features = head + self.fuse(self._trunk(head))
        return cast(Tensor, self.tail(self.upsample(features)))

    def _fused(self, x: Tensor) -> Tensor:
        first = self.head.pending(start(x)).finish()
        if self._recomputes():
            trunk = start(self._trunk(first))
        else:
            trunk = start(first)
            for block in self.blocks:
                trunk = cast(ResidualBlock, block).pending(trunk)
        features = self.fuse.pending(trunk)._replace(residual=first)
        for stage in self.upsample:
            features = cast(UpsampleBlock, stage).pending(features)
        return tail(features, self.tail)

    def _recomputes(self) -> bool:
        return self.recompute and self.training and torch.is_grad_enabled()

    def _trunk(self, x: Tensor) -> Tensor:
        if not self._recomputes():
            return cast(Tensor, self.blocks(x))
        for block in self.blocks:
            x = recomputed(block, x)
        return x
