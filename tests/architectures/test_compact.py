"""Real-ESRGAN's compact networks against spandrel."""

from typing import Any

import numpy as np
import pytest
import torch
from spandrel.architectures.Compact import Compact

from srgan_fast.architectures import recognise
from srgan_fast.errors import ModelError
from srgan_fast.network import receptive_radius, scale_of
from srgan_fast.network.interpreter import run


def compact(randomised: Any, **how: Any) -> Any:
    return randomised(Compact(**{"num_feat": 8, "num_conv": 3, **how}))


@pytest.mark.parametrize("upscale", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("size", [(1, 1), (7, 10), (4, 1)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_agrees_with_spandrel(
    upscale: int, size: tuple[int, int], channels: int, randomised: Any, state_of: Any
) -> None:
    module = compact(randomised, upscale=upscale, num_in_ch=channels, num_out_ch=channels)
    network = recognise(state_of(module)).network
    assert scale_of(network) == upscale
    lr = np.random.default_rng(0).random((channels, *size))
    with torch.inference_mode():
        expected = module.double()(torch.from_numpy(lr[None]))[0].numpy()
    np.testing.assert_allclose(run(network, lr), expected, atol=1e-5)


@pytest.mark.parametrize("activation", ["relu", "leakyrelu"])
def test_activations_without_slopes_are_taken_from_what_is_recorded(
    activation: str, randomised: Any, state_of: Any
) -> None:
    module = compact(randomised, act_type=activation)
    network = recognise(state_of(module), {"act_type": activation}).network
    lr = np.random.default_rng(0).random((3, 5, 6))
    with torch.inference_mode():
        expected = module.double()(torch.from_numpy(lr[None]))[0].numpy()
    np.testing.assert_allclose(run(network, lr), expected, atol=1e-5)
    with pytest.raises(ModelError, match=r"no metadata that says whether it uses ReLU or LeakyReLU"):
        recognise(state_of(module))


def test_animevideos_size_has_its_known_facts(state_of: Any) -> None:
    found = recognise(state_of(Compact(num_conv=16)))
    assert found.description == "Compact (SRVGGNet), 16 convolutions of 64 channels"
    assert receptive_radius(found.network) == 18


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body.8.weight": (45, 8, 3, 3), "body.8.bias": (45,)}, r"15 is not a square number"),
        (
            {"body.8.weight": (47, 8, 3, 3), "body.8.bias": (47,)},
            r"has 47 output channels, expected a multiple for images of 3",
        ),
        ({"body.4.weight": None}, r"missing body\.4\.weight"),
        ({"body.5.weight": (7,)}, r"body\.5\.weight has shape \(7,\), the network needs \(8,\)"),
        ({"body.10.weight": (48, 8, 3, 3)}, r"missing body\.9\.weight|body\.8\.weight has shape"),
        ({"body.2.weight": (8, 8, 5, 5)}, r"body\.2\.weight has shape \(8, 8, 5, 5\)"),
    ],
)
def test_damaged_networks_are_refused_by_what_is_wrong(
    change: dict[str, Any], message: str, randomised: Any, state_of: Any, damaged: Any
) -> None:
    state = state_of(compact(randomised))
    with pytest.raises(ModelError, match=message):
        recognise(damaged(state, change))
