"""Fused operators for training: schema, reference, fake kernel and gradients of each, and modules built from them."""

from srgan_fast.ops.conv import data_gradients_only
from srgan_fast.ops.modules import (
    ConvAct,
    ConvBN,
    ConvBNLeakyReLU,
    ConvBNPReLU,
    ConvReLU,
    ResidualBlock,
    UpsampleBlock,
)
from srgan_fast.ops.native import available, why_not
from srgan_fast.ops.packing import PackedWeights
from srgan_fast.ops.switch import Kernels, Switched, recorded_steps, use_kernels

__all__ = [
    "ConvAct",
    "ConvBN",
    "ConvBNLeakyReLU",
    "ConvBNPReLU",
    "ConvReLU",
    "Kernels",
    "PackedWeights",
    "ResidualBlock",
    "Switched",
    "UpsampleBlock",
    "available",
    "data_gradients_only",
    "recorded_steps",
    "use_kernels",
    "why_not",
]
