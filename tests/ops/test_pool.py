"""Max pooling is torch's, on a CPU at every level and on a GPU; and when it is taken."""

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from srgan_fast import _engine
from srgan_fast.errors import TrainingError
from srgan_fast.models import FeatureExtractor
from srgan_fast.ops import cuda, use_kernels
from srgan_fast.ops.pool import max_pool, max_pool_reference, pools

needs_gpu = pytest.mark.skipif(not cuda.usable(), reason="no GPU, or no CUDA kernels built")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_gpu)]
CPU_TYPES = (torch.bfloat16, torch.float32, torch.float64)
ON_A_CPU = [(2, 64, 24, 36), (1, 8, 2, 2), (3, 5, 7, 4), (2, 33, 4, 9), (1, 1, 3, 3), (1, 17, 5, 2)]
ON_A_GPU = [(2, 64, 24, 36), (1, 8, 2, 2), (3, 2048, 4, 2)]


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16, device: str = "cpu") -> Tensor:
    """Of few values, so that many are equal."""
    torch.manual_seed(0)
    return (torch.randint(-3, 4, shape) / 2).to(device, dtype)


def check_it_is_torchs(x: Tensor) -> None:
    """Values and gradients, with something that is no number among them."""
    x[0, 0, 0, 1] = torch.nan
    results = []
    for pool in (max_pool, max_pool_reference):
        leaf = x.detach().requires_grad_()
        y = pool(leaf)
        y.backward((torch.arange(y.numel(), device=x.device).reshape(y.shape) % 7 - 3.0).to(x.dtype))
        results.append((y.detach(), leaf.grad))
    (y, gradient), (expected, expected_gradient) = results
    assert torch.equal(y.nan_to_num(9), expected.nan_to_num(9))
    assert torch.equal(gradient, expected_gradient)


@pytest.mark.parametrize("dtype", CPU_TYPES, ids=str)
@pytest.mark.parametrize("shape", ON_A_CPU, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_is_torchs(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
    check_it_is_torchs(draw(*shape, dtype=dtype).contiguous(memory_format=layout))


@needs_gpu
@pytest.mark.parametrize("dtype", cuda.MAP_TYPES, ids=str)
@pytest.mark.parametrize("shape", ON_A_GPU, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_is_torchs_on_a_gpu(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
    check_it_is_torchs(draw(*shape, dtype=dtype, device="cuda").contiguous(memory_format=layout))


@pytest.mark.parametrize("level", _engine.isas())
def test_it_is_torchs_at_every_level(level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", level)
    script = (
        "import torch\n"
        "from tests.ops.test_pool import CPU_TYPES, ON_A_CPU, check_it_is_torchs, draw\n"
        "for shape in ON_A_CPU:\n"
        "    for dtype in CPU_TYPES:\n"
        "        check_it_is_torchs(draw(*shape, dtype=dtype))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.parametrize("device", DEVICES)
def test_opcheck(device: str) -> None:
    x = draw(2, 16, 4, 6, device=device)
    torch.library.opcheck(torch.ops.srgan_fast.max_pool.default, (x.requires_grad_(),))
    g = draw(2, 16, 2, 3, device=device)
    torch.library.opcheck(torch.ops.srgan_fast.max_pool_backward.default, (g, x.detach()))


def test_gradcheck() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(max_pool, (x,))


def test_what_does_not_fit_is_said() -> None:
    for wrong in (draw(1, 8, 1, 4), draw(1, 8, 4, 1), draw(1, 8, 4), draw(0, 8, 4, 4)):
        with pytest.raises(RuntimeError, match="max_pool takes N, C, H, W"):
            max_pool(wrong)
    with pytest.raises(RuntimeError, match="bfloat16, float32 or float64"):
        max_pool(draw(1, 8, 4, 4, dtype=torch.float16))
    for g in (draw(1, 8, 1, 1), draw(1, 8, 2, 2, dtype=torch.float32)):
        with pytest.raises(RuntimeError, match=r"a gradient \(1, 8, \d, \d\) of a map"):
            torch.ops.srgan_fast.max_pool_backward(g, draw(1, 8, 4, 4))


@needs_gpu
def test_what_does_not_fit_a_gpu_is_said() -> None:
    ops = torch.ops.srgan_fast
    shapes = ((1, 12, 4, 4), (1, 8, 3, 4), (1, 8, 4), (0, 8, 4, 4), (1, 4096, 2, 2))
    for wrong in (draw(*shape, device="cuda") for shape in shapes):
        with pytest.raises(RuntimeError, match="max_pool takes N, C, H, W"):
            max_pool(wrong)
    with pytest.raises(RuntimeError, match="bfloat16, float16 or float32"):
        max_pool(draw(1, 8, 4, 4, dtype=torch.float64, device="cuda"))
    with pytest.raises(RuntimeError, match=r"a gradient \(1, 8, 1, 1\) of a map"):
        ops.max_pool_backward(draw(1, 8, 1, 1, device="cuda"), draw(1, 8, 4, 4, device="cuda"))


@pytest.mark.parametrize("device", DEVICES)
def test_second_order_is_refused(device: str) -> None:
    x = draw(1, 8, 4, 4, device=device).requires_grad_()
    (gradient,) = torch.autograd.grad(max_pool(x).square().sum(), x, create_graph=True)
    with pytest.raises(TrainingError, match="double backward"):
        gradient.sum().backward()


@pytest.mark.parametrize("device", DEVICES)
def test_a_vgg_takes_it(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = torch.ops.srgan_fast.max_pool
    monkeypatch.setattr(torch.ops.srgan_fast, "max_pool", lambda x: calls.append(x.shape) or real(x), raising=False)
    vgg = FeatureExtractor("features[:18]", weights="random").to(device)
    use_kernels(vgg, "fused")
    with torch.autocast(device, torch.bfloat16), torch.no_grad():
        vgg(torch.rand(1, 3, 36, 28, device=device))
        assert [tuple(shape) for shape in calls] == [(1, 64, 36, 28), (1, 128, 18, 14)]
        vgg(torch.rand(1, 3, 19, 28, device=device))
    assert len(calls) == (2 if device == "cuda" else 4)  # odd sides are torch's on a GPU


def test_other_pooling_is_torchs() -> None:
    x = torch.zeros(1, 8, 4, 4)
    assert pools(nn.MaxPool2d(2, 2), x)
    others = (
        nn.MaxPool2d(3, 2),
        nn.MaxPool2d(2, 1),
        nn.MaxPool2d(2, 2, padding=1),
        nn.MaxPool2d(2, 2, ceil_mode=True),
        nn.MaxPool2d(2, 2, return_indices=True),
        nn.AvgPool2d(2, 2),
    )
    assert not any(pools(layer, x) for layer in others)
    assert not pools(nn.MaxPool2d(2, 2), x.half())
