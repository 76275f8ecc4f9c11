"""Initialises a generator as an upscaler, so that training does not have to learn interpolation.

With random weights a generator needs thousands of steps to become a blurry upscaler. Here it starts as one: the trunk
adds nothing (the last BatchNorm of each residual block starts with gain 0; Goyal et al. 2017, section 5.1), three
channels pass the colours from head to tail, the shuffle convolutions repeat pixels, and the tail smooths them. All
other weights are random as usual, and the architecture is unchanged.
"""

from typing import cast

import torch
from torch import Tensor, nn

from srgan_fast.architectures.srgan import GeneratorConfig
from srgan_fast.errors import ModelError
from srgan_fast.models.generator import Generator
from srgan_fast.ops.modules import ResidualBlock, UpsampleBlock

COLOURS = 3
BOX = 5  # side of the tail's mean filter: hides the blocks of repeated pixels at x4, preserves edges
TAIL_FACTOR = 0.1  # of the tail's other weights, so that they hardly disturb the first step


def why_no_upscaler(config: GeneratorConfig) -> str | None:
    """Why a generator cannot start as an upscaler; None if it can."""
    if not config.conventions.lr_map.is_identity:
        return "its input is not in 0..1, so an activation would distort the colours"
    if config.upsample_bn:
        return "a BatchNorm in the upsamplers would rescale the colours"
    if config.conventions.output != "linear":
        return f"a {config.conventions.output} after the tail would distort the colours"
    if config.channels < COLOURS:
        return f"{config.channels} channels cannot carry {COLOURS} colours"
    return None


def start_as_upscaler(generator: Generator) -> None:
    """Initialises a generator in place as nearest-neighbour upsampling followed by a 5x5 mean filter.

    The mean filter treats pixels beyond the border as zeros; the tail's other weights add a little noise.

    Args:
        generator: freshly initialised by `Generator(config)`.

    Raises:
        ModelError: the architecture does not allow it; the message says why.
    """
    if problem := why_no_upscaler(generator.config):
        raise ModelError(f"this generator cannot start as an upscaler: {problem}")
    hr_map = generator.config.conventions.hr_map
    with torch.no_grad():
        head, tail, edge = generator.head.conv, generator.tail, (9 - BOX) // 2
        _clear(head, COLOURS)
        for block in generator.blocks:
            cast(ResidualBlock, block).bn2.weight.zero_()
        generator.fuse.bn.weight.zero_()
        for stage in generator.upsample:
            conv = cast(UpsampleBlock, stage).conv
            _clear(conv, 4 * COLOURS)
            for colour in range(COLOURS):  # the four phases of an output channel are adjacent
                conv.weight[4 * colour : 4 * colour + 4, colour, 1, 1] = 1.0
        tail.weight.mul_(TAIL_FACTOR)
        for colour in range(COLOURS):
            head.weight[colour, colour, 4, 4] = 1.0
            tail.weight[colour, colour, edge:-edge, edge:-edge] = hr_map.gain[colour] / BOX**2
        cast(Tensor, tail.bias).copy_(torch.tensor(hr_map.offset))


def _clear(conv: nn.Conv2d, outputs: int) -> None:
    """Sets weights and biases of a convolution's first output channels to 0."""
    conv.weight[:outputs] = 0.0
    cast(Tensor, conv.bias)[:outputs] = 0.0
