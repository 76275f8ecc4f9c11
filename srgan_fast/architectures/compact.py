"""SRVGGNetCompact, "Compact": a plain chain of 3x3 convolutions with a nearest-neighbour skip.

From Real-ESRGAN (Wang et al. 2021), whose animevideov3 and general-x4v3 are such networks.
"""

import re

import numpy as np

from srgan_fast.architectures.base import Architecture, Builder, Facts, Recognised, State, Tensors, square_root
from srgan_fast.errors import ModelError
from srgan_fast.network.graph import Array, Network

# Activations without parameters leave no trace in a state dict.
_RECORDED = {"relu": 0.0, "leakyrelu": 0.1}


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
        raise ModelError(f"its last layer is body.{highest}; convolutions have even numbers")
    recorded = None
    if "body.1.weight" not in state:
        asked = facts.get("act_type", "")
        if asked not in _RECORDED:
            raise ModelError(
                "it has no PReLU slopes, and nothing says whether ReLU or LeakyReLU follows its convolutions: save it "
                "as .safetensors with the metadata act_type = relu or leakyrelu"
            )
        recorded = np.array([_RECORDED[asked]], np.float32)
    build = Builder(tensors)
    channels = c_in = state["body.0.weight"].shape[1]
    width = state["body.0.weight"].shape[0]
    for i in range(0, highest, 2):
        arrays = tensors.conv(f"body.{i}", c_in, width)
        slope = _slope(tensors, f"body.{i + 1}.weight", width) if recorded is None else recorded
        build.add(f"body.{i}", arrays, i // 2, slope=slope)
        c_in = width
    name = f"body.{highest}"
    weight, bias = tensors.conv(name, width)
    tensors.finish()
    if weight.shape[0] % channels:
        raise ModelError(f"{name} gives {weight.shape[0]} channels, images have {channels}")
    scale = square_root(weight.shape[0] // channels, name)
    build.add(name, (weight, bias), highest // 2, shuffle=scale)
    network = Network(tuple(build.convs), channels=channels, skip="nearest")
    return Recognised(network, f"Compact (SRVGGNet), {len(build.convs) - 2} convolutions of {width} channels")


def _slope(tensors: Tensors, name: str, width: int) -> Array:
    return np.ascontiguousarray(tensors.take(name, width))


COMPACT = Architecture("Compact (SRVGGNet)", _matches, _build)
