"""SRVGGNetCompact ("Compact"): a plain chain of 3x3 convolutions with a nearest-neighbour skip connection.

From Real-ESRGAN (Wang et al. 2021); realesr-animevideov3 and realesr-general-x4v3 are examples.
"""

import re
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from srgan_fast.architectures.base import (
    Architecture,
    Builder,
    Facts,
    Recognised,
    Settings,
    Shapes,
    State,
    Tensors,
    conv_shapes,
    square_root,
)
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Network

# ReLU and LeakyReLU have no parameters, so the state dict does not show which one is used.
_RECORDED = {"relu": 0.0, "leakyrelu": 0.1}
_SMALL = 0.1  # factor on He's initialisation for the last convolution


def _matches(state: State) -> bool:
    return (
        all(re.fullmatch(r"body\.\d+\.(weight|bias)", name) for name in state)
        and "body.0.weight" in state
        and state["body.0.weight"].ndim == 4
    )


def _build(state: State, facts: Facts) -> Recognised:
    tensors = Tensors(state)
    numbers = sorted(int(match[1]) for name in state if (match := re.fullmatch(r"body\.(\d{1,4})\.weight", name)))
    highest = numbers[-1]
    if highest % 2 or highest < 2:
        raise ModelError(f"the last layer is body.{highest}; convolutions have even indices")
    recorded, kept = None, dict[str, str]()
    if "body.1.weight" not in state:
        asked = facts.get("act_type", "")
        if asked not in _RECORDED:
            raise ModelError(
                "there are no PReLU slopes and no metadata that says whether it uses ReLU or LeakyReLU: save it "
                "as .safetensors with the metadata act_type = relu or leakyrelu"
            )
        recorded, kept = np.array([_RECORDED[asked]], np.float32), {"act_type": asked}
    build = Builder(tensors)
    channels = c_in = state["body.0.weight"].shape[1]
    width = state["body.0.weight"].shape[0]
    for i in range(0, highest, 2):
        arrays = tensors.conv(f"body.{i}", c_in, width)
        build.add(f"body.{i}", arrays, i // 2, slope=f"body.{i + 1}.weight" if recorded is None else recorded)
        c_in = width
    name = f"body.{highest}"
    weight, bias = tensors.conv(name, width)
    tensors.finish()
    if weight.shape[0] % channels:
        raise ModelError(f"{name} has {weight.shape[0]} output channels, expected a multiple for images of {channels}")
    scale = square_root(weight.shape[0] // channels, name)
    build.add(name, (weight, bias), highest // 2, shuffle=scale)
    network = Network(tuple(build.convs), channels=channels, skip="nearest")
    return build.finish(network, f"Compact (SRVGGNet), {len(build.convs) - 2} convolutions of {width} channels", kept)


@dataclass(frozen=True, slots=True)
class CompactSettings(Settings):
    """Sizes of a Compact network; Real-ESRGAN's general-x4v3 has 32 convolutions, animevideov3 has 16.

    Attributes:
        convolutions: number of convolutions between the first and the last.
        activation: `prelu`, with a slope per channel, or one without parameters.
    """

    SCALES: ClassVar[tuple[int, ...]] = (1, 2, 3, 4, 8)

    convolutions: int = 16
    activation: Literal["prelu", "relu", "leakyrelu"] = "prelu"

    def shapes(self) -> Shapes:
        """See `Settings`."""
        shapes: Shapes = {}
        for i in range(self.convolutions + 1):
            shapes |= conv_shapes(f"body.{2 * i}", self.channels if i else 3, self.channels)
            if self.activation == "prelu":
                shapes[f"body.{2 * i + 1}.weight"] = (self.channels,)
        return shapes | conv_shapes(self._last(), self.channels, 3 * self.scale**2)

    def he_factor(self, name: str) -> float:
        """See `Settings`.

        With PyTorch's default, as in Real-ESRGAN's code, signals and gradients shrink in each layer of such a
        chain: after 3000 steps with Adam at 1e-3 the network of 16 convolutions of 48 channels was still its
        nearest-neighbour skip. The last convolution starts small, so that this is what training starts from.
        """
        return _SMALL if name == self._last() else 1.0

    def _last(self) -> str:
        return f"body.{2 * self.convolutions + 2}"

    def facts(self) -> Facts:
        """See `Settings`."""
        return {} if self.activation == "prelu" else {"act_type": self.activation}


COMPACT = Architecture("Compact (SRVGGNet)", _matches, _build, "compact", CompactSettings)
