"""The fused operators on a GPU: right there, or refused. Without one, what can be said without one."""

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.errors import TrainingError
from srgan_fast.ops import (
    ConvBNLeakyReLU,
    ConvReLU,
    ResidualBlock,
    UpsampleBlock,
    coverage,
    cuda,
    infer,
    infer_checks,
    use_kernels,
    vector_checks,
)
from srgan_fast.ops import conv as conv_module
from srgan_fast.ops.accuracy import CheckError, repeated
from srgan_fast.ops.check_cases import Wants
from srgan_fast.ops.pending import in_units
from srgan_fast.ops.prologue import ARGUMENTS, Pending

from ..stand_in import StandIn

GPU = coverage.gpu_of(torch.cuda.current_device()) if cuda.usable() else None
needs_gpu = pytest.mark.skipif(not cuda.usable(), reason="no GPU, or no CUDA kernels built")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@needs_gpu
@pytest.mark.parametrize(
    "examine", [pytest.param(case.run, id=f"{case.what}, {case.dtype}") for case in cuda.self_test_cases(GPU)]
)
def test_operators_are_their_references(
    examine: Callable[[torch.device], list[CheckError]], device: torch.device
) -> None:
    for error in examine(device):
        assert error.excess <= 1.0, error


@needs_gpu
def test_equal_calls_give_equal_bits(device: torch.device) -> None:
    for case in cuda.CHECKS:
        for dtype, which in case.ways():
            if which == "library":
                continue  # PyTorch's are, if it is told to
            first, second = (cuda.compute(case, device, dtype, which) for _ in range(2))
            assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.skipif(not hasattr(torch.ops.srgan_fast, "conv_products"), reason="no CUDA kernels built")
def test_tf32_is_taken_only_where_it_is_allowed() -> None:
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True), cuda.gemm("own-tf32"):
        pass
    with (
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        pytest.raises(RuntimeError, match="not allowed"),
        cuda.gemm("own-tf32"),
    ):
        pass


@pytest.mark.parametrize("allowed", [True, False])
def test_an_examination_leaves_what_is_allowed(allowed: bool) -> None:
    settings = torch.backends.cudnn
    with settings.flags(enabled=True, allow_tf32=allowed):
        cuda.compute(cuda.CHECKS[9], torch.device("cpu"))
        assert settings.allow_tf32 == allowed


@needs_gpu
@pytest.mark.parametrize(
    ("make", "channels"),
    [
        (lambda: ResidualBlock(64, bias=False, eps=1e-5, slopes=1), 64),
        (lambda: UpsampleBlock(64, with_bn=True, eps=1e-5, slopes=64), 64),
        (lambda: ConvBNLeakyReLU(64, 128, stride=2, with_bn=True), 64),
        (lambda: ConvReLU(3, 64), 3),
    ],
    ids=["residual", "upsample", "stride 2", "VGG"],
)
def test_modules_train_alike(make: Callable[[], nn.Module], channels: int, device: torch.device) -> None:
    torch.manual_seed(0)
    plain = make().to(device)
    fused = copy.deepcopy(plain)
    use_kernels(fused, "fused")
    x = torch.randn(2, channels, 22, 26, device=device)
    results: list[dict[str, Tensor]] = []
    for module in (plain.double(), fused):
        leaf = x.to(next(module.parameters()).dtype).requires_grad_()
        with torch.autocast("cuda", torch.bfloat16, enabled=module is fused):
            y = module(leaf)
        y.double().square().mean().backward()
        found = {name: parameter.grad for name, parameter in module.named_parameters()}
        results.append({"y": y, "x": leaf.grad, **found, **dict(module.named_buffers())})
    expected, got = results
    for name, value in expected.items():
        if value.dtype != torch.int64 and not name.endswith("conv.bias"):  # a bias before a BatchNorm has none
            error = (got[name].double() - value.double()).norm() / value.double().norm()
            assert error < 3e-2, f"{name}: {error:.1e}"


@needs_gpu
def test_operators_can_be_captured_in_graphs(device: torch.device) -> None:
    block = ResidualBlock(64, bias=False, eps=1e-5, slopes=1).to(device)
    use_kernels(block, "fused")
    x = torch.randn(2, 64, 24, 24, device=device).bfloat16()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream), torch.no_grad():
        block.eval()(x)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph), torch.no_grad():
        y = block(x)
    x.copy_(torch.randn(2, 64, 24, 24, device=device))
    graph.replay()
    with torch.no_grad():
        assert torch.equal(y, block(x))


@needs_gpu
def test_what_does_not_fit_is_said(device: torch.device) -> None:
    x, weight = torch.zeros(1, 16, 4, 4, device=device), torch.zeros(8, 16, 3, 3, device=device)
    with pytest.raises(RuntimeError, match="bfloat16, float16 or float32"):
        torch.ops.srgan_fast.conv_forward(*Pending(x.double()), weight, 1, None, None, False, None, None)
    with pytest.raises(RuntimeError, match="different devices"):
        torch.ops.srgan_fast.conv_forward(*Pending(x.bfloat16()), weight.cpu(), 1, None, None, False, None, None)
    block = ConvReLU(16, 8).to(device)
    use_kernels(block, "fused")
    with pytest.raises(TrainingError, match=r"bfloat16, float16 or float32 on CUDA, not float64"):
        block.double()(x.double())
    odd = torch.zeros(5, 16, 3, 3, device=device)
    with pytest.raises(RuntimeError, match="behind a convolution of CUDA maps of float32 wants channels in multiples"):
        torch.ops.srgan_fast.conv_forward(*Pending(x), odd, 1, None, None, True, None, None)


@pytest.mark.parametrize("case", [case for case in cuda.CHECKS if case.size[0] < 10 and case.side < 9], ids=str)
def test_the_examination_knows_right_from_wrong(case: cuda.CheckCase, monkeypatch: pytest.MonkeyPatch) -> None:
    # The CPU's kernels are right in bfloat16; a reference that is off by one pixel must be seen.
    cpu = torch.device("cpu")
    assert all(error.excess <= 1.0 for error in cuda.check(case, cpu))
    reference = cuda.conv_reference

    def shifted(source: Pending, weight: Tensor, *rest: Any, **options: Any) -> object:
        return reference(source, weight.roll(1, 3), *rest, **options)

    monkeypatch.setattr(cuda, "conv_reference", shifted)
    assert any(error.excess > 1.0 for error in cuda.check(case, cpu))


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_the_first_use_may_be_anywhere(context: Callable[[], AbstractContextManager[object]]) -> None:
    with context(), torch.autocast("cpu", torch.bfloat16):
        errors = cuda.check(cuda.CHECKS[1], torch.device("cpu"))
    assert all(error.excess <= 1.0 for error in errors)


@pytest.mark.parametrize(
    ("raw", "shuffled", "weight", "moments", "fits"),
    [
        (48, True, (64, 12), True, False),  # four pixels' channels are in eights, those of one are not
        (64, True, (64, 16), True, True),
        (12, False, (64, 12), False, False),
        (64, False, (5, 64), False, True),
        (64, False, (5, 64), True, False),
        (4096, False, (64, 4096), False, False),
    ],
)
def test_passes_over_floats_want_whole_units(
    raw: int, shuffled: bool, weight: tuple[int, int], moments: bool, fits: bool
) -> None:
    source = Pending(torch.empty(1, raw, 2, 2), scale=torch.ones(raw), shuffled=shuffled)
    assert in_units(source, torch.empty(*weight, 3, 3), moments, None) == fits
    assert in_units(Pending(source.raw), torch.empty(8, raw, 3, 3), moments, 0.0), "nothing stands before"


# --- what an examination notices


@pytest.mark.parametrize("wants", ["source", "weight", "both"])
def test_an_examination_asks_for_a_gradient_alone_with_what_stands_behind(
    wants: Wants, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[str] = []
    for name in ("conv_dgrad", "conv_wgrad"):
        real = getattr(torch.ops.srgan_fast, name)

        def noted(*arguments: object, name: str = name, real: Callable[..., object] = real) -> object:
            called.append(f"{name}, {'with' if arguments[ARGUMENTS + 4] is not None else 'without'} y")
            return real(*arguments)

        monkeypatch.setattr(conv_module._ops, name, noted)
    case = cuda.CheckCase((2, 16, 16, 6, 6), activation=0.2, wants=wants)
    errors = cuda.check(case, torch.device("cpu"))
    assert all(error.excess <= 1.0 for error in errors)
    assert (
        called
        == {
            "source": ["conv_dgrad, with y"],
            "weight": ["conv_wgrad, with y"],
            "both": ["conv_dgrad, with y", "conv_wgrad, with y"],  # on a CPU no pass makes dy
        }[wants]
    )


def test_the_cases_ask_for_each_gradient_alone_behind_moments_and_activations() -> None:
    asked = {(case.wants, case.moments, case.activation is not None, case.size[1] == 3) for case in cuda.CHECKS}
    for wants in ("source", "weight"):
        assert {(wants, True, False, False), (wants, False, True, False), (wants, False, True, True)} <= asked


def test_an_examination_sees_a_lost_fragment_and_one_wrong_element(monkeypatch: pytest.MonkeyPatch) -> None:
    case, cpu = cuda.CheckCase((8, 8, 64, 66, 70), wants="weight"), torch.device("cpu")
    assert all(error.excess <= 1.0 for error in cuda.check(case, cpu))
    real = cuda.conv

    def seen(spoil: Callable[[Tensor], object]) -> list[str]:
        def spoiled(*arguments: object, **rest: object) -> object:
            result = real(*arguments, **rest)  # type: ignore[arg-type]
            with torch.no_grad():
                spoil(result.y)
            return result

        monkeypatch.setattr(cuda, "conv", spoiled)
        return [error.what for error in cuda.check(case, cpu) if error.excess > 1.0]

    assert seen(lambda y: y[0, 8:16, 3, 0:16].zero_()) == [f"one element of y of {case}, GEMM: faster"]
    assert seen(lambda y: y[0, 5, 3, 7].add_(20 * y.float().square().mean().sqrt())) != []


def test_an_examination_sees_bits_that_differ_from_run_to_run() -> None:
    x = torch.rand(5)
    assert repeated("y", x, x.clone()).excess == 0.0
    assert repeated("y", x, x + 1e-6).excess > 1.0
    assert repeated("y", x, x * float("nan")).excess > 1.0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32], ids=str)
def test_pooling_and_batchnorm_are_examined(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    cpu = torch.device("cpu")
    for error in [*vector_checks.check_pooling(cpu, dtype), *vector_checks.check_batchnorm(cpu)]:
        assert error.excess <= 1.0, error
    real, follow = vector_checks.max_pool, vector_checks.bn_follow
    monkeypatch.setattr(vector_checks, "max_pool", lambda x: real(x.flip(3)))  # equal values, another order
    assert any(error.excess > 1.0 for error in vector_checks.check_pooling(cpu, dtype))
    monkeypatch.setattr(vector_checks, "bn_follow", lambda *given: follow(*given[:-1], 31))
    assert any(error.excess > 1.0 for error in vector_checks.check_batchnorm(cpu))


# --- recorded layers, by their references


@pytest.fixture
def layers(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    """Inference's layers in plain torch, in the maps' type, and graphs on a CPU."""
    for layer in ("conv", "block", "tail"):
        monkeypatch.setattr(infer, layer, _plain(getattr(infer, f"{layer}_reference"), layer))
    # The head's reference brings its colours' factors to the device, which a recording does not bear.
    colours = [torch.tensor(values).view(1, 3, 1, 1) for values in infer_checks._COLOURS]

    def head(x: Tensor, gain: object, offset: object, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        y = F.conv2d(x * colours[0] + colours[1], weight, bias, padding=4)
        return torch.where(y > 0, y, y * slope[:, None, None])

    monkeypatch.setattr(infer, "head", _plain(head, "head"))
    for pack in ("pack_head", "pack_conv", "pack_tail"):
        monkeypatch.setattr(infer, pack, lambda weight, dtype: weight.to(dtype).float())
    monkeypatch.setattr(infer_checks, "wait", lambda device: None)
    monkeypatch.setattr(infer_checks, "_RECORDED_SIZES", ((1, 6, 7), (2, 3, 5), (1, 8, 4)))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield StandIn(monkeypatch)
    torch.set_num_threads(before)


def _plain(reference: Callable[..., Tensor], layer: str) -> Callable[..., Tensor]:
    def compute(x: Tensor, *arguments: object, weights_are_constant: bool = False, **rest: object) -> Tensor:
        rest = {name: value.float() if isinstance(value, Tensor) else value for name, value in rest.items()}
        y = reference(x.float(), *arguments, **rest)
        return y if layer == "tail" else y.bfloat16()

    return compute


def test_recorded_layers_are_examined(layers: StandIn) -> None:
    for error in infer_checks.check_recorded(torch.device("cpu"), torch.bfloat16):
        assert error.excess <= 1.0, error
    assert [graph.replays for graph in layers.graphs] == [6] * 3
    assert layers.modes == ["thread_local"] * 3


def test_a_kernel_that_does_not_wait_for_the_one_before_is_seen(
    layers: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, before = infer.conv, {}

    def early(x: Tensor, *arguments: object, weights_are_constant: bool = False, **rest: object) -> Tensor:
        old = before.setdefault((tuple(x.shape), weights_are_constant), torch.zeros_like(x))
        y = real(
            old if weights_are_constant else x, *arguments, **rest
        )  # what the kernel before left there the last time
        old.copy_(x)
        return y

    monkeypatch.setattr(infer, "conv", early)
    wrong = [e for e in infer_checks.check_recorded(torch.device("cpu"), torch.bfloat16) if e.excess > 1.0]
    assert wrong
    assert all("replay" in error.what for error in wrong)


# --- tiles


# Multiprocessors and kilobytes of shared memory of a block, of an A100, an RTX 3060 and 4090, an H200, a slice of one,
# a B200, an RTX 5090, and an Orin.
GPUS = [(108, 163), (28, 99), (128, 99), (132, 227), (16, 227), (148, 227), (170, 99), (16, 163)]
planned = pytest.mark.skipif(not hasattr(torch.ops.srgan_fast, "kernel_plan"), reason="no CUDA kernels built")


@planned
@pytest.mark.parametrize(("multiprocessors", "kilobytes"), GPUS)
def test_every_kernel_and_tile_of_real_sizes_is_examined(multiprocessors: int, kilobytes: int) -> None:
    gpu = coverage.Gpu(multiprocessors, kilobytes * 1024)
    fixed = {key for case in cuda.CHECKS for key in coverage.tested_keys(case, gpu)}
    needed = {key for case in coverage.TRAINING for key in coverage.training_keys(case, gpu)}
    added = coverage.training_cases(gpu, cuda.CHECKS)
    assert needed - fixed  # which the fixed cases leave out
    assert not needed - fixed - {key for case in added for key in coverage.tested_keys(case, gpu)}
    layers = {key for case in infer_checks.CASES for key in coverage.inference_keys(case, gpu)}
    wanted = {key for case in coverage.INFERENCE for key in coverage.inference_keys(case, gpu)}
    more = coverage.inference_cases(gpu, infer_checks.CASES)
    assert wanted - layers
    assert not wanted - layers - {key for case in more for key in coverage.inference_keys(case, gpu)}
    # Small enough for float64, of which small GPUs compute a 64th.
    for case in (*added, *more):
        n, c, o, h, w = case.size
        side = case.side if isinstance(case, cuda.CheckCase) else 3
        assert n * h * w * c * o * side**2 * 2 < 60e9, case


@planned
def test_the_planner_refuses_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="there is no kernel backward"):
        torch.ops.srgan_fast.kernel_plan("backward", [1] * 10, 2, False, 132, 232448)
    with pytest.raises(ValueError, match="of block five or six sizes are needed"):
        torch.ops.srgan_fast.kernel_plan("block", [1], 2, False, 132, 232448)
    with pytest.raises(RuntimeError, match="a GPU that is one"):
        torch.ops.srgan_fast.kernel_plan("block", [1] * 5, 2, False, 0, 232448)
