"""Our CUDA kernels behind a backend. Without a GPU the layers are computed in plain torch from the packed weights."""

from typing import Any

import numpy as np
import pytest
import torch

from srgan_fast.architectures.srgan import SIGNED, Conventions, GeneratorConfig
from srgan_fast.bench.accuracy import compare
from srgan_fast.errors import BackendError
from srgan_fast.models import DEFAULT_MODEL, ModelFile, load_generator, model_of, read_generator, read_model
from srgan_fast.network import Network, receptive_radius
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.runtime import cuda_backend
from srgan_fast.runtime.protocol import BackendEntry
from srgan_fast.runtime.upscaler import Upscaler

from .conftest import Exact, FileOf
from .test_cuda_network import CONFIGS
from .test_native_networks import compact, dense, residual

CPU = torch.device("cpu")


def model(network: Network) -> ModelFile:
    return ModelFile(network, "random", "random", {})


def compute_at_most(backend: cuda_backend.CudaBackend, area: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets a backend compute so many pixels at once, whatever fitted before."""
    monkeypatch.setattr(backend, "_largest_area", lambda: area)
    backend._fitted = 0


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
def test_images_in_tiles_are_the_whole_images(dtype: Any, file_of: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    file = file_of(GeneratorConfig(channels=8, blocks=1))
    backend = cuda_backend.CudaBackend(model_of(file), "bf16", 1)
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (43, 37, 3)).astype(dtype)
    rows: list[int] = []
    in_one = backend.upscale(image)
    compute_at_most(backend, 700, monkeypatch)
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
    compute_at_most(backend, 700, monkeypatch)
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
def test_an_image_like_one_before_asks_no_gpu_about_memory(file_of: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_backend.CudaBackend(model_of(file_of(GeneratorConfig(channels=8, blocks=1))), "fp16", 1)
    asked = 0

    def mem_get_info(device: torch.device) -> tuple[int, int]:
        nonlocal asked
        asked += 1
        return 1 << 24, 1 << 30

    monkeypatch.setattr(torch.cuda, "mem_get_info", mem_get_info)
    image, lr = np.zeros((40, 40, 3), np.uint8), np.zeros((1, 3, 40, 40), np.float32)
    backend.upscale(image)
    assert asked == 1
    backend.upscale(image)
    backend.upscale(image[:39])
    backend.run(lr)
    assert asked == 1  # what fitted, and less, fits
    backend.run(lr.repeat(2, 0))
    assert asked == 2
    backend.upscale(image.repeat(2, 0))
    assert asked == 2


@pytest.mark.usefixtures("emulated", "device")
@pytest.mark.parametrize("pixels", [False, True])
def test_memory_that_others_took_is_asked_about_again(
    pixels: bool, file_of: FileOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = cuda_backend.CudaBackend(model_of(file_of(GeneratorConfig(channels=8, blocks=1))), "fp16", 1)
    rng = np.random.default_rng(0)
    image, rows = rng.integers(0, 256, (50, 41, 3)).astype(np.uint8), list[int]()
    lr = rng.random((1, 3, 50, 41), np.float32)

    def compute() -> Any:
        return backend.upscale(image, rows.append) if pixels else backend.run(lr)

    before = compute()
    real, areas = backend._network.compute, list[int]()

    def compute_in_little(images: torch.Tensor) -> torch.Tensor:
        areas.append(images.shape[2] * images.shape[3])
        if areas[-1] > 1500:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(images)

    monkeypatch.setattr(backend._network, "compute", compute_in_little)
    free = int(1500 * backend._network.plan.bytes_per_pixel / cuda_backend._FREE_SHARE)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, 1 << 30))
    emptied = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(True))
    np.testing.assert_allclose(compute(), before, rtol=0, atol=1 if pixels else 1e-3)
    assert emptied == [True]
    assert areas[0] == 50 * 41
    assert max(areas[1:]) <= 1500
    areas.clear()
    compute()
    assert max(areas) <= 1500  # it does not try what did not fit


@pytest.mark.usefixtures("emulated", "device")
def test_memory_that_is_too_little_for_a_tile_is_an_error(file_of: FileOf, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_backend.CudaBackend(model_of(file_of(GeneratorConfig(channels=8, blocks=1))), "fp16", 1)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)

    def compute(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(backend._network, "compute", compute)
    with pytest.raises(torch.OutOfMemoryError):
        backend.run(np.zeros((1, 3, 9, 9), np.float32))


NETWORKS = {
    "ESRGAN": dense(16, 8),
    "ESRGAN x2, unshuffled": dense(16, 8, unshuffle=2),
    "Compact, gray": compact(16, 4, channels=1),
    "Compact, 4 channels": compact(16, 2, channels=4),
    "MSRResNet": residual(16),
}


@pytest.mark.usefixtures("emulated", "device")
@pytest.mark.parametrize(("precision", "least"), [("fp16", 55.0), ("bf16", 37.0)])
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_it_computes_networks_of_every_architecture(
    network: Network, precision: Any, least: float, exact: Exact
) -> None:
    backend = cuda_backend.CudaBackend(model(network), precision, 1)
    lr = np.random.default_rng(0).random((2, network.channels, 12, 16), np.float32)
    assert compare(backend.run(lr), exact(model(network), lr)).psnr_db > least
    image = np.random.default_rng(0).integers(0, 256, (12, 16, network.channels)).astype(np.uint8)
    expected = exact(model(network), image.transpose(2, 0, 1)[None] / np.float32(255))[0].transpose(1, 2, 0)
    difference = backend.upscale(image) / 255 - np.clip(expected, 0, 1)
    assert -20 * np.log10(np.sqrt(np.mean(difference**2))) > least - 3  # rounded to 8 bits besides


@pytest.mark.usefixtures("emulated", "device")
def test_tiles_begin_at_whole_cells_of_an_unshuffled_image(monkeypatch: pytest.MonkeyPatch) -> None:
    network = dense(8, 8, unshuffle=2)
    backend = cuda_backend.CudaBackend(model(network), "fp16", 1)
    backend.halo = receptive_radius(network)
    image = np.random.default_rng(0).integers(0, 256, (130, 122, 3)).astype(np.uint8)
    in_one = backend.upscale(image)
    compute_at_most(backend, (backend.halo * 2 + 40) ** 2, monkeypatch)
    assert len(backend._tiles(130, 122)) > 1
    np.testing.assert_allclose(backend.upscale(image).astype(int), in_one, rtol=0, atol=1)


@pytest.mark.usefixtures("emulated", "device")
def test_its_tiles_get_the_halo_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = BackendEntry("cuda", ("torch",), "train", ("fp16", "bf16"), "cuda_backend:CudaBackend")
    monkeypatch.setattr("srgan_fast.runtime.registry.BACKENDS", {"cuda": entry})
    network = dense(8, 8)
    assert cuda_backend.CudaBackend(model(network), "fp16", 1).halo == receptive_radius(network)
    for asked, expected in ((None, receptive_radius(network)), (5, 5), (999, receptive_radius(network))):
        upscaler = Upscaler(model(network), backend="cuda", precision="fp16", halo=asked)
        assert upscaler.backend.halo == upscaler.halo == expected  # type: ignore[attr-defined]


@pytest.mark.usefixtures("emulated", "device")
def test_an_overflow_before_tanh_is_refused(file_of: FileOf) -> None:
    config = GeneratorConfig(
        scale=2, channels=8, blocks=1, conventions=Conventions(output="tanh", lr_map=SIGNED, hr_map=SIGNED)
    )
    file = file_of(config)
    backend = cuda_backend.CudaBackend(model_of(file), "fp16", 1)
    backend._network._layers[-1][0].bias.fill_(float("inf"))  # of which tanh would make white
    for compute in (
        lambda: backend.run(np.ones((1, 3, 9, 9), np.float32)),
        lambda: backend.upscale(np.full((9, 9, 3), 255, np.uint8)),
    ):
        with pytest.raises(BackendError, match="exceed the range of fp16"):
            compute()


@pytest.mark.usefixtures("emulated", "device")
def test_a_model_beyond_16_bits_is_refused(file_of: FileOf) -> None:
    file = file_of(GeneratorConfig(channels=8, blocks=1))
    file.weights["head.conv.bias"] = np.full(8, 1e6, np.float32)
    with pytest.raises(BackendError, match="exceed the range of fp16; use --precision bf16, or --precision fp32"):
        cuda_backend.CudaBackend(model_of(file), "fp16", 1)


@pytest.mark.usefixtures("emulated", "device")
def test_an_image_beyond_16_bits_is_refused(file_of: FileOf) -> None:
    # A model that is well on the image that it is tried with, and overflows on another.
    backend = cuda_backend.CudaBackend(model_of(file_of(GeneratorConfig(channels=8, blocks=1))), "fp16", 1)
    backend._network._layers[0][0].weights.mul_(3e4)
    with pytest.raises(BackendError, match="exceed the range of fp16"):
        backend.upscale(np.full((9, 9, 3), 255, np.uint8))
    with pytest.raises(BackendError, match="exceed the range of fp16"):
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
    # Every shape is computed kernel by kernel, then recorded, then replayed with other images; more than are kept.
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
def test_a_gpu_upscales_images_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = cuda_backend.CudaBackend(read_model(DEFAULT_MODEL), "fp16", 1)
    image = np.random.default_rng(0).integers(0, 256, (150, 210, 3)).astype(np.uint8)
    in_one = backend.upscale(image)
    compute_at_most(backend, 146 * 146, monkeypatch)
    in_tiles = backend.upscale(image)
    # A pixel's products are added in the same order wherever it lies in its block.
    np.testing.assert_array_equal(in_one, in_tiles)
