"""An SRGAN generator's parts in a network, found by looking: what our CUDA kernels are made for."""

from dataclasses import dataclass

import numpy as np

from srgan_fast.errors import BackendError
from srgan_fast.network.graph import IMAGE, Array, Conv, Network, Residual, value_of

_ENDS, _TRUNK = 9, 3  # sides of kernels


@dataclass(frozen=True, slots=True)
class SrganParts:
    """The layers in the order of use.

    Attributes:
        head: 9x9 of the image, with an activation.
        blocks: pairs of 3x3; the first has an activation, the block's input is added to the second's result.
        fuse: 3x3; the head's result is added to its result.
        upsample: 3x3, an activation, pixel shuffle by 2.
        tail: 9x9 to RGB.
    """

    head: Conv
    blocks: tuple[tuple[Conv, Conv], ...]
    fuse: Conv
    upsample: tuple[Conv, ...]
    tail: Conv


def srgan_parts(network: Network, name: str) -> SrganParts:
    """The parts of a network that is built like an SRGAN generator.

    Args:
        network: to look at.
        name: of the model, in messages.

    Raises:
        BackendError: it is built otherwise; the message names the first convolution that differs.
    """
    convs = network.convs
    if network.channels != 3 or network.unshuffle != 1 or network.skip != "none" or len(convs) < 4:
        raise _refusal(name, "its image goes another way")

    def expect(
        index: int, what: str, *residuals: int, size: int = _TRUNK, active: bool = False, shuffle: int = 1
    ) -> Conv:
        conv = convs[index] if index < len(convs) else convs[-1]
        if (
            conv.inputs != (value_of(index - 1) if index else IMAGE,)
            or conv.size != size
            or (conv.slope is not None) != active
            or conv.residuals != tuple(Residual(value) for value in residuals)
            or conv.shuffle != shuffle
        ):
            raise _refusal(name, f"{conv.name} is no {what}")
        return conv

    head = expect(0, "head", size=_ENDS, active=True)
    blocks = []
    index = 1
    while index + 1 < len(convs) and convs[index].slope is not None and convs[index].shuffle == 1:
        first = expect(index, "first convolution of a residual block", active=True)
        blocks.append((first, expect(index + 1, "second convolution of a residual block", value_of(index - 1))))
        index += 2
    fuse = expect(index, "end of a trunk", value_of(0))
    stages = range(index + 1, len(convs) - 1)
    upsample = tuple(expect(i, "upsampling convolution", active=True, shuffle=2) for i in stages)
    if not upsample:
        raise _refusal(name, "it does not upscale")
    return SrganParts(head, tuple(blocks), fuse, upsample, expect(len(convs) - 1, "tail", size=_ENDS))


def slope_after_shuffle(conv: Conv) -> Array | None:
    """Slopes of an activation that is applied after the convolution's shuffle instead of before.

    Raises:
        BackendError: the channels that become one have different slopes.
    """
    if conv.slope is None or conv.slope.size == 1 or conv.shuffle == 1:
        return conv.slope
    grouped = conv.slope.reshape(-1, conv.shuffle**2)
    if np.any(grouped != grouped[:, :1]):
        raise BackendError(f"{conv.name}: its slopes differ within a channel, which these kernels do not have")
    return np.ascontiguousarray(grouped[:, 0])


def _refusal(name: str, why: str) -> BackendError:
    return BackendError(
        f"{name}: our CUDA kernels run SRGAN generators only so far ({why}); take another backend, "
        f"such as --backend torch or native"
    )


__all__ = ["SrganParts", "slope_after_shuffle", "srgan_parts"]
