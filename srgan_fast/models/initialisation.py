"""A fresh generator that upscales before its first step, so that training does not have to learn what is known.

From random weights a generator first spends thousands of steps on becoming a blurry upscaler. Here its paths are laid
so that it is one: the trunk adds nothing (the last BatchNorm of each residual block starts at gain 0; Goyal et al.
2017, section 5.1), three channels carry the colours from the head to the tail, the shuffle convolutions repeat pixels,
and the tail smooths them. All other weights are random as usual, and the architecture is the same.
"""

from typing import cast

import torch
from torch import Tensor, nn

from srgan_fast.architectures.srgan import GeneratorConfig
from srgan_fast.errors import ModelError
from srgan_fast.models.generator import Generator
from srgan_fast.ops.modules import ResidualBlock, UpsampleBlock

COLOURS = 3
BOX = 5  # side of the tail's mean: wide enough to hide the steps of repeated pixels at x4, narrow enough to keep edges
TAIL_FACTOR = 0.1  # the tail's other weights, beside the colours': a small disturbance at the first step


def why_no_upscaler(config: GeneratorConfig) -> str | None:
    """Why a generator cannot start as an upscaler; None if it can."""
    if not config.conventions.lr_map.is_identity:
        return "its input is not 0..1, so an activation would bend the colours"
    if config.upsample_bn:
        return "a BatchNorm in the upsamplers would rescale the colours"
    if config.conventions.output != "linear":
        return f"a {config.conventions.output} after the tail would bend the colours"
    if config.channels < COLOURS:
        return f"{config.channels} channels cannot carry {COLOURS} colours"
    return None


def start_as_upscaler(generator: Generator) -> None:
    """Turns fresh random weights, in place, into nearest-neighbour upsampling followed by a 5x5 mean.

    The mean reaches over the border as over zeros; the tail's other weights add a little noise.

    Args:
        generator: as `Generator(config)` makes it.

    Raises:
        ModelError: the architecture cannot; the message says why.
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
            for colour in range(COLOURS):  # the four phases of an output channel lie side by side
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
