"""BatchNorm's vectors: the operators are their references, forward, backward and in place."""

import pytest
import torch
from torch import Tensor

from srgan_fast.errors import TrainingError
from srgan_fast.ops.bn import bn_follow, bn_follow_reference, bn_scale, bn_scale_reference, computes_on
from srgan_fast.ops.native import available

pytestmark = pytest.mark.skipif(not available(), reason="no fused kernels built")

# Where the operators compute, and in what.
PLACES = [("cpu", torch.float32), ("cpu", torch.float64)]
if computes_on(torch.empty(0)) and torch.cuda.is_available() and computes_on(torch.empty(0, device="cuda")):
    PLACES.append(("cuda", torch.float32))


def vectors(place: tuple[str, torch.dtype], *sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    device, dtype = place
    return [torch.rand(size, generator=generator, dtype=torch.float64).to(device, dtype) + 0.1 for size in sizes]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("channels", [1, 64, 700])
def test_scale_and_its_gradients(place: tuple[str, torch.dtype], affine: bool, channels: int) -> None:
    var, weight, gradient = vectors(place, channels, channels, channels)
    found = []
    for compute in (bn_scale, bn_scale_reference):
        wide = (lambda t: t.double()) if compute is bn_scale_reference else (lambda t: t)
        leaves = [wide(t).detach().requires_grad_() for t in (var, weight)]
        scale = compute(leaves[0], leaves[1] if affine else None, 1e-5)
        scale.backward(wide(gradient))  # type: ignore[no-untyped-call]
        found.append([scale.detach(), *(t.grad for t in leaves)])
    tolerance = 1e-12 if place[1] == torch.float64 else 3e-6
    for got, expected in zip(*found, strict=True):
        if expected is None:
            assert got is None
        else:
            torch.testing.assert_close(got.double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("momentum", [0.1, None])
def test_running_statistics_follow_torch(place: tuple[str, torch.dtype], momentum: float | None) -> None:
    bn = torch.nn.BatchNorm2d(33, momentum=momentum).to(*place).train()
    state = {name: value.clone() for name, value in bn.named_buffers()}
    for i in range(3):
        x = torch.randn(2, 33, 3, 5, device=place[0], dtype=place[1]) * (i + 1)
        bn(x)
        var, mean = torch.var_mean(x, (0, 2, 3), correction=0)
        for follow in (bn_follow, bn_follow_reference):
            kept = {name: value.clone() for name, value in state.items()}
            follow(mean, var, kept["running_mean"], kept["running_var"], kept["num_batches_tracked"], momentum, 30)
            for name, value in bn.named_buffers():
                torch.testing.assert_close(kept[name], value, rtol=1e-5, atol=1e-6)
        state = kept


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_operators_keep_the_rules_of_torch(place: tuple[str, torch.dtype]) -> None:
    var, weight, gradient, mean = vectors(place, 5, 5, 5, 5)
    ops = torch.ops.srgan_fast
    torch.library.opcheck(ops.bn_scale.default, (var.requires_grad_(), weight.requires_grad_(), 1e-5))
    torch.library.opcheck(ops.bn_scale.default, (var.detach(), None, 1e-5))
    torch.library.opcheck(ops.bn_scale_backward.default, (gradient, var.detach(), weight.detach(), 1e-5))
    batches = torch.zeros((), dtype=torch.int64, device=place[0])
    torch.library.opcheck(
        ops.bn_follow.default, (mean, var.detach(), mean.clone(), mean.clone(), batches, 0.1, 9),
        test_utils=("test_schema", "test_faketensor"),
    )  # fmt: skip


def test_gradcheck() -> None:
    var, weight = (t.requires_grad_() for t in vectors(("cpu", torch.float64), 6, 6))
    assert torch.autograd.gradcheck(lambda v, w: bn_scale(v, w, 1e-3), (var, weight))


def test_gradients_of_gradients_are_refused() -> None:
    (var,) = vectors(("cpu", torch.float32), 4)
    var.requires_grad_()
    (gradient,) = torch.autograd.grad(bn_scale(var, None, 1e-5).sum(), var, create_graph=True)
    with pytest.raises(TrainingError, match="do not support double backward"):
        gradient.sum().backward()  # type: ignore[no-untyped-call]


def test_what_does_not_fit_is_refused() -> None:
    five, six, count = torch.rand(5), torch.rand(6), torch.zeros((), dtype=torch.int64)
    with pytest.raises(RuntimeError, match="weight of shape"):
        bn_scale(five, six, 1e-5)
    with pytest.raises(RuntimeError, match="without gaps"):
        bn_scale(torch.rand(10)[::2], None, 1e-5)
    with pytest.raises(RuntimeError, match="float32 or float64"):
        bn_scale(five.half(), None, 1e-5)
    with pytest.raises(RuntimeError, match="running_var of shape"):
        bn_follow(five, five, five.clone(), six, count, 0.1, 9)
    with pytest.raises(RuntimeError, match="one int64"):
        bn_follow(five, five, five.clone(), five.clone(), torch.zeros(()), 0.1, 9)
    with pytest.raises(RuntimeError, match="no unbiased variance"):
        bn_follow(five, five, five.clone(), five.clone(), count, 0.1, 1)
    assert not computes_on(five.half())
