"""Self-tests of the fused operators (convolutions, pooling): small random cases against float64 in plain PyTorch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from srgan_fast.doctor.checks import Measured, check
from srgan_fast.doctor.report import Direction, OpChoice, SelfTest
from srgan_fast.ops import conv as conv_ops
from srgan_fast.ops import coverage, cuda, pool
from srgan_fast.ops.accuracy import CheckError
from srgan_fast.ops.conv_cases import ConvCase, Function, Inputs, Size, call, draw, gradients, results

DIRECTIONS: tuple[Direction, ...] = ("forward", "dgrad", "wgrad")


@dataclass(frozen=True, slots=True)
class Case(ConvCase):
    """A case of the fused convolution.

    Attributes:
        name: description.
        packed: whether packed weights are cached, as in training.
    """

    name: str
    packed: bool = False


# Named in the order of computation.
CASES = (
    Case("conv 3x3"),
    Case("conv 3x3, LeakyReLU, packed weights", activation=0.2, packed=True),
    Case("BatchNorm, PReLU, conv 3x3, moments", prologue="slopes", moments=True),
    Case("BatchNorm, residual, conv 3x3, moments", prologue="residual", moments=True),
    Case("BatchNorm, PReLU, shuffle, conv 3x3", prologue="slopes", shuffle=True),
    Case("conv 3x3 stride 2", stride=2),
    Case("BatchNorm, LeakyReLU, conv 3x3 stride 2, moments", stride=2, prologue="slope", moments=True),
    Case("conv 5x5", side=5),
    Case("BatchNorm, PReLU, shuffle, conv 5x5", side=5, prologue="slopes", shuffle=True),
)
POOLING = "max pooling 2x2"
POOLING_DIRECTIONS: tuple[Direction, ...] = ("forward", "dgrad")
# No side is a multiple of a tile and no channel count one of a block; then all are.
SIZES: tuple[Size, ...] = ((2, 35, 18, 7, 9), (1, 16, 32, 12, 12))

# Relative to the largest value. The largest errors measured over 36 draws of all cases at every level of an AVX-512
# machine are 9.3e-6, 2.1e-14 and 1.3e-2 (bfloat16's own rounding of intermediate maps).
_BOUNDS = {"float32": 3e-5, "float64": 1e-12, "bfloat16": 4e-2}


Examine = Callable[[torch.device], list[CheckError]]


def check_ops(choices: list[OpChoice]) -> Iterator[SelfTest]:
    """Every case on the CPU, in every dtype that uses the fused kernels; for GPUs see `check_cuda_ops`."""
    for choice in choices:
        if choice.implementation == "fused" and choice.device == "cpu":
            for case in CASES:
                yield from _check_case(case, choice.device, choice.dtype)
            yield from _check_pooling(choice.device, choice.dtype)


def check_cuda_ops() -> Iterator[SelfTest]:
    """The cases of the GPU self-test; none without a GPU."""
    if not cuda.usable():
        return
    device = torch.device("cuda", torch.cuda.current_device())
    for case in cuda.self_test_cases(coverage.gpu_of(torch.cuda.current_device())):

        def run(examine: Examine = case.run) -> list[Measured]:
            errors = examine(device)
            return [Measured(error.value, error.tolerance, f"{error.what}, relative") for error in errors]

        name = str(case.dtype).removeprefix("torch.")
        test = check("op", f"CUDA, {name}: {case.what}", run)
        yield test.model_copy(update={"device": "cuda", "dtype": name})


def _check_case(case: Case, device: str, dtype: str) -> Iterator[SelfTest]:
    errors: dict[Direction, list[Measured]] = {}
    problem: Exception | None = None
    try:
        errors = _measure(case, device, dtype)
    except Exception as error:  # reported by each direction's test
        problem = error
    for direction in DIRECTIONS:

        def run(direction: Direction = direction) -> list[Measured]:
            if problem is not None:
                raise problem
            return errors[direction]

        test = check("op", case.name, run)
        yield test.model_copy(update={"direction": direction, "device": device, "dtype": dtype})


def _check_pooling(device: str, dtype: str) -> Iterator[SelfTest]:
    for i, direction in enumerate(POOLING_DIRECTIONS):

        def run(i: int = i) -> list[Measured]:
            errors = []
            for n, c, _, h, w in SIZES:
                x = torch.randn(n, c, h, w, generator=torch.Generator().manual_seed(0)).to(getattr(torch, dtype))
                found, exact = (
                    _pooled(function, map_)[i]
                    for function, map_ in ((pool.max_pool, x.to(device)), (pool.max_pool_reference, x.double()))
                )
                measure = f"the largest of {'y' if i == 0 else 'dx'}"
                errors.append(Measured(_error(found, exact), 0.0, measure))  # pooling is exact
            return errors

        test = check("op", POOLING, run)
        yield test.model_copy(update={"direction": direction, "device": device, "dtype": dtype})


def _pooled(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """The result, and the gradient of a linear function of it."""
    x = x.clone().requires_grad_()
    y = function(x)
    factors = (torch.arange(y.numel(), device=y.device).reshape(y.shape) % 7 + 1).to(y.dtype)
    return y, torch.autograd.grad((y * factors).sum(dtype=torch.float64), x)[0]


def _measure(case: Case, device: str, dtype: str) -> dict[Direction, list[Measured]]:
    errors: dict[Direction, list[Measured]] = {direction: [] for direction in DIRECTIONS}
    for size in SIZES:
        given = _arguments(case, size, getattr(torch, dtype))
        found = _compute(conv_ops.conv, case, {name: t.to(device) for name, t in given.items()})
        exact = _compute(conv_ops.conv_reference, case, {name: t.double() for name, t in given.items()})
        for direction in DIRECTIONS:
            for name, expected in exact[direction].items():
                error = _error(found[direction][name], expected)
                measure = f"the largest of {'' if direction == 'forward' else 'd'}{name}"
                errors[direction].append(Measured(error, _BOUNDS[dtype], measure))
    return errors


def _arguments(case: Case, size: Size, dtype: torch.dtype) -> Inputs:
    given = draw(case, size, dtype)
    # Far from 0; otherwise rounding z to bfloat16, as AMX does, could change the sign of results.
    if case.activation is not None and dtype == torch.bfloat16:
        given["bias"] = 4 * given["bias"].sign()
    return given


def _compute(function: Function, case: Case, given: Inputs) -> dict[Direction, dict[str, Tensor]]:
    """Results, and the gradients of a random linear function of all of them."""
    inputs = {name: t.clone().requires_grad_() for name, t in given.items()}
    options: dict[str, Any] = {}
    if case.packed and function is not conv_ops.conv_reference:
        for name, backward in (("packed", False), ("packed_backward", True)):
            options[name] = conv_ops.conv_pack(inputs["weight"], case.stride, backward, inputs["x"].dtype)
    result = call(function, case, inputs, **options)
    to_source = gradients(result, inputs)
    to_weights = {name: to_source.pop(name) for name in ("weight", "bias")}
    return {"forward": results(result), "dgrad": to_source, "wgrad": to_weights}


def _error(found: Tensor, expected: Tensor) -> float:
    """Largest difference relative to the largest expected value."""
    if found.shape != expected.shape:
        raise ValueError(f"the result has shape {tuple(found.shape)}, expected {tuple(expected.shape)}")
    expected = expected.detach()
    difference = found.detach().cpu().double() - expected
    return (difference.abs().max() / expected.abs().max()).item()
