"""Our CUDA kernels behind a backend. Without a GPU the layers are computed in plain torch from the packed weights."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from srgan_fast.architectures.srgan import IMAGENET_NORMALISED, SIGNED, Conventions, GeneratorConfig
from srgan_fast.bench.accuracy import compare
from srgan_fast.errors import BackendError
from srgan_fast.models import DEFAULT_MODEL, GeneratorFile, load_generator, model_of, read_generator, read_model
from srgan_fast.ops import infer
from srgan_fast.ops.conv import tail_weight
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.runtime import cuda_backend
from srgan_fast.runtime.cuda_generator import CudaGenerator

CPU = torch.device("cpu")


def product(x: Tensor, weights: Tensor, out: int, rows: int, columns: int) -> Tensor:
    """A convolution with packed weights, one tap after the other, as the kernels go through them.

    In float64, since torch may add up in another order where a picture has another size, and rounding its maps to 16
    bits would magnify that.
    """
    height, width = x.shape[2:]
    padded = F.pad(x.double(), (columns // 2, columns // 2, rows // 2, rows // 2))
    total = torch.zeros(x.shape[0], out, height, width, dtype=torch.float64)
    for tap in range(rows * columns):
        window = padded[:, :, tap // columns :, tap % columns :][:, :, :height, :width]
        total += torch.einsum("nchw,oc->nohw", window, weights[tap, :out, : x.shape[1]].double())
    return total.float()


def emulated_conv(
    x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor | None = None, residual: Tensor | None = None,
    shuffle: bool = False, settled: bool = False,
) -> Tensor:  # fmt: skip
    y = product(x, weights, len(bias), 3, 3) + bias[:, None, None]
    if slope is not None:
        y = torch.where(y > 0, y, y * slope[:, None, None])
    if residual is not None:
        y = y + residual.float()
    if shuffle:
        y = F.pixel_shuffle(y.unflatten(1, (4, -1)).transpose(1, 2).flatten(1, 2), 2)  # type: ignore[no-untyped-call]
    return y.to(x.dtype)


def emulated_block(
    x: Tensor, weights: Tensor, bias: Tensor, slope: Tensor, outer_weights: Tensor, outer_bias: Tensor,
    settled: bool = False,
) -> Tensor:  # fmt: skip
    return emulated_conv(emulated_conv(x, weights, bias, slope), outer_weights, outer_bias, residual=x)


def emulated_head(
    pictures: Tensor, gain: Sequence[float], offset: Sequence[float], weights: Tensor, bias: Tensor, slope: Tensor,
    settled: bool = False,
) -> Tensor:  # fmt: skip
    """Rows of pixels by twos, from one above the picture on."""
    mapped = pictures * torch.tensor(gain).view(3, 1, 1) + torch.tensor(offset).view(3, 1, 1)
    height, width = pictures.shape[2:]
    padded = F.pad(mapped, (4, 4, 4, 5)).double()
    y = bias[:, None, None].double().expand(len(pictures), -1, height, width)
    for tap in range(5):
        rows = [padded[:, :, 2 * tap + r :, a:][:, :, :height, :width] for r in range(2) for a in range(9)]
        y = y + torch.einsum("nchw,oc->nohw", torch.cat(rows, 1), weights[tap, : len(bias), :54].double())
    return torch.where(y > 0, y, y * slope[:, None, None]).to(weights.dtype)


def emulated_tail(x: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """Products of columns of taps, added up along rows of pixels."""
    width = x.shape[3]
    products = product(F.pad(x, (2, 2)), weights, 60, 5, 1).view(x.shape[0], 5, 12, x.shape[2], -1)
    total = torch.stack([products[:, tap, :, :, tap : tap + width] for tap in range(5)]).sum(0)
    return F.pixel_shuffle(total, 2) + bias[:, None, None]


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(infer, "head", emulated_head)
    monkeypatch.setattr(infer, "conv", emulated_conv)
    monkeypatch.setattr(infer, "block", emulated_block)
    monkeypatch.setattr(infer, "tail", emulated_tail)


def test_the_emulation_computes_what_the_references_do() -> None:
    torch.manual_seed(0)
    pictures, gain, offset = torch.rand(2, 3, 6, 7), (2.0, 1.0, 0.5), (-1.0, 0.0, 0.25)
    weight, bias, slope = torch.randn(8, 3, 9, 9), torch.randn(8), torch.rand(8)
    got = emulated_head(pictures, gain, offset, infer.pack_head(weight, torch.float32), bias, slope)
    torch.testing.assert_close(got, infer.head_reference(pictures, gain, offset, weight, bias, slope))

    x, weight, bias, slope = torch.randn(2, 24, 5, 6), torch.randn(32, 24, 3, 3), torch.randn(32), torch.rand(32)
    packed, residual = infer.pack_conv(weight, torch.float32), torch.randn(2, 32, 5, 6)
    for behind in ({"slope": slope}, {"residual": residual}, {"slope": slope, "shuffle": True}):
        expected = infer.conv_reference(x, weight, bias, **behind)
        torch.testing.assert_close(emulated_conv(x, packed, bias, **behind), expected)

    x, weight, bias = torch.randn(2, 32, 5, 6), torch.randn(3, 8, 9, 9), torch.randn(3)
    packed = infer.pack_tail(weight, torch.float32)
    assert packed.shape == (5, 128, 64)
    torch.testing.assert_close(
        emulated_tail(x, packed, bias), infer.tail_reference(x, weight, bias), rtol=1e-4, atol=1e-4
    )
    assert tail_weight(weight).shape == (12, 32, 5, 5)


CONFIGS = {
    "usual": GeneratorConfig(channels=16, blocks=2),
    "blocks in one kernel": GeneratorConfig(channels=64, blocks=2),
    "odd channels": GeneratorConfig(channels=13, blocks=1, block_bias=True, prelu="channel", upsample_bn=True),
    "three channels": GeneratorConfig(channels=3, blocks=1),
    "x2, tanh": GeneratorConfig(
        scale=2, channels=8, blocks=1, conventions=Conventions(output="tanh", lr_map=SIGNED, hr_map=SIGNED)
    ),
    "x8, normalised": GeneratorConfig(
        scale=8, channels=8, blocks=1, conventions=Conventions(lr_map=IMAGENET_NORMALISED, hr_map=SIGNED)
    ),
}


FileOf = Callable[[GeneratorConfig], GeneratorFile]


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_it_computes_the_generator(config: GeneratorConfig, file_of: FileOf) -> None:
    file = file_of(config)
    lr = torch.rand(2, 3, 5, 7)
    with torch.inference_mode():
        got = CudaGenerator(model_of(file).network, file.name, torch.float32, CPU).compute(lr)
        expected = load_generator(file)(lr)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that says it is a GPU."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 24, 1 << 30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 0)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 0)
    monkeypatch.setattr(cuda_backend, "_current_device", lambda: CPU)


@pytest.mark.usefixtures("emulated", "device")
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pictures_in_tiles_are_the_whole_pictures(dtype: Any, file_of: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(GeneratorConfig(channels=8, blocks=1))
    backend = cuda_backend.CudaBackend(model_of(file), "bf16", 1)
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (43, 37, 3)).astype(dtype)
    rows: list[int] = []
    in_one = backend.upscale(image)
    monkeypatch.setattr(backend, "_largest_area", lambda: 700)
    in_tiles = backend.upscale(image, rows.append)
    assert in_one.shape == (172, 148, 3)
    assert in_one.dtype == in_tiles.dtype == dtype
    np.testing.assert_array_equal(in_one, in_tiles)
    assert rows == sorted(rows)
    assert rows[-1] == 172
    assert len(rows) > 1
    lr = image.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(np.iinfo(dtype).max)
    exact = backend.run(lr)[0]
    np.testing.assert_array_equal(
        in_one, np.rint(exact.clip(0, 1) * np.float32(np.iinfo(dtype).max)).astype(dtype).transpose(1, 2, 0)
    )


@pytest.mark.usefixtures("emulated", "device")
def test_batches_in_tiles_are_the_whole_batches(file_of: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_backend.CudaBackend(model_of(file_of(GeneratorConfig(channels=8, blocks=1))), "fp16", 1)
    lr = np.random.default_rng(0).random((2, 3, 41, 33), np.float32)
    at_once = backend.run(lr)
    monkeypatch.setattr(backend, "_largest_area", lambda: 700)
    np.testing.assert_allclose(backend.run(lr), at_once, rtol=0, atol=1e-6)


@pytest.mark.usefixtures("emulated", "device")
def test_tiles_are_as_large_as_memory_and_kernels_allow(file_of: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_backend.CudaBackend(model_of(file_of(GeneratorConfig(channels=64, blocks=1))), "fp16", 1)
    areas = []
    for free in (1 << 26, 1 << 30, 1 << 40):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device, free=free: (free, free))
        areas.append(backend._largest_area())
    assert 0 < areas[0] < areas[1] < areas[2]
    assert areas[2] * 4 * 256 < 2**31  # the last stage's map
    largest = max(
        (t.region_bottom - t.region_top) * (t.region_right - t.region_left) for t in backend._tiles(9999, 9999)
    )
    assert 0.5 * areas[2] < largest <= areas[2]
    assert len(backend._tiles(1000, 1000)) == 1
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 1 << 30)  # by torch, and free
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 26, 1 << 30))
    assert backend._largest_area() > areas[1]


@pytest.mark.usefixtures("emulated", "device")
def test_a_model_beyond_16_bits_is_refused(file_of: FileOf) -> None:
    file = file_of(GeneratorConfig(channels=8, blocks=1))
    file.weights["head.conv.bias"] = np.full(8, 1e6, np.float32)
    with pytest.raises(BackendError, match="leave the range of fp16; take --precision bf16, or --precision fp32"):
        cuda_backend.CudaBackend(model_of(file), "fp16", 1)


@pytest.mark.usefixtures("emulated", "device")
def test_a_picture_beyond_16_bits_is_refused(file_of: FileOf) -> None:
    # A model that is well on the picture that it is tried with, and overflows on another.
    backend = cuda_backend.CudaBackend(model_of(file_of(GeneratorConfig(channels=8, blocks=1))), "fp16", 1)
    backend._generator._head.weights.mul_(3e4)
    with pytest.raises(BackendError, match="leave the range of fp16"):
        backend.upscale(np.full((9, 9, 3), 255, np.uint8))
    with pytest.raises(BackendError, match="leave the range of fp16"):
        backend.run(np.ones((1, 3, 9, 9), np.float32))


def test_why_it_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_backend.why_not() == "needs a CUDA device that PyTorch can use"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(cuda_backend, "problem_of", lambda device: "it is too old")
    assert cuda_backend.why_not() == "cannot be used: it is too old"
    monkeypatch.setattr(cuda_backend, "problem_of", lambda device: None)
    assert cuda_backend.why_not() is None


needs_gpu = pytest.mark.skipif(
    not torch.cuda.is_available() or why_not_on_cuda() is not None, reason="no GPU, or no CUDA kernels built"
)


@needs_gpu
@pytest.mark.parametrize(("precision", "least"), [("fp16", 70.0), ("bf16", 50.0)])
def test_a_gpu_computes_the_bundled_model(precision: Any, least: float) -> None:
    file = read_generator(DEFAULT_MODEL)
    backend = cuda_backend.CudaBackend(model_of(file), precision, 1)
    exact = load_generator(file).double().cuda()
    rng = np.random.default_rng(0)
    # Every shape is computed kernel by kernel, then recorded, then replayed with other pictures; more than are kept.
    shapes = [(1, 3, 33, 47), (2, 3, 16, 16), (1, 3, 1, 1), (1, 3, 130, 70), (3, 3, 5, 90), (1, 3, 64, 65)]
    for shape in shapes * 3:
        lr = rng.random(shape, np.float32)
        with torch.inference_mode():
            expected = exact(torch.from_numpy(lr).double().cuda()).cpu().numpy()
        assert compare(backend.run(lr), expected).psnr_db > least, shape


@needs_gpu
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_gpu_computes_any_generator(config: GeneratorConfig, file_of: FileOf) -> None:
    file = file_of(config)
    backend = cuda_backend.CudaBackend(model_of(file), "fp16", 1)
    exact = load_generator(file).double().cuda()
    for _ in range(3):  # kernel by kernel, recorded, replayed
        lr = np.random.default_rng(0).random((2, 3, 19, 23), np.float32)
        with torch.inference_mode():
            expected = exact(torch.from_numpy(lr).double().cuda()).cpu().numpy()
        assert compare(backend.run(lr), expected).psnr_db > 55


@needs_gpu
def test_a_gpu_upscales_pictures_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_backend.CudaBackend(read_model(DEFAULT_MODEL), "fp16", 1)
    image = np.random.default_rng(0).integers(0, 256, (150, 210, 3)).astype(np.uint8)
    in_one = backend.upscale(image)
    monkeypatch.setattr(backend, "_largest_area", lambda: 146 * 146)
    in_tiles = backend.upscale(image)
    # A pixel's products are added in the same order wherever it lies in its block.
    np.testing.assert_array_equal(in_one, in_tiles)
