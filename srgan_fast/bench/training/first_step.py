"""Checks that a row trains correctly: losses and gradients of its first step are compared with the reference loop's.

Gradients are compared because the losses of the first step say nothing about backward passes.
"""

import math
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from torch import Tensor

from srgan_fast.bench.training.rows import Losses, Trainee

COMPARED = ("pixel", "content", "generator", "discriminator")  # losses that both kinds of loop report
# Gradients smaller than this fraction of a network's median are compared relative to it: e.g. the gradient of a bias
# before a BatchNorm is only rounding noise.
_SMALLEST_SHARE = 0.1
# The gradient of a single-value parameter, such as PReLU's slope, is a sum over all pixels that may cancel: with VGG up
# to conv5_4, stock's slopes differ by 2e-2 between NCHW and channels_last, its convolutions by 3e-3.
_SINGLE_VALUES = 5.0


@dataclass(frozen=True, slots=True)
class FirstStepTolerance:
    """Largest relative differences of a loss and of a tensor's gradient (2-norms; five times that for one value)."""

    loss: float
    gradient: float
    every_tensor: bool  # otherwise weights of convolutions only

    def __str__(self) -> str:
        return f"losses {self.loss:.0e}, gradients {self.gradient:.0e}"


# Stock against stock, batch 16, HR 96: in fp32 4e-3 between NCHW and channels_last (a PReLU slope, a sum that nearly
# cancels), in bf16 0.23 (D's first layer) without slopes and biases, which rounding makes useless there.
TOLERANCES: dict[Literal["fp32", "bf16"], FirstStepTolerance] = {
    "fp32": FirstStepTolerance(1e-3, 3e-2, every_tensor=True),
    "bf16": FirstStepTolerance(5e-2, 5e-1, every_tensor=False),
}


class FirstStep(TypedDict):
    """Result of a row's first step: losses (of those in `COMPARED`), and gradients by network and parameter."""

    losses: Losses
    gradients: dict[str, dict[str, Tensor]]


def do_first_step(trainee: Trainee) -> FirstStep:
    """Does a row's first step; raises whatever the row raises."""
    losses = trainee.step()
    return {
        "losses": {name: losses[name] for name in COMPARED if name in losses},
        "gradients": {
            name: {key: _gradient(parameter) for key, parameter in network.named_parameters()}
            for name, network in trainee.networks.all().items()
            if name != "features"
        },
    }


def _gradient(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.detach().clone()


@dataclass(frozen=True, slots=True)
class FirstStepDifference:
    """Difference of a first step from the reference; see `FirstStepTolerance`. `problem` says what is wrong with it."""

    loss: float
    gradient: dict[str, float]
    problem: str | None


def compare(got: FirstStep, trusted: FirstStep, tolerance: FirstStepTolerance) -> FirstStepDifference:
    """Measures and judges a first step."""
    problem = None
    loss_error = 0.0
    for name, expected in trusted["losses"].items():
        value = got["losses"].get(name, math.nan)
        error = abs(value - expected) / max(abs(expected), 1e-12)
        if not error <= tolerance.loss:  # NaN is wrong, too
            told = f"{name} loss {value:.6g} instead of {expected:.6g}: off by {error:.1e}, beyond {tolerance.loss:.0e}"
            problem = problem or told
        loss_error = error if math.isnan(error) else max(loss_error, error)
    gradient_errors: dict[str, float] = {}
    for network, tensors in trusted["gradients"].items():
        least = _SMALLEST_SHARE * float(torch.stack([tensor.norm() for tensor in tensors.values()]).median())
        errors = {
            name: float((got["gradients"][network][name] - tensor).norm())
            / max(float(tensor.norm()), least, 1e-30)
            / (_SINGLE_VALUES if tensor.numel() == 1 else 1.0)
            for name, tensor in tensors.items()
            if tolerance.every_tensor or tensor.dim() == 4
        }
        worst = max(errors, key=lambda name: math.inf if math.isnan(errors[name]) else errors[name])
        gradient_errors[network] = errors[worst]
        if not errors[worst] <= tolerance.gradient:
            told = f"gradient of the {network}'s {worst} is off by {errors[worst]:.1e}, beyond {tolerance.gradient:.0e}"
            problem = problem or told
    return FirstStepDifference(loss_error, gradient_errors, problem)
