"""Spectral norm divides a weight by its largest singular value, as PyTorch's own does, and moves when it is told to."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.utils import spectral_norm

from srgan_fast.ops.spectral import SpectralConv2d, power_iteration


def conv(dtype: torch.dtype = torch.float64) -> SpectralConv2d:
    torch.manual_seed(3)
    return SpectralConv2d(5, 7, 3, 2, 1).to(dtype)


def test_the_largest_singular_value_of_the_weight_becomes_1() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight_orig.mul_(30)
    for _ in range(200):
        power_iteration(layer)
    values = torch.linalg.svdvals(layer.weight.detach().flatten(1))
    assert values[0].item() == pytest.approx(1, rel=1e-6)
    assert values[1] < 0.99


@pytest.mark.filterwarnings("ignore:.*spectral_norm.*deprecated")
@pytest.mark.parametrize("bias", [True, False])
def test_results_and_gradients_are_those_of_pytorchs_spectral_norm(bias: bool) -> None:
    ours = SpectralConv2d(5, 7, 4, 2, 1, bias).double()
    plain = nn.Conv2d(5, 7, 4, 2, 1, bias=bias).double()
    plain.weight.data.copy_(ours.weight_orig.data)
    if bias:
        plain.bias.data.copy_(ours.bias.data)
    theirs = spectral_norm(plain)
    theirs.weight_u.copy_(ours.weight_u)
    theirs.weight_v.copy_(ours.weight_v)
    x = torch.randn(2, 5, 8, 6, dtype=torch.float64)
    for _ in range(3):
        power_iteration(ours)
        a, b = ours(x), theirs(x)  # theirs iterates in its forward pass
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
        ours.zero_grad()
        theirs.zero_grad()
        a.square().sum().backward()
        b.square().sum().backward()
        torch.testing.assert_close(ours.weight_orig.grad, theirs.weight_orig.grad, rtol=1e-9, atol=1e-11)


def test_only_a_power_iteration_in_training_moves_the_vectors() -> None:
    layer = conv()
    with torch.no_grad():
        layer.weight_orig.add_(torch.randn_like(layer.weight_orig))
    before = copy.deepcopy(layer.state_dict())
    layer(torch.randn(1, 5, 6, 6, dtype=torch.float64))
    layer.eval()
    power_iteration(layer)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())
    layer.train()
    power_iteration(nn.Sequential(layer))
    moved = {name for name, tensor in layer.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {"weight_u", "weight_v"}


def test_the_singular_value_is_not_rounded_under_autocast() -> None:
    layer = conv(torch.float32)
    plain, vectors = layer.weight.detach(), layer.weight_u.clone()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(layer.weight, plain)
        power_iteration(layer)
    within = layer.weight_u.clone()
    layer.weight_u.copy_(vectors)
    power_iteration(layer)
    assert torch.equal(layer.weight_u, within)
