"""Losses are the formulas of their papers, by hand and in numpy, and never taken in half precision."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from srgan_fast.training.losses import (
    Adversarial,
    Distance,
    checkerboard,
    content_loss,
    discriminator_losses,
    distance,
    generator_loss,
    layered_content_loss,
    needs_real_logits,
    total_variation,
)

Array = NDArray[np.float64]
GAMES: list[Adversarial] = ["lsgan", "bce", "ragan"]


def softplus(x: Array) -> Array:
    return np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def as_image(rows: list[list[float]], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.tensor(rows, dtype=dtype)[None, None]


@pytest.mark.parametrize(("kind", "expected"), [("l1", (1 + 0 + 2 + 1) / 4), ("mse", (1 + 0 + 4 + 1) / 4)])
def test_distances_by_hand(kind: Distance, expected: float) -> None:
    a, b = as_image([[1, 2], [3, 4]]), as_image([[0, 2], [5, 3]])
    assert distance(kind, a, b).item() == expected


def test_gradients_of_distances() -> None:
    b = as_image([[0, 2], [5, 3]])
    for kind, expected in (("l1", [[1, 0], [-1, 1]]), ("mse", [[2, 0], [-4, 2]])):
        a = as_image([[1, 2], [3, 4]]).requires_grad_()
        distance(kind, a, b).backward()
        assert torch.equal(a.grad * 4, as_image(expected))


@pytest.mark.parametrize(("kind", "power"), [("l1", 1), ("mse", 2)])
def test_content_loss_scales_features_before_the_distance(kind: Distance, power: int) -> None:
    a, b = torch.rand(2, 5, 3, 4, dtype=torch.float64), torch.rand(2, 5, 3, 4, dtype=torch.float64)
    expected = np.mean(np.abs((a - b).numpy() / 12.75) ** power)
    assert content_loss(kind, a, b, 1 / 12.75).item() == pytest.approx(expected, rel=1e-12)
    assert content_loss(kind, a, b).item() == pytest.approx(expected * 12.75**power, rel=1e-12)


def test_layers_of_the_content_loss_are_weighed_one_by_one() -> None:
    maps = [
        (torch.rand(2, c, 3, 4, dtype=torch.float64), torch.rand(2, c, 3, 4, dtype=torch.float64)) for c in (5, 2, 3)
    ]
    sr, hr = zip(*maps, strict=True)
    weights = (0.1, 0.0, 1.0)
    for kind in ("l1", "mse"):
        expected = sum(w * content_loss(kind, a, b, 0.3).item() for a, b, w in zip(sr, hr, weights, strict=True))
        assert layered_content_loss(kind, sr, hr, weights, 0.3).item() == pytest.approx(expected, rel=1e-12)
    assert torch.equal(layered_content_loss("l1", sr[:1], hr[:1], (1.0,)), content_loss("l1", sr[0], hr[0]))


@pytest.mark.parametrize("period", [2, 3, 4])
def test_checkerboard_is_the_mean_square_of_the_pattern_that_repeats(period: int) -> None:
    rng = np.random.default_rng(0)
    pattern = rng.random((2, 3, period, period))
    target = rng.random((2, 3, 5 * period, 4 * period))
    image = target + np.tile(pattern, (1, 1, 5, 4)) + 0.5  # what is the same everywhere is no pattern
    loss = checkerboard(torch.from_numpy(image), torch.from_numpy(target), period)
    assert loss.item() == pytest.approx(pattern.var((2, 3)).mean(), rel=1e-12)


def test_detail_that_differs_from_place_to_place_is_no_checkerboard() -> None:
    noise, target = torch.rand(1, 3, 160, 160), torch.zeros(1, 3, 160, 160)
    assert checkerboard(noise, target, 4) < 1e-3 * distance("mse", noise, target)


def test_total_variation_by_hand() -> None:
    # Down: |3 - 0|, |6 - 1|; to the right: |1 - 0|, |6 - 3|.
    assert total_variation(as_image([[0, 1], [3, 6]])).item() == 4 + 2


def test_total_variation_is_a_mean_over_batch_and_channels() -> None:
    x = np.random.default_rng(0).random((3, 2, 5, 7))
    expected = np.abs(np.diff(x, axis=2)).mean() + np.abs(np.diff(x, axis=3)).mean()
    assert total_variation(torch.from_numpy(x)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("rows", "expected", "gradient"),
    [([[5.0]], 0.0, [[0.0]]), ([[1.0, 4.0]], 3.0, [[-1.0, 1.0]]), ([[1.0], [4.0]], 3.0, [[-1.0], [1.0]])],
    ids=["one pixel", "row", "column"],
)
def test_total_variation_of_degenerate_images(
    rows: list[list[float]], expected: float, gradient: list[list[float]]
) -> None:
    image = as_image(rows).requires_grad_()
    loss = total_variation(image)
    loss.backward()
    assert loss.item() == expected
    assert torch.equal(image.grad, as_image(gradient))


# Formulas in numpy: what G minimises, and D's two parts, from logits of real and of generated images.
FORMULAS: dict[Adversarial, tuple[Callable[[Array, Array], Any], Callable[[Array, Array], tuple[Any, Any]]]] = {
    "lsgan": (
        lambda real, fake: ((fake - 1) ** 2).mean(),
        lambda real, fake: (((real - 1) ** 2).mean(), (fake**2).mean()),
    ),
    "bce": (
        lambda real, fake: -np.log(sigmoid(fake)).mean(),
        lambda real, fake: (-np.log(sigmoid(real)).mean(), -np.log(1 - sigmoid(fake)).mean()),
    ),
    "ragan": (
        lambda real, fake: (
            -np.log(1 - sigmoid(real - fake.mean())).mean() / 2 - np.log(sigmoid(fake - real.mean())).mean() / 2
        ),
        lambda real, fake: (
            -np.log(sigmoid(real - fake.mean())).mean(),
            -np.log(1 - sigmoid(fake - real.mean())).mean(),
        ),
    ),
}


@pytest.mark.parametrize("kind", GAMES)
@pytest.mark.parametrize("shape", [(4, 1), (2, 1, 3, 5)], ids=str)
def test_adversarial_losses_are_their_formulas(kind: Adversarial, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(1)
    real, fake = rng.normal(0.5, 2, shape), rng.normal(-1, 2, shape)
    generators, discriminators = FORMULAS[kind]
    ours = generator_loss(kind, torch.from_numpy(fake), torch.from_numpy(real))
    assert ours.item() == pytest.approx(generators(real, fake), rel=1e-10)
    parts = discriminator_losses(kind, torch.from_numpy(real), torch.from_numpy(fake))
    assert [part.item() for part in parts] == pytest.approx(discriminators(real, fake), rel=1e-10)


@pytest.mark.parametrize("kind", ["lsgan", "bce"])
def test_gradients_of_the_generators_loss(kind: Adversarial) -> None:
    fake = torch.tensor([[-3.0], [0.0], [2.0], [0.5]], dtype=torch.float64, requires_grad=True)
    generator_loss(kind, fake).backward()
    x = fake.detach()
    expected = (2 * (x - 1) if kind == "lsgan" else torch.sigmoid(x) - 1) / 4
    assert torch.allclose(fake.grad, expected, rtol=1e-12, atol=0)


def test_relativistic_means_pass_gradients_on() -> None:
    rng = np.random.default_rng(2)
    real, fake = torch.from_numpy(rng.normal(size=(4, 1))), torch.from_numpy(rng.normal(size=(4, 1)))
    for loss in (
        lambda r, f: generator_loss("ragan", f, r),
        lambda r, f: discriminator_losses("ragan", r, f)[0],
        lambda r, f: discriminator_losses("ragan", r, f)[1],
    ):
        assert torch.autograd.gradcheck(loss, (real.clone().requires_grad_(), fake.clone().requires_grad_()))
    # Adding a constant to all logits changes nothing, so neither do gradients in that direction.
    r, f = real.clone().requires_grad_(), fake.clone().requires_grad_()
    generator_loss("ragan", f, r).backward()
    assert abs(r.grad.sum() + f.grad.sum()) < 1e-15
    assert f.grad.abs().sum() > 0.1


def test_only_the_relativistic_loss_needs_real_logits() -> None:
    assert [kind for kind in GAMES if needs_real_logits(kind)] == ["ragan"]
    with pytest.raises(ValueError, match="real"):
        generator_loss("ragan", torch.zeros(2, 1))


@pytest.mark.parametrize("kind", GAMES)
def test_certain_verdicts_give_finite_losses_and_gradients(kind: Adversarial) -> None:
    real = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    fake = torch.tensor([[-1e4], [1e4]], requires_grad=True)
    for loss in (generator_loss(kind, fake, real), sum(discriminator_losses(kind, real, fake))):
        assert torch.isfinite(torch.as_tensor(loss))
        gradients = torch.autograd.grad(torch.as_tensor(loss), (real, fake), allow_unused=True, retain_graph=True)
        assert all(g is None or g.isfinite().all() for g in gradients)


def every_loss() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    losses: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "l1": lambda a, b: distance("l1", a, b),
        "mse": lambda a, b: distance("mse", a, b),
        "content": lambda a, b: content_loss("mse", a, b, 0.3),
        "checkerboard": lambda a, b: checkerboard(a[:, :, :2, :2], b[:, :, :2, :2], 2),
        "variation": lambda a, _: total_variation(a),
    }
    for kind in GAMES:
        losses[f"{kind} of G"] = lambda a, b, kind=kind: generator_loss(kind, a, b)
        losses[f"{kind} of D"] = lambda a, b, kind=kind: sum(discriminator_losses(kind, b, a))
    return losses


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", every_loss())
def test_half_precision_is_widened_before_anything_is_computed(name: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    loss = every_loss()[name]
    a, b = torch.randn(3, 2, 6, 5).to(dtype), torch.randn(3, 2, 6, 5).to(dtype)
    ours = loss(a, b)
    assert ours.dtype == torch.float32
    assert torch.equal(ours, loss(a.float(), b.float()))


@pytest.mark.parametrize("name", every_loss())
def test_float64_stays(name: str) -> None:
    a, b = torch.randn(2, 1, 3, 3, dtype=torch.float64), torch.randn(2, 1, 3, 3, dtype=torch.float64)
    loss = every_loss()[name]
    assert loss(a, b).dtype == torch.float64
    assert loss(a, b) != loss(a.float(), b.float()).double()


@pytest.mark.parametrize("name", [name for name in every_loss() if "ragan" not in name])
def test_loss_of_a_batch_is_the_mean_over_its_parts(name: str) -> None:
    a, b = torch.randn(4, 2, 3, 3, dtype=torch.float64), torch.randn(4, 2, 3, 3, dtype=torch.float64)
    loss = every_loss()[name]
    assert torch.allclose(loss(a, b), (loss(a[:2], b[:2]) + loss(a[2:], b[2:])) / 2, rtol=1e-12, atol=0)
