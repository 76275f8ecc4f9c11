"""Max pooling on a GPU is torch's; without one, when it is taken."""

import pytest
import torch
from torch import Tensor, nn

from srgan_fast.errors import TrainingError
from srgan_fast.models import FeatureExtractor
from srgan_fast.ops import cuda, use_kernels
from srgan_fast.ops.pool import max_pool, max_pool_reference, pools

needs_gpu = pytest.mark.skipif(not cuda.usable(), reason="no GPU, or no CUDA kernels built")


def draw(*shape: int, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    """Of few values, so that many are equal."""
    torch.manual_seed(0)
    return (torch.randint(-3, 4, shape) / 2).to("cuda", dtype)


@needs_gpu
@pytest.mark.parametrize("dtype", cuda.MAP_TYPES, ids=str)
@pytest.mark.parametrize("shape", [(2, 64, 24, 36), (1, 8, 2, 2), (3, 2048, 4, 2)], ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_it_is_torchs(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> None:
    x = draw(*shape, dtype=dtype).contiguous(memory_format=layout)
    x[0, 0, 0, 1] = torch.nan
    results = []
    for pool in (max_pool, max_pool_reference):
        leaf = x.detach().requires_grad_()
        y = pool(leaf)
        y.backward(torch.arange(y.numel(), device="cuda").reshape(y.shape) % 7 - 3.0)
        results.append((y.detach(), leaf.grad))
    (y, gradient), (expected, expected_gradient) = results
    assert torch.equal(y.nan_to_num(9), expected.nan_to_num(9))
    assert torch.equal(gradient, expected_gradient)


@needs_gpu
def test_opcheck() -> None:
    x = draw(2, 16, 4, 6)
    torch.library.opcheck(torch.ops.srgan_fast.max_pool.default, (x.requires_grad_(),))
    torch.library.opcheck(torch.ops.srgan_fast.max_pool_backward.default, (draw(2, 16, 2, 3), x.detach()))


@needs_gpu
def test_what_does_not_fit_is_said() -> None:
    ops = torch.ops.srgan_fast
    for wrong in (draw(1, 12, 4, 4), draw(1, 8, 3, 4), draw(1, 8, 4), draw(0, 8, 4, 4), draw(1, 4096, 2, 2)):
        with pytest.raises(RuntimeError, match="max_pool takes N, C, H, W"):
            max_pool(wrong)
    with pytest.raises(RuntimeError, match="bfloat16, float16 or float32"):
        max_pool(draw(1, 8, 4, 4, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"a gradient \(1, 8, 1, 1\) of a map"):
        ops.max_pool_backward(draw(1, 8, 1, 1), draw(1, 8, 4, 4))


@needs_gpu
def test_second_order_is_refused() -> None:
    x = draw(1, 8, 4, 4).requires_grad_()
    (gradient,) = torch.autograd.grad(max_pool(x).square().sum(), x, create_graph=True)
    with pytest.raises(TrainingError, match="gradients of gradients"):
        gradient.sum().backward()


@needs_gpu
def test_a_vgg_takes_it_where_sides_are_even_and_torchs_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = torch.ops.srgan_fast.max_pool
    monkeypatch.setattr(torch.ops.srgan_fast, "max_pool", lambda x: calls.append(x.shape) or real(x), raising=False)
    vgg = FeatureExtractor("features[:18]", weights="random").to("cuda")
    use_kernels(vgg, "fused")
    with torch.autocast("cuda", torch.bfloat16), torch.no_grad():
        vgg(torch.rand(1, 3, 36, 28, device="cuda"))
        assert [tuple(shape) for shape in calls] == [(1, 64, 36, 28), (1, 128, 18, 14)]
        vgg(torch.rand(1, 3, 19, 28, device="cuda"))
    assert len(calls) == 2


def test_on_a_cpu_it_is_torchs() -> None:
    assert not pools(nn.MaxPool2d(2, 2), torch.zeros(1, 8, 4, 4))
