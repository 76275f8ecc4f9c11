"""What a generator is, apart from its weights: sizes (inferred from a state dict) and conventions (recorded beside it).

Nothing here needs torch: the native engine and the ONNX graph are built from the same description.
"""

import math
from dataclasses import dataclass
from typing import Literal

from srgan_fast.errors import ModelError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

HEAD_RADIUS = 4  # 9x9 convolutions at both ends
TRUNK_RADIUS = 1  # 3x3 convolutions between them


@dataclass(frozen=True, slots=True)
class AffineMap:
    """Per-channel map of RGB values, `y = gain * x + offset`."""

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def is_identity(self) -> bool:
        """Whether values pass through unchanged."""
        return self.gain == (1.0, 1.0, 1.0) and self.offset == (0.0, 0.0, 0.0)

    def inverse(self) -> "AffineMap":
        """The map that undoes this one."""
        r, g, b = self.gain
        x, y, z = self.offset
        return AffineMap((1 / r, 1 / g, 1 / b), (-x / r, -y / g, -z / b))


IDENTITY = AffineMap()
# 0..1 to -1..1, the paper's range for high-resolution images.
SIGNED = AffineMap((2.0, 2.0, 2.0), (-1.0, -1.0, -1.0))
# (x - mean) / std
IMAGENET_NORMALISED = AffineMap(
    (1 / IMAGENET_STD[0], 1 / IMAGENET_STD[1], 1 / IMAGENET_STD[2]),
    (
        -IMAGENET_MEAN[0] / IMAGENET_STD[0],
        -IMAGENET_MEAN[1] / IMAGENET_STD[1],
        -IMAGENET_MEAN[2] / IMAGENET_STD[2],
    ),
)


@dataclass(frozen=True, slots=True)
class Conventions:
    """The parts of a generator that its state dict does not show.

    Attributes:
        block_eps: BatchNorm eps in the residual blocks and in the convolution after them.
        upsample_eps: BatchNorm eps in the upsampling blocks, where they have one.
        output: what follows the last convolution.
        lr_map: from images in 0..1 to the network's input.
        hr_map: from images in 0..1 to the space of the network's output; applied backwards after the network.
    """

    block_eps: float = 1e-5
    upsample_eps: float = 1e-5
    output: Literal["linear", "tanh"] = "linear"
    lr_map: AffineMap = IDENTITY
    hr_map: AffineMap = IDENTITY


@dataclass(frozen=True, slots=True)
class GeneratorConfig:
    """Architecture of an SRGAN generator (Ledig et al. 2017, figure 4, and its common variants).

    Attributes:
        scale: upscaling factor; 2, 4 or 8.
        channels: width of the trunk.
        blocks: number of residual blocks.
        block_bias: whether the trunk's 3x3 convolutions carry a bias beside their BatchNorm.
        upsample_bn: whether a BatchNorm stands between an upsampling convolution and its pixel shuffle.
        prelu: one slope for a layer, or one per channel.
        conventions: what the state dict does not show.

    Raises:
        ModelError: a value outside its range.
    """

    scale: int = 4
    channels: int = 64
    blocks: int = 16
    block_bias: bool = False
    upsample_bn: bool = False
    prelu: Literal["shared", "channel"] = "shared"
    conventions: Conventions = Conventions()

    def __post_init__(self) -> None:
        if self.scale not in (2, 4, 8):
            raise ModelError(f"scale is {self.scale}; a generator upscales by 2, 4 or 8")
        if self.channels < 1 or self.blocks < 0:
            raise ModelError(f"a generator needs channels >= 1 and blocks >= 0, got {self.channels} and {self.blocks}")

    @property
    def stages(self) -> int:
        """Number of x2 upsampling blocks."""
        return int(math.log2(self.scale))

    @property
    def receptive_radius(self) -> int:
        """How far, in low-resolution pixels and rounded up, an output pixel looks to each side.

        39.5, so 40, for 16 blocks at scale 4: the head sees 4 pixels, each of the 33 trunk convolutions one more, the
        upsampling convolutions one pixel of their own grid, the tail 4 pixels of the output grid.
        """
        trunk = TRUNK_RADIUS * (2 * self.blocks + 1)
        upsampling = sum(float(TRUNK_RADIUS) / (1 << stage) for stage in range(self.stages))
        return math.ceil(HEAD_RADIUS + trunk + upsampling + HEAD_RADIUS / self.scale)

    @property
    def macs_per_lr_pixel(self) -> int:
        """Multiply-adds of a direct convolution for each low-resolution pixel (BatchNorm folded)."""
        trunk = (2 * self.blocks + 1) * 9 * self.channels**2
        upsampling = sum(36 * self.channels**2 * (1 << 2 * stage) for stage in range(self.stages))
        ends = 81 * 3 * self.channels * (1 + self.scale**2)
        return trunk + upsampling + ends
