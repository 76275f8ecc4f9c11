"""The fused convolution is its reference: values, gradients, shapes, on every instruction set and thread count.

Where there is a GPU, it is there, too, in the types that it takes.
"""

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.errors import TrainingError
from srgan_fast.ops import cuda
from srgan_fast.ops.conv import ConvResult, conv_pack, conv_reference, data_gradients_only
from srgan_fast.ops.conv import conv as ops_conv
from srgan_fast.ops.conv_cases import VECTORS, ConvCase, Function, Size, call, draw, results
from srgan_fast.ops.conv_cases import gradients as gradients_of
from srgan_fast.ops.packing import cast_weights
from srgan_fast.ops.prologue import UNIT, Pending, phase_major, phase_minor
from srgan_fast.runtime.processor import describe_processor

OPS = torch.ops.srgan_fast


class Place(NamedTuple):
    """A kind of device, and the type of maps there."""

    device: str
    dtype: torch.dtype
    products: cuda.Gemm = "faster"  # on CUDA

    def __str__(self) -> str:
        products = f", products: {self.products}" if self.device == "cuda" else ""
        return f"{self.device} {str(self.dtype).removeprefix('torch.')}{products}"


ON_CPU = [Place("cpu", dtype) for dtype in (torch.float64, torch.float32, torch.bfloat16)]
PRODUCTS: tuple[cuda.Gemm, ...] = ("own", "library")
ON_GPU = [Place("cuda", dtype, which) for dtype in cuda.TYPES for which in PRODUCTS] if cuda.usable() else []
FLOATS_ON_GPU = [Place("cuda", torch.float32, "library")] if cuda.usable() else []
TF32_ON_GPU = [Place("cuda", torch.float32, "own-tf32")] if cuda.usable() else []
ONE_EACH = [Place("cpu", torch.float32), *ON_GPU[: len(PRODUCTS)], *FLOATS_ON_GPU]  # for what depends on no rounding


@pytest.fixture(autouse=True)
def asked_products(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test's products are those of its place."""
    place = request.node.callspec.params.get("place") if hasattr(request.node, "callspec") else None
    with (
        cuda.gemm(place.products) if place is not None and place.device == "cuda" else nullcontext(),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        yield


# N, C, O, H, W of z: single pixels, sides that are no multiple of a tile, channels that are no multiple of 16.
SIZES: list[Size] = [
    (1, 16, 16, 1, 1),
    (2, 64, 64, 9, 10),
    (1, 3, 20, 5, 7),
    (2, 70, 33, 13, 4),
    (3, 5, 1, 6, 2),
    (1, 32, 80, 24, 24),
    (1, 1, 17, 2, 9),
]


CASES = [
    ConvCase(),
    ConvCase(bias=False),
    ConvCase(activation=0.2),
    ConvCase(prologue="affine", moments=True),
    ConvCase(prologue="slope", moments=True),
    ConvCase(prologue="slopes", activation=0.0),
    ConvCase(prologue="residual", moments=True),
    ConvCase(prologue="affine", shuffle=True),
    ConvCase(prologue="slopes", shuffle=True, moments=True),
    ConvCase(stride=2),
    ConvCase(stride=2, prologue="slope", moments=True),
    ConvCase(stride=2, prologue="slopes", shuffle=True, activation=0.1),
    ConvCase(side=5, prologue="slopes"),
    ConvCase(side=5, moments=True),
    ConvCase(side=5, prologue="slopes", shuffle=True),
]


def placed(places: list[Place], cases: list[ConvCase] = CASES) -> Any:
    """Parametrises a test by case and place, as far as it is computed there."""
    calls = [(case, place) for place in places for case in cases]
    able = [c for c in calls if not (c[1].device == "cuda" and c[0].shuffle and c[0].stride == 2)]
    return pytest.mark.parametrize(("case", "place"), able, ids=str)


def arguments(case: ConvCase, size: Size, place: Place, seed: int = 0) -> dict[str, Tensor]:
    n, c, o, h, w = size
    if place.device == "cuda" and place.dtype == torch.float32:  # passes over floats want whole units
        c, o = (channels + -channels % UNIT for channels in (c, o))
    return {name: t.to(place.device) for name, t in draw(case, (n, c, o, h, w), place.dtype, seed=seed).items()}


def conv(x: Tensor, weight: Tensor, bias: Tensor | None = None, **rest: Any) -> ConvResult:
    """`ops.conv.conv` with a source's fields by name."""
    of_source = {name: rest.pop(name) for name in (*VECTORS, "residual", "shuffled") if name in rest}
    return ops_conv(Pending(x, **of_source), weight, bias, **rest)


def gradients(result: ConvResult, inputs: dict[str, Tensor], seed: int = 1) -> dict[str, Tensor]:
    """Of a random linear function of everything in the result."""
    return {f"d{name}": g for name, g in gradients_of(result, inputs, seed=seed).items()}


def compute(
    function: Function, case: ConvCase, given: dict[str, Tensor], dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    inputs = {name: (t.to(dtype) if dtype else t).detach().clone().requires_grad_() for name, t in given.items()}
    result = call(function, case, inputs)
    return results(result) | gradients(result, inputs)


def error(found: Tensor, expected: Tensor) -> float:
    """Root mean square of the difference, relative to that of what is expected."""
    expected = expected.double()
    return ((found.double() - expected).square().mean().sqrt() / expected.square().mean().sqrt()).item()


# Sums over all pixels, which cancel: bounded more widely than the maps.
SUMS = {"dbias", "dcenter", "dscale", "dshift", "dslope", "mean", "var"}


# On a GPU z, weights and gradients are rounded for the products, too. Behind an activation, results near 0 may then end
# on its other side, each with all of its gradient. Some 2.5 times the most of an emulation over 300 draws.
ROUNDED = {torch.bfloat16: 1.5e-2, torch.float16: 2.5e-3, torch.float32: 5e-6}
TURNED = {torch.bfloat16: 0.2, torch.float16: 0.1, torch.float32: 1e-4}


def rounds_factors(case: ConvCase) -> bool:
    """Whether this CPU multiplies bfloat16 maps in bfloat16, so that z and weights are rounded, too.

    AMX always does; without it AVX-512's dot products do where the stride is 2.
    """
    flags = describe_processor()[1]
    asked = os.environ.get("SRGAN_FAST_ISA")
    if asked == "amx" or (not asked and "amx_bf16" in flags):
        return True
    return case.stride == 2 and (asked == "avx512_bf16" or (not asked and "avx512_bf16" in flags))


def rounding(place: Place, case: ConvCase) -> float:
    """What may be wrong with a GPU's values; TF32 has float16's precision."""
    dtype = torch.float16 if place.products == "own-tf32" else place.dtype
    return (ROUNDED if case.activation is None else TURNED)[dtype]


def bound(name: str, place: Place, case: ConvCase) -> float:
    dtype = place.dtype
    if dtype == torch.float64:
        return 1e-11
    if place.device == "cuda":
        if name in SUMS - {"var"}:
            return math.inf  # held against what they sum up, below
        return rounding(place, case)
    if dtype == torch.bfloat16:
        if rounds_factors(case) and case.activation is not None and name in ("dx", "dweight"):
            return TURNED[dtype]
        return 0.1 if name in SUMS else 1.2e-2  # roundings of the stored maps: 2^-9 each
    # F(4, 5) and F(6, 3) have the same points, but five taps amplify more than three.
    return 5e-5 if name in SUMS else 1.5e-5 if case.side == 5 else 5e-6


@pytest.mark.parametrize("size", SIZES, ids=str)
@placed(ON_CPU + ON_GPU + FLOATS_ON_GPU + TF32_ON_GPU)
def test_values_and_gradients_are_the_references(case: ConvCase, size: Size, place: Place) -> None:
    given = arguments(case, size, place)
    if case.prologue == "residual" and size[0] * size[3] * size[4] == 1:
        case = ConvCase(side=case.side, stride=case.stride, prologue=case.prologue)
    found, expected = compute(ops_conv, case, given), compute(conv_reference, case, given, torch.float64)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.shape == expected[name].shape
        if expected[name].square().mean() < 1e-20:
            continue  # the variance of one value a channel, and what comes of it
        assert error(value, expected[name]) <= bound(name, place, case), name


def terms(case: ConvCase, given: dict[str, Tensor]) -> dict[str, Tensor]:
    """The sum of the absolute values of what is added up for each vector, in float64.

    The reference's formulas with a parameter for each pixel: the gradient of such a parameter is one of the terms.
    """
    wide = {name: t.double() for name, t in given.items()}
    x = wide["x"]
    single = {name for name in ("center", "scale", "shift", "slope") if name in wide and wide[name].numel() == 1}
    full = {
        name: wide[name][:, None, None].expand_as(x).clone().requires_grad_()
        for name in ("center", "scale", "shift", "slope")
        if name in wide
    }
    z = x if "center" not in full else full["scale"] * (x - full["center"]) + full["shift"]
    if "residual" in wide:
        z = z + wide["residual"]
    if "slope" in full:
        z = torch.where(z > 0, z, z * full["slope"])
    if case.shuffle:
        z = F.pixel_shuffle(z.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), 2)
    y = F.conv2d(z, wide["weight"], None, case.stride, case.side // 2)
    if case.bias:
        full["bias"] = wide["bias"][:, None, None].expand_as(y).clone().requires_grad_()
        y = y + full["bias"]
    if case.activation is not None:
        y = torch.where(y > 0, y, y * case.activation)
    none = y.new_empty(0)
    moments = (y.mean((0, 2, 3)), y.var((0, 2, 3), correction=0)) if case.moments else (none, none)
    result = ConvResult(y, *moments, z if "residual" in wide else none)
    sums = {name: g.abs().sum((0, 2, 3)) for name, g in gradients(result, full).items()}
    sums = {name: t.sum().reshape(1) if name[1:] in single else t for name, t in sums.items()}
    return sums | {"mean": y.detach().abs().mean((0, 2, 3))}


def bound_of_vectors(place: Place, case: ConvCase) -> float:
    if place.device == "cuda":
        return rounding(place, case) * (3 if case.activation is None else 1)
    return 3e-5 if case.side == 5 else 1.5e-6 if case.stride == 2 else 1e-5


@pytest.mark.parametrize("size", [(2, 64, 64, 9, 10), (2, 20, 33, 24, 22), (1, 1, 17, 2, 9)], ids=str)
@placed([Place("cpu", torch.float32), *ON_GPU, *FLOATS_ON_GPU, *TF32_ON_GPU])
def test_vectors_are_exact_on_the_scale_of_what_they_sum_up(case: ConvCase, size: Size, place: Place) -> None:
    # Sums cancel, so the error of their terms, that of the maps, is what they can be held against.
    given = arguments(case, size, place)
    found, expected = compute(ops_conv, case, given), compute(conv_reference, case, given, torch.float64)
    for name, scale in terms(case, given).items():
        if name in found:
            largest = (found[name].double() - expected[name]).abs().max() / scale.mean()
            assert largest <= bound_of_vectors(place, case), name


@pytest.mark.parametrize("size", [(2, 64, 64, 24, 24), (2, 17, 33, 13, 7)], ids=str)
@placed([Place("cpu", torch.bfloat16), *ON_GPU], [ConvCase(), ConvCase(stride=2), ConvCase(side=5)])
def test_16_bits_are_as_exact_as_torchs(case: ConvCase, size: Size, place: Place) -> None:
    given = arguments(case, size, place)
    expected = compute(conv_reference, case, given, torch.float64)
    found = compute(ops_conv, case, given)

    def stock(source: Pending, weight: Tensor, bias: Tensor, **_: Any) -> ConvResult:
        x = source.raw
        y = F.conv2d(x, weight.to(x), bias.to(x), case.stride, case.side // 2)
        none = y.new_empty(0)
        return ConvResult(y, none, none, none)

    theirs = compute(stock, case, given)
    for name in ("y", "dx", "dweight"):
        assert error(found[name], expected[name]) <= 2 * error(theirs[name], expected[name]), name


@pytest.mark.parametrize("case", CASES, ids=str)
def test_gradcheck(case: ConvCase) -> None:
    given = {
        name: t.requires_grad_() for name, t in arguments(case, (2, 3, 2, 4, 3), Place("cpu", torch.float64)).items()
    }
    names = list(given)

    def function(*tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(p for p in call(ops_conv, case, dict(zip(names, tensors, strict=True))) if p.numel())

    assert torch.autograd.gradcheck(function, tuple(given.values()), fast_mode=True)


def layouts(x: Tensor) -> dict[str, Tensor]:
    n, c, h, w = x.shape
    wide = torch.zeros(n, c + 2, h + 3, w + 1, dtype=x.dtype, device=x.device)
    sliced = wide[:, 1 : c + 1, 2 : h + 2, :w]
    sliced.copy_(x)
    return {
        "nchw": x.contiguous(),
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "sliced": sliced,
        "expanded": x[:1].expand(n, c, h, w),
    }


@pytest.mark.parametrize("layout", ["nchw", "channels_last", "sliced", "expanded"])
@placed(
    [Place("cpu", torch.float64), *ON_GPU, *FLOATS_ON_GPU],
    [ConvCase(prologue="slope", moments=True), ConvCase(prologue="residual"), ConvCase(stride=2)],
)
def test_opcheck(case: ConvCase, place: Place, layout: str) -> None:
    given = arguments(case, (2, 5, 6, 7, 4), place)
    x = layouts(given["x"])[layout].detach().requires_grad_()
    tensors = {name: t.requires_grad_() for name, t in given.items()}
    source = Pending(x, *(tensors.get(name) for name in (*VECTORS, "residual")), case.shuffle)
    tail = (tensors["weight"], case.stride, None, tensors["bias"], case.moments, case.activation, None)
    torch.library.opcheck(OPS.conv_forward.default, (*source, *tail))
    y, mean, _, _ = OPS.conv_forward(*source, *tail)
    g = layouts(torch.randn_like(y))[layout]
    moments = (mean.detach(), torch.randn_like(mean), torch.randn_like(mean)) if case.moments else (None, None, None)
    result = (g, y.detach() if case.moments else None, *moments, case.activation)
    detached = tuple(t.detach() if isinstance(t, Tensor) else t for t in source)
    weight = tensors["weight"].detach()
    torch.library.opcheck(OPS.conv_dgrad.default, (*detached, weight, case.stride, None, *result, None))
    torch.library.opcheck(OPS.conv_wgrad.default, (*detached, weight, case.stride, None, *result, True))
    if place.device == "cpu":
        torch.library.opcheck(OPS.conv_pack.default, (weight, case.stride, True))
        for backward in (False, True):
            torch.library.opcheck(OPS.conv_pack.default, (weight.float(), case.stride, backward, True))
    elif case.moments:
        weight = torch.randn(8, 7, 3, 3, device="cuda")
        dy = torch.randn(2, 8, 6, 7, device="cuda", dtype=place.dtype)
        vectors = (torch.randn(8, device="cuda") for _ in range(3))
        torch.library.opcheck(OPS.conv_dy.default, (layouts(dy)[layout], dy, *vectors, None, weight, True))


@placed(ONE_EACH)
def test_memory_layout_changes_nothing(case: ConvCase, place: Place) -> None:
    given = arguments(case, (2, 17, 5, 7, 6), place)
    given["x"] = given["x"][:1].expand_as(given["x"]).contiguous(memory_format=torch.channels_last)
    expected = compute(ops_conv, case, given)
    for x, last in itertools.product(layouts(given["x"]).values(), (False, True)):
        weight = given["weight"].contiguous(memory_format=torch.channels_last) if last else given["weight"]
        for name, value in compute(ops_conv, case, {**given, "x": x, "weight": weight}).items():
            assert torch.equal(value, expected[name]), name


@placed(ONE_EACH, [ConvCase(prologue="residual", moments=True)])
def test_results_are_channels_last_and_inputs_unchanged(case: ConvCase, place: Place) -> None:
    given = arguments(case, (2, 16, 32, 9, 9), place)
    before = {name: t.clone() for name, t in given.items()}
    found = call(ops_conv, case, given)
    assert found.y.is_contiguous(memory_format=torch.channels_last)
    assert found.sum.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(given[name], before[name]) for name in given)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@placed(ON_CPU)
def test_repeated_runs_are_bit_identical_and_thread_counts_agree(case: ConvCase, place: Place) -> None:
    given = arguments(case, (2, 32, 80, 23, 21), place)
    with threads(1):
        alone = compute(ops_conv, case, given)
    for count in (2, 3):
        with threads(count):
            first, second = compute(ops_conv, case, given), compute(ops_conv, case, given)
        for name, value in first.items():
            assert torch.equal(value, second[name]), name
            assert error(value, alone[name]) <= bound(name, place, case), name


_ISA_CHECK = """
import importlib.util, sys, torch
spec = importlib.util.spec_from_file_location("cases", sys.argv[1])
cases = importlib.util.module_from_spec(spec); sys.modules["cases"] = cases; spec.loader.exec_module(cases)
for case in cases.CASES:
    for size in cases.SIZES[1:5]:
        for place in cases.ON_CPU:
            given = cases.arguments(case, size, place)
            found = cases.compute(cases.ops_conv, case, given)
            expected = cases.compute(cases.conv_reference, case, given, torch.float64)
            for name, value in found.items():
                found_error = cases.error(value, expected[name])
                assert found_error <= cases.bound(name, place, case), (case, size, place, name, found_error)
print("all right")
"""


def _isas() -> list[str]:
    """Those that this processor has; none where only the operators are built."""
    try:
        from srgan_fast import _engine
    except ImportError:
        return []
    return list(_engine.isas())


@pytest.mark.parametrize("isa", _isas())
def test_every_instruction_set_gives_the_references_values_out_of_poisoned_memory(isa: str) -> None:
    environment = {**os.environ, "SRGAN_FAST_ISA": isa, "MALLOC_PERTURB_": "170"}
    done = subprocess.run(
        [sys.executable, "-c", _ISA_CHECK, str(Path(__file__))],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.strip() == "all right", done.stderr[-2000:]


def test_an_unknown_instruction_set_is_an_error() -> None:
    code = (
        "import torch; from srgan_fast.ops.conv import conv; from srgan_fast.ops.prologue import Pending; "
        "conv(Pending(torch.ones(1, 1, 1, 1)), torch.ones(1, 1, 3, 3))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "SRGAN_FAST_ISA": "mmx"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "SRGAN_FAST_ISA is 'mmx'" in done.stderr


def test_moments_of_values_far_from_zero_keep_their_digits() -> None:
    x = torch.randn(4, 16, 20, 20, generator=torch.Generator().manual_seed(3)) + 1000.0
    weight = torch.zeros(16, 16, 3, 3)
    weight[range(16), range(16), 1, 1] = 1.0
    found = conv(x, weight, moments=True)
    exact = found.y.double()
    assert error(found.mean, exact.mean((0, 2, 3))) < 1e-7
    assert error(found.var, exact.var((0, 2, 3), correction=0)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_kept_weights_are_used_and_others_refused(dtype: torch.dtype) -> None:
    given = arguments(ConvCase(), (1, 20, 17, 9, 9), Place("cpu", dtype))
    packed, backward = (conv_pack(given["weight"], 1, b, dtype) for b in (False, True))
    x = given["x"].requires_grad_()
    expected = conv(x, given["weight"])
    found = conv(x, torch.zeros_like(given["weight"]), packed=packed, packed_backward=backward)
    assert torch.equal(found.y, expected.y)
    (wanted,) = torch.autograd.grad(expected.y.sum(), x)
    assert torch.equal(torch.autograd.grad(found.y.sum(), x)[0], wanted)
    with pytest.raises(RuntimeError, match="another convolution"):
        conv(x, given["weight"][:, :, :, :], packed=packed[:-1])


@pytest.mark.parametrize("place", ON_GPU, ids=str)  # floats are not cast
def test_cast_weights_are_used_by_the_library_and_others_refused(place: Place) -> None:
    given = arguments(ConvCase(), (1, 24, 16, 9, 9), place)
    x, weight = given["x"].requires_grad_(), given["weight"]
    cast = cast_weights(weight, place.dtype)
    expected = conv(x, weight)
    (wanted,) = torch.autograd.grad(expected.y.sum(), x)
    other = weight if place.products == "own" else torch.zeros_like(weight)
    found = conv(x, other, packed=cast, packed_backward=cast)
    assert torch.equal(found.y, expected.y)
    assert torch.equal(torch.autograd.grad(found.y.sum(), x)[0], wanted)
    if place.products == "library":
        for wrong in (weight, cast[:8], cast.cpu()):
            with pytest.raises(RuntimeError, match="not those of"):
                conv(x, weight, packed=wrong)


@pytest.mark.parametrize("place", ONE_EACH, ids=str)
def test_gradients_are_computed_only_where_they_are_wanted(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("conv_dgrad", "conv_wgrad"):
        real = getattr(OPS, name)
        monkeypatch.setattr(
            OPS, name, lambda *a, _real=real, _name=name: calls.append(_name) or _real(*a), raising=False
        )
    leaf = torch.randn(1, 16, 8, 8, device=place.device, dtype=place.dtype, requires_grad=True)
    first, second = (torch.randn(16, 16, 3, 3, device=place.device, requires_grad=True) for _ in range(2))
    y = conv(conv(leaf.view_as(leaf), first).y, second).y.sum()
    with data_gradients_only():
        torch.autograd.grad(y, leaf, retain_graph=True)
    assert calls == ["conv_dgrad", "conv_dgrad"]
    calls.clear()
    torch.autograd.backward(y, inputs=[first, second])
    assert calls == ["conv_dgrad", "conv_wgrad", "conv_wgrad"]
    assert first.grad is not None
    assert second.grad is not None


@placed(
    ONE_EACH,
    [ConvCase(prologue="slopes", moments=True), ConvCase(prologue="residual"), ConvCase(stride=2, activation=0.2)],
)
def test_each_gradient_alone_is_the_same_as_among_all(case: ConvCase, place: Place) -> None:
    given = arguments(case, (2, 17, 20, 7, 5), place)
    together = compute(ops_conv, case, given)
    for name in given:
        inputs = {key: t.detach().clone().requires_grad_(key == name) for key, t in given.items()}
        found = gradients(call(ops_conv, case, inputs), inputs)
        assert found.keys() == {f"d{name}"}
        assert torch.equal(found[f"d{name}"], together[f"d{name}"]), name


@pytest.mark.parametrize("part", ["y", "mean", "var", "sum"])
@pytest.mark.parametrize("prologue", ["slope", "residual"])
def test_each_part_of_the_result_has_its_gradient_without_the_others(prologue: str, part: str) -> None:
    case = ConvCase(prologue=prologue, moments=True)
    given = arguments(case, (2, 5, 6, 7, 4), Place("cpu", torch.float64))
    found = []
    for function in (ops_conv, conv_reference):
        inputs = {name: t.detach().clone().requires_grad_() for name, t in given.items()}
        value = getattr(call(function, case, inputs), part)
        if not value.numel():
            pytest.skip("there is no sum without a residual")
        torch.manual_seed(2)
        (value * torch.randn_like(value)).sum().backward()
        found.append({name: t.new_zeros(t.shape) if t.grad is None else t.grad for name, t in inputs.items()})
    for name, expected in found[1].items():
        # A bias moves no variance, and no weight the sum: 0, or what rounding leaves of it.
        torch.testing.assert_close(found[0][name], expected, rtol=1e-11, atol=1e-13)


def test_vectors_of_one_value_stand_for_all_channels() -> None:
    case = ConvCase(moments=True)
    given = arguments(case, (2, 20, 17, 6, 7), Place("cpu", torch.float64))
    given |= {name: torch.full((1,), value, dtype=torch.float64) for name, value in
              {"center": 0.1, "scale": -1.5, "shift": 0.3, "slope": -0.2}.items()}  # fmt: skip
    found, expected = compute(ops_conv, case, given), compute(conv_reference, case, given)
    assert found.keys() == expected.keys()
    for name, value in found.items():
        assert value.shape == expected[name].shape
        torch.testing.assert_close(value, expected[name], rtol=1e-11, atol=1e-12)


@placed(ONE_EACH, [ConvCase(prologue="residual", moments=True), ConvCase(activation=0.0)])
def test_backward_changes_nothing_that_it_reads_and_may_be_repeated(case: ConvCase, place: Place) -> None:
    inputs = {name: t.requires_grad_() for name, t in arguments(case, (2, 17, 20, 7, 5), place).items()}
    result = call(ops_conv, case, inputs)
    kept = [*inputs.values(), *(part for part in result if part.numel())]
    before = [(t._version, t.detach().clone()) for t in kept]
    factor = torch.randn_like(result.y)
    total = (result.y * factor).sum() + result.var.square().sum() + result.sum.square().sum()
    first, second = (torch.autograd.grad(total, list(inputs.values()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(
        t._version == version and torch.equal(t, value) for t, (version, value) in zip(kept, before, strict=True)
    )


def pair(place: Place) -> tuple[Tensor, Tensor]:
    """A small map, and weights that have gradients."""
    x = torch.randn(1, 8, 5, 5, device=place.device, dtype=place.dtype)
    return x, torch.randn(8, 8, 3, 3, device=place.device, requires_grad=True)


@pytest.mark.parametrize("place", ONE_EACH, ids=str)
def test_what_backward_needs_may_not_change_in_between(place: Place) -> None:
    x, weight = pair(place)
    y = conv(x, weight).y
    x.add_(1.0)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("place", ONE_EACH, ids=str)
def test_without_gradients_nothing_is_kept(place: Place) -> None:
    x, weight = pair(place)
    expected = conv(x, weight, moments=True)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context:
            found = conv(x, weight, moments=True)
        assert not found.y.requires_grad
        assert found.y.grad_fn is None
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("place", ONE_EACH, ids=str)
def test_second_order_is_refused(place: Place) -> None:
    x, weight = pair(place)
    x.requires_grad_()
    (dx,) = torch.autograd.grad(conv(x, weight).y.square().sum(), x, create_graph=True)
    with pytest.raises(TrainingError, match="do not support double backward"):
        dx.sum().backward()


@placed(ONE_EACH, [ConvCase(prologue="slope", moments=True)])
def test_compiles_without_a_break(case: ConvCase, place: Place) -> None:
    given = {name: t.requires_grad_() for name, t in arguments(case, (2, 8, 8, 6, 6), place).items()}

    def function(**tensors: Tensor) -> Tensor:
        result = call(ops_conv, case, tensors)
        return (result.y * result.var[:, None, None]).sum()

    expected = torch.autograd.grad(function(**given), list(given.values()))
    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    for a, b in zip(torch.autograd.grad(compiled(**given), list(given.values())), expected, strict=True):
        torch.testing.assert_close(a, b)


X, W = torch.ones(1, 16, 4, 4), torch.ones(8, 16, 3, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: conv(X[0], W), "N, C, H, W maps"),
        (lambda: conv(X, torch.ones(8, 15, 3, 3)), "do not fit a map"),
        (lambda: conv(X, W, shuffled=True), "that is shuffled"),
        (lambda: conv(X, torch.ones(8, 16, 7, 7)), "3x3 of stride 1 or 2"),
        (lambda: conv(X, torch.ones(8, 16, 5, 5), stride=2), "3x3 of stride 1 or 2"),
        (lambda: conv(X, W, stride=3), "3x3 of stride 1 or 2"),
        (lambda: conv(X.half(), W.half()), "float32, float64 or bfloat16"),
        (lambda: conv(X.int(), W.int()), "float32, float64 or bfloat16"),
        (lambda: conv(X, W.double()), "weights of the map's type"),
        (lambda: conv(X, W, scale=torch.ones(5)), "scale has 5 values, not 16"),
        (lambda: conv(X, W, bias=torch.ones(9)), "bias has 9 values, not 8"),
        (lambda: conv(X, W, shift=torch.ones(16).double()), "shift must be of the weights' type"),
        (lambda: conv(X, W, residual=torch.ones(1, 16, 4, 5)), "residual of shape"),
        (lambda: conv(X, W, residual=X.double()), "residual of shape"),
        (lambda: conv(X, W, residual=X, stride=2), "a residual goes with"),
        (lambda: conv(X, W, residual=X, slope=torch.ones(1)), "a residual goes with"),
        (lambda: conv(X, W, moments=True, activation=0.2), "moments are taken before"),
        (lambda: conv(X[:0], W), "an empty map"),
        (lambda: conv(X, W, activation=-0.1), "at least 0"),
        (lambda: conv(X, W, activation=float("nan")), "at least 0"),
        (lambda: conv_pack(W[:0], 1, False), "empty weights"),
        (lambda: conv(X.to("meta"), torch.ones(8, 15, 3, 3, device="meta")), "do not fit a map"),
        (lambda: OPS.conv_wgrad(*Pending(X), W, 1, None, X, *[None] * 5, False), "does not fit"),
        (lambda: OPS.conv_dgrad(*Pending(X), torch.ones(16, 16, 3, 3), 1, None, X, None, torch.ones(16),
                                *[None] * 4), "needs the forward call's result"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_said(call: Any, message: str) -> None:
    with pytest.raises((RuntimeError, TrainingError), match=message):
        call()


META = torch.device("meta")


@pytest.mark.parametrize(
    "call",
    [
        lambda: conv(X, W.to(META)),
        lambda: conv(X.to(META), W),
        lambda: conv(X, W, bias=torch.ones(8, device=META)),
        lambda: conv(X, W, scale=torch.ones(16, device=META)),
        lambda: conv(X, W, residual=X.to(META)),
    ],
)
def test_tensors_on_several_devices_are_refused(call: Any) -> None:
    with pytest.raises(RuntimeError, match="together"):
        call()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e38], ids=str)
@placed(ON_CPU + ON_GPU + FLOATS_ON_GPU)
def test_what_is_no_number_reaches_what_it_touches(case: ConvCase, place: Place, bad: float) -> None:
    given = arguments(case, (1, 5, 6, 12, 12), place)
    clean = compute(ops_conv, case, given)
    given["x"][0, 3, 2, 2] = max(bad, torch.finfo(place.dtype).min)
    found = compute(ops_conv, case, given)
    if math.isfinite(bad):
        return  # large numbers overflow here or there; it is enough that nothing crashes
    reference = compute(conv_reference, case, given, torch.float64)
    for name, value in found.items():
        lost = ~torch.isfinite(reference[name])
        # Of infinite values the reference makes 0 * inf in gradients of the activation's other side; we need not.
        if name == "y" or math.isnan(bad):
            assert not torch.isfinite(value[lost]).any(), name
    # Tiles far away, where there are any, know nothing of it.
    assert torch.equal(found["y"][..., -1, -1], clean["y"][..., -1, -1])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("place", ONE_EACH, ids=str)
def test_what_is_no_number_comes_out_as_such(place: Place, bad: float) -> None:
    x = torch.ones(1, 16, 12, 12, device=place.device, dtype=place.dtype)
    x[0, 3, 5, 5] = bad
    found = conv(x, torch.ones(16, 16, 3, 3, device=place.device), moments=True)
    assert not torch.isfinite(found.y[0, :, 5, 5]).any()
    assert not torch.isfinite(found.mean).any()


def test_phase_orders_are_inverse() -> None:
    values = torch.arange(24.0)
    assert torch.equal(phase_minor(phase_major(values)), values)
    assert phase_major(values)[:6].tolist() == [0, 4, 8, 12, 16, 20]
