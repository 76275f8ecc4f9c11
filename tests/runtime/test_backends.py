"""Every runtime computes the same network."""

import itertools
from functools import cache
from typing import Any

import numpy as np
import pytest

from srgan_fast.architectures.srgan import IMAGENET_NORMALISED, SIGNED
from srgan_fast.errors import BackendError
from srgan_fast.models import DEFAULT_MODEL, Conventions, GeneratorConfig, ModelFile, model_of, read_model
from srgan_fast.network import interpreter
from srgan_fast.runtime import Backend, create_backend, usable_backends

from ..network.random_networks import rich_network

NAMES = sorted(usable_backends())
USABLE_IN_BF16 = usable_backends("bf16")
BF16 = sorted({*USABLE_IN_BF16, "native", "openvino", "torch"})
SIZES = [(1, 1, 1), (1, 1, 29), (1, 23, 1), (1, 7, 13), (1, 31, 37), (1, 16, 16), (3, 5, 11)]
PHOTOS = ["astronaut", "coffee", "chelsea", "camera"]


@cache
def _loaded(name: str, file_id: int, precision: Any = "fp32") -> Backend:
    return create_backend(_FILES[file_id], name, precision)


_FILES: dict[int, ModelFile] = {}


def _backend(name: str, file: ModelFile, precision: Any = "fp32") -> Backend:
    """Loads each file into each runtime only once."""
    _FILES[id(file)] = file
    return _loaded(name, id(file), precision)


def _photo(name: str, side: int = 96) -> np.ndarray:
    from skimage import data

    image = np.asarray(getattr(data, name)())
    image = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    top, left = image.shape[0] // 4, image.shape[1] // 3
    crop = image[top : top + side, left : left + side]
    return np.ascontiguousarray(crop.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def test_those_that_need_no_gpu_are_tested_wherever_tests_run() -> None:
    assert {"native", "onnxruntime", "openvino", "torch"} <= set(NAMES)


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_agrees_with_float64(name: str, tiny_file: ModelFile, size: tuple[int, int, int], exact: Any) -> None:
    count, height, width = size
    lr = np.random.default_rng(height * 100 + width).random((count, 3, height, width), np.float32)
    expected = exact(tiny_file, lr)
    got = _backend(name, tiny_file).run(lr)
    assert got.dtype == np.float32
    assert got.shape == (count, 3, 4 * height, 4 * width)
    assert np.abs(got - expected).max() <= 2e-5 * np.ptp(expected)


@pytest.mark.parametrize(
    "config",
    [
        GeneratorConfig(scale=2, channels=6, blocks=1),
        GeneratorConfig(scale=8, channels=4, blocks=0),
        GeneratorConfig(channels=5, blocks=1, prelu="channel", block_bias=True, upsample_bn=True),
        GeneratorConfig(channels=4, blocks=1, conventions=Conventions(output="tanh", hr_map=SIGNED, block_eps=0.8)),
        GeneratorConfig(channels=4, blocks=1, conventions=Conventions(lr_map=IMAGENET_NORMALISED, hr_map=SIGNED)),
    ],
    ids=["x2", "x8 without blocks", "a slope per channel, biases and BatchNorms", "tanh", "normalised input"],
)
@pytest.mark.parametrize("name", NAMES)
def test_computes_every_variant_of_the_network(name: str, config: GeneratorConfig, file_of: Any, exact: Any) -> None:
    file = file_of(config)
    lr = np.random.default_rng(3).random((1, 3, 9, 14), np.float32)
    expected = exact(file, lr)
    got = create_backend(model_of(file), name).run(lr)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2e-5 * max(1.0, np.ptp(expected))


@pytest.mark.parametrize("photo_name", PHOTOS)
def test_runtimes_agree_on_photographs(tiny_file: ModelFile, photo_name: str) -> None:
    lr = _photo(photo_name)
    results = {name: _backend(name, tiny_file).run(lr) for name in NAMES}
    for name, result in results.items():
        assert np.abs(result - results["torch"]).max() <= 1e-4, name


def test_any_two_runtimes_give_the_same_image_with_the_bundled_model() -> None:
    """At least 55 dB over the range of images, the worst pixel within one level of 255."""
    file = read_model(DEFAULT_MODEL)
    results: dict[str, Any] = {}
    for name in NAMES:
        backend = create_backend(file, name)
        results[name] = np.stack([backend.run(_photo(photo, 64))[0] for photo in PHOTOS]).clip(0, 1)
    for first, second in itertools.combinations(NAMES, 2):
        difference = results[first].astype(np.float64) - results[second]
        assert -10 * np.log10(np.mean(difference**2) or 1e-30) >= 55, (first, second)
        assert np.abs(difference).max() <= 1 / 255, (first, second)


@pytest.mark.parametrize("name", BF16)
def test_bf16_is_near_fp32_and_not_the_same_or_is_refused(name: str, tiny_file: ModelFile) -> None:
    if name not in USABLE_IN_BF16:
        with pytest.raises(BackendError, match=f"backend {name} cannot compute in bf16 on this processor"):
            _backend(name, tiny_file, "bf16")
        return
    lr = _photo("astronaut")
    exactly, coarsely = (_backend(name, tiny_file, precision).run(lr) for precision in ("fp32", "bf16"))
    error = float(np.mean((exactly - coarsely) ** 2))
    assert 10 * np.log10(np.ptp(exactly) ** 2 / error if error else np.inf) > 35
    assert error > 0, "bf16 was asked for, but the result is that of fp32"


@pytest.mark.parametrize("name", NAMES)
def test_results_stay_valid_after_the_next_run(name: str, tiny_file: ModelFile) -> None:
    rng = np.random.default_rng(5)
    first_lr, second_lr = (rng.random((1, 3, 8, 8), np.float32) for _ in range(2))
    backend = _backend(name, tiny_file)
    first = backend.run(first_lr)
    kept = first.copy()
    backend.run(second_lr)
    np.testing.assert_array_equal(first, kept)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.filterwarnings("error")
def test_takes_an_array_that_cannot_be_written_to_and_leaves_it_alone(name: str, tiny_file: ModelFile) -> None:
    lr = np.random.default_rng(6).random((1, 3, 6, 5), np.float32)
    expected = _backend(name, tiny_file).run(lr)
    kept = lr.copy()
    lr.flags.writeable = False
    np.testing.assert_array_equal(_backend(name, tiny_file).run(lr), expected)
    np.testing.assert_array_equal(lr, kept)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_thread_count_does_not_change_the_result(name: str, threads: int, tiny_file: ModelFile) -> None:
    lr = _photo("coffee", 33)
    got = create_backend(tiny_file, name, threads=threads).run(lr)
    assert np.abs(got - _backend(name, tiny_file).run(lr)).max() <= 1e-6


@pytest.mark.parametrize("name", NAMES)
def test_says_its_name_and_device(name: str, tiny_file: ModelFile) -> None:
    backend = _backend(name, tiny_file)
    assert backend.name == name
    assert backend.device


OTHERS: dict[str, dict[str, Any]] = {
    "three channels": {},
    "gray, tanh": {"channels": 1, "tanh": True},
    "four channels, nearest skip": {"channels": 4, "skip": "nearest"},
    "bilinear skip": {"skip": "bilinear"},
    "unshuffled": {"unshuffle": 2},
}


@pytest.mark.parametrize("how", OTHERS)
@pytest.mark.parametrize("name", sorted({"onnxruntime", "openvino", "torch"}))
def test_computes_networks_that_are_no_srgan(name: str, how: str) -> None:
    network = rich_network(np.random.default_rng(2), **OTHERS[how])
    file = ModelFile(network, "random", "random", {})
    lr = np.random.default_rng(3).random((2, network.channels, 6, 10), np.float32)
    expected = interpreter.run(network, lr)
    got = create_backend(file, name).run(lr)
    assert got.shape == expected.shape
    assert np.abs(got - expected).max() <= 2e-5 * max(1.0, np.ptp(expected))
