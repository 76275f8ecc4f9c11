"""The fused operators on a GPU: right there, or refused. Without one, what can be said without one."""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
import torch
from torch import Tensor, nn

from srgan_fast.errors import TrainingError
from srgan_fast.ops import ConvBNLeakyReLU, ConvReLU, ResidualBlock, UpsampleBlock, cuda, use_kernels
from srgan_fast.ops.accuracy import CheckError
from srgan_fast.ops.pending import Pending, in_units

needs_gpu = pytest.mark.skipif(not cuda.usable(), reason="no GPU, or no CUDA kernels built")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


@needs_gpu
@pytest.mark.parametrize(
    "examine", [pytest.param(case.run, id=f"{case.what}, {case.dtype}") for case in cuda.examination()]
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
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=True), cuda.products("own-tf32"):
        pass
    with (
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
        pytest.raises(RuntimeError, match="not allowed"),
        cuda.products("own-tf32"),
    ):
        pass


@pytest.mark.parametrize("allowed", [True, False])
def test_an_examination_leaves_what_is_allowed(allowed: bool) -> None:
    settings = torch.backends.cudnn
    with settings.flags(enabled=True, allow_tf32=allowed):
        cuda.compute(cuda.CHECKS[-3], torch.device("cpu"))
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
        torch.ops.srgan_fast.conv_forward(x.double(), weight, *[None] * 6, 1, False, False, None)
    with pytest.raises(RuntimeError, match="different devices"):
        torch.ops.srgan_fast.conv_forward(x.bfloat16(), weight.cpu(), *[None] * 6, 1, False, False, None)
    block = ConvReLU(16, 8).to(device)
    use_kernels(block, "fused")
    with pytest.raises(TrainingError, match=r"bfloat16, float16 or float32 on CUDA, not float64"):
        block.double()(x.double())
    odd = torch.zeros(5, 16, 3, 3, device=device)
    with pytest.raises(RuntimeError, match="behind a convolution of CUDA maps of float32 wants channels in multiples"):
        torch.ops.srgan_fast.conv_forward(x, odd, *[None] * 6, 1, False, True, None)


@pytest.mark.parametrize("case", [case for case in cuda.CHECKS if case.size[0] < 10 and case.side < 9], ids=str)
def test_the_examination_knows_right_from_wrong(case: cuda.CheckCase, monkeypatch: pytest.MonkeyPatch) -> None:
    # The CPU's kernels are right in bfloat16; a reference that is off by one pixel must be seen.
    cpu = torch.device("cpu")
    assert all(error.excess <= 1.0 for error in cuda.check(case, cpu))
    reference = cuda.conv_reference

    def shifted(x: Tensor, weight: Tensor, **rest: object) -> object:
        return reference(x, weight.roll(1, 3), **rest)  # type: ignore[arg-type]

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
