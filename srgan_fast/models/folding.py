"""A generator as a list of plain convolutions: BatchNorm and output scaling folded into weights, for inference.

In eval mode BatchNorm is `gamma * (x - mean) / sqrt(var + eps) + beta`, an affine map for each channel, which moves
into the convolution before it. Runtimes build their graphs from this form; none needs torch for it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from srgan_fast.architectures.srgan import GeneratorConfig
from srgan_fast.errors import ModelError
from srgan_fast.models.checkpoint import GeneratorFile
from srgan_fast.network.graph import ColourMap

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class FoldedConv:
    """A stride-1 convolution with 'same' zero padding, and the PReLU behind it.

    Attributes:
        weight: C_out, C_in, k, k.
        bias: C_out.
        slope: PReLU slopes, 1 or C values, or None for a linear layer. Where a pixel shuffle follows, it comes before
            the PReLU and C counts the shuffled channels.
    """

    weight: Array
    bias: Array
    slope: Array | None


@dataclass(frozen=True, slots=True)
class FoldedGenerator:
    """All layers in the order of use; see `Generator` for how they connect.

    Attributes:
        config: of the network.
        head: 9x9, with PReLU.
        blocks: pairs of 3x3; the first has a PReLU, the block's input is added to the second's output.
        fuse: 3x3; the head's output is added to its output.
        upsample: 3x3 to 4 C channels, pixel shuffle by 2, PReLU.
        tail: 9x9 to RGB.
        hr_map: what is left to apply to the output, after the tanh if there is one.
    """

    config: GeneratorConfig
    head: FoldedConv
    blocks: tuple[tuple[FoldedConv, FoldedConv], ...]
    fuse: FoldedConv
    upsample: tuple[FoldedConv, ...]
    tail: FoldedConv
    hr_map: ColourMap


def fold_generator(file: GeneratorFile) -> FoldedGenerator:
    """Folds what can be folded, in double precision, rounded once to float32.

    The input's map stays a map: behind it lies the head's zero padding, which an offset in the weights would change.

    Raises:
        ModelError: what is folded leaves float32's range, as with a variance and an epsilon of 0.
    """
    with np.errstate(all="ignore"):  # what leaves the range is looked for in the results
        folded = _fold(file)
    layers = (folded.head, *(conv for block in folded.blocks for conv in block), folded.fuse, *folded.upsample)
    for conv in (*layers, folded.tail):
        if not (np.isfinite(conv.weight).all() and np.isfinite(conv.bias).all()):
            raise ModelError(
                f"{file.name}: its weights leave float32's range when BatchNorm is folded into them; the file is "
                f"damaged or training diverged"
            )
    return folded


def _fold(file: GeneratorFile) -> FoldedGenerator:
    config, w = file.config, file.weights
    conventions = config.conventions

    def conv(name: str, bn: str | None = None, act: str | None = None, eps: float = 0.0) -> FoldedConv:
        weight = w[f"{name}.weight"].astype(np.float64)
        bias = w[f"{name}.bias"].astype(np.float64) if f"{name}.bias" in w else np.zeros(weight.shape[0])
        if bn is not None:
            gain = w[f"{bn}.weight"] / np.sqrt(w[f"{bn}.running_var"].astype(np.float64) + eps)
            weight = weight * gain[:, None, None, None]
            bias = (bias - w[f"{bn}.running_mean"]) * gain + w[f"{bn}.bias"]
        slope = w[f"{act}.weight"] if act is not None else None
        return FoldedConv(weight.astype(np.float32), bias.astype(np.float32), slope)

    def block(i: int) -> tuple[FoldedConv, FoldedConv]:
        eps = conventions.block_eps
        first = conv(f"blocks.{i}.conv1", f"blocks.{i}.bn1", f"blocks.{i}.act", eps)
        return first, conv(f"blocks.{i}.conv2", f"blocks.{i}.bn2", None, eps)

    def upsample(i: int) -> FoldedConv:
        bn = f"upsample.{i}.bn" if config.upsample_bn else None
        return conv(f"upsample.{i}.conv", bn, f"upsample.{i}.act", conventions.upsample_eps)

    tail, hr_map = conv("tail"), conventions.hr_map.inverse()
    if conventions.output == "linear":
        gain = np.array(hr_map.gain)
        weight = tail.weight.astype(np.float64) * gain[:, None, None, None]
        bias = tail.bias * gain + np.array(hr_map.offset)
        tail, hr_map = FoldedConv(weight.astype(np.float32), bias.astype(np.float32), None), ColourMap()
    return FoldedGenerator(
        config=config,
        head=conv("head.conv", None, "head.act"),
        blocks=tuple(block(i) for i in range(config.blocks)),
        fuse=conv("fuse.conv", "fuse.bn", None, conventions.block_eps),
        upsample=tuple(upsample(i) for i in range(config.stages)),
        tail=tail,
        hr_map=hr_map,
    )
