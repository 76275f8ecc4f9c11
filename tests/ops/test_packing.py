"""Transformed weights are kept as long as they are those of the weights, and no longer."""

import pytest
import torch
from torch import nn

from srgan_fast.ops import ConvBNLeakyReLU, ConvReLU, PackedWeights, packing, use_kernels
from srgan_fast.ops.packing import packed_for


@pytest.fixture
def packs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Grows with each transform: whether it was for backward."""
    calls: list[bool] = []
    real = packing.conv_pack
    monkeypatch.setattr(
        packing, "conv_pack", lambda w, stride, back, dtype: calls.append(back) or real(w, stride, back, dtype)
    )
    return calls


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    made = nn.Sequential(ConvBNLeakyReLU(3, 17, 1, False), ConvBNLeakyReLU(17, 20, 2, True), ConvReLU(20, 8))
    use_kernels(made, "fused")
    return made.eval()


def step(network: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    x = x.detach().clone().requires_grad_()
    y = network(x)
    return [y, *torch.autograd.grad(y.square().sum(), [x, *network.parameters()])]


def same(a: list[torch.Tensor], b: list[torch.Tensor]) -> bool:
    return all(torch.equal(p, q) for p, q in zip(a, b, strict=True))


def test_kept_weights_give_the_same_bits_and_are_made_once(network: nn.Module, packs: list[bool]) -> None:
    x, store = torch.rand(2, 3, 9, 9), PackedWeights()
    expected = step(network, x)
    assert not packs  # nothing is kept without a store
    for _ in range(3):
        with store.active():
            found = step(network, x)
        assert same(found, expected)
    assert sorted(packs) == [False] * 3 + [True] * 3


def test_without_gradients_nothing_is_made_for_backward(network: nn.Module, packs: list[bool]) -> None:
    with PackedWeights().active(), torch.no_grad():
        network(torch.rand(2, 3, 9, 9))
    assert packs == [False] * 3


@pytest.mark.parametrize("change", ["in place", "optimiser", "state dict", "memory format", "other memory"])
def test_weights_that_change_are_transformed_again(network: nn.Module, change: str) -> None:
    x, store = torch.rand(2, 3, 9, 9), PackedWeights()
    with store.active():
        before = step(network, x)
    if change == "in place":
        with torch.no_grad():
            network[2].conv.weight.mul_(2)
    elif change == "optimiser":
        network(x).sum().backward()
        torch.optim.SGD(network.parameters(), lr=0.1).step()
    elif change == "state dict":
        network.load_state_dict({key: 2 * value for key, value in network.state_dict().items()})
    elif change == "memory format":
        network.to(memory_format=torch.channels_last)
    else:
        network[2].conv.weight.data = network[2].conv.weight.detach() * 2
    with store.active():
        found = step(network, x)
    assert same(found, step(network, x))
    assert change == "memory format" or not torch.equal(found[0], before[0])


def test_fused_optimisers_are_not_noticed_until_everything_is_forgotten(network: nn.Module) -> None:
    x, store = torch.rand(2, 3, 9, 9), PackedWeights()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1, fused=True)
    with store.active():
        network(x).sum().backward()
    optimiser.step()
    store.clear()
    with store.active():
        found = step(network, x)
    assert same(found, step(network, x))


def test_a_store_ends_with_its_block_and_the_outer_one_comes_back(network: nn.Module, packs: list[bool]) -> None:
    x, outer, inner = torch.rand(2, 3, 9, 9), PackedWeights(), PackedWeights()
    with torch.no_grad(), outer.active():
        network(x)
        with inner.active():
            network(x)
        assert len(packs) == 6
        network(x)
    network(x)
    assert len(packs) == 6


def test_the_graph_outlives_the_store(network: nn.Module) -> None:
    x = torch.rand(2, 3, 9, 9, requires_grad=True)
    expected = torch.autograd.grad(network(x).square().sum(), x)
    store = PackedWeights()
    with store.active():
        y = network(x)
    store.clear()
    del store
    assert torch.equal(torch.autograd.grad(y.square().sum(), x)[0], expected[0])


def test_large_weights_are_packed_in_each_call_and_forward_halves_can_be_dropped() -> None:
    small, large = (nn.Parameter(torch.rand(out, 8, 3, 3)) for out in (8, 16))
    store = PackedWeights(most=small.numel())
    with store.active():
        assert packed_for(large, 1, True, torch.float32) == (None, None)
        forward, backward = packed_for(small, 1, True, torch.float32)
        assert forward is not None
        assert backward is not None
        store.drop_forward()
        again, same = packed_for(small, 1, True, torch.float32)
    assert again is not forward
    assert same is backward


def test_weights_that_were_cast_before_are_cast_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "on_cuda", lambda tensor: True)
    together: list[int] = []
    cast = packing.cast_weights
    monkeypatch.setattr(
        packing, "cast_weights", lambda weights, dtype: (together.append(len(weights)), cast(weights, dtype))[1]
    )
    weights = [nn.Parameter(torch.rand(16, 8, 3, 3)) for _ in range(3)]
    store = PackedWeights(casts_only=True)
    for _ in range(2):
        store.clear()
        with store.active():
            for weight in weights:
                given, _ = packed_for(weight, 1, True, torch.bfloat16)
                assert given is not None
                assert torch.equal(given, weight.detach().bfloat16())
                assert given.is_contiguous(memory_format=torch.channels_last)
    assert together == [1, 1, 1, 3]
