"""The native engine computes the network, on every instruction set, for images and generators of any size."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from srgan_fast import _engine
from srgan_fast.architectures.srgan import IMAGENET_NORMALISED, SIGNED
from srgan_fast.models import ColourMap, Conventions, GeneratorConfig, GeneratorFile, generator_config
from srgan_fast.models.model_file import model_of
from srgan_fast.network.analysis import macs_per_image_pixel
from srgan_fast.runtime.native_backend import NativeBackend

from .conftest import Exact, FileOf

ISAS = _engine.isas()
TOLERANCE = 2e-5  # of the output's range

# Nothing of it is a multiple of a tile of 4 unless it says so.
SIZES = [(1, 1), (1, 2), (1, 37), (41, 1), (2, 3), (4, 4), (5, 7), (13, 11), (16, 8), (19, 23)]
CONFIGS = {
    "paper": generator_config("paper", channels=16, blocks=2),
    "pytorch-gan": generator_config("pytorch-gan", channels=16, blocks=2),
    "paper x2, 40 channels": generator_config("paper", scale=2, channels=40, blocks=1),
    "pytorch-gan x8, 16 channels": generator_config("pytorch-gan", scale=8, channels=16, blocks=1),
    "64 channels, no blocks": GeneratorConfig(channels=64, blocks=0, conventions=Conventions(output="tanh")),
    "64 channels, a slope each": GeneratorConfig(
        scale=2, channels=64, blocks=1, prelu="channel", block_bias=True, upsample_bn=True
    ),
    "7 channels, a slope each, x8": GeneratorConfig(scale=8, channels=7, blocks=1, prelu="channel"),
    "normalised in, tanh out": GeneratorConfig(
        channels=16, blocks=1, conventions=Conventions(output="tanh", lr_map=IMAGENET_NORMALISED, hr_map=SIGNED)
    ),
}

_FILES: dict[GeneratorConfig, GeneratorFile] = {}
_EXACT: dict[tuple[GeneratorConfig, tuple[int, ...]], tuple[NDArray[np.float32], NDArray[np.float64]]] = {}


@pytest.fixture
def case(file_of: FileOf, exact: Exact) -> Any:
    """A generator, an image and what comes out of it, each computed only once."""

    def make(config: GeneratorConfig, *size: int) -> tuple[GeneratorFile, NDArray[np.float32], NDArray[np.float64]]:
        file = _FILES.setdefault(config, file_of(config))
        if (config, size) not in _EXACT:
            shape = (size[0], 3, *size[1:]) if len(size) == 3 else (1, 3, *size)
            lr = np.random.default_rng(sum(size)).random(shape, np.float32)
            _EXACT[config, size] = lr, exact(file, lr)
        return file, *_EXACT[config, size]

    return make


def assert_near(got: NDArray[np.float32], expected: NDArray[np.float64]) -> None:
    assert got.dtype == np.float32
    assert got.shape == expected.shape
    reach = max(np.ptp(expected), np.abs(expected).max())
    assert np.abs(got - expected).max() <= TOLERANCE * reach


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("isa", ISAS)
def test_agrees_with_float64(
    monkeypatch: pytest.MonkeyPatch, case: Any, isa: str, config: GeneratorConfig, size: tuple[int, int]
) -> None:
    file, lr, expected = case(config, *size)
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    backend = NativeBackend(model_of(file), "fp32", 2)
    assert backend.isa == isa
    assert_near(backend.run(lr), expected)


@pytest.mark.parametrize("size", [(500, 60), (3, 4000), (1200, 2), (67, 301)], ids=str)
@pytest.mark.parametrize("isa", ISAS)
def test_images_of_many_strips_agree_with_float64(
    monkeypatch: pytest.MonkeyPatch, case: Any, isa: str, size: tuple[int, int]
) -> None:
    file, lr, expected = case(replace(CONFIGS["pytorch-gan"], scale=2, channels=32, blocks=1), *size)
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    assert_near(NativeBackend(model_of(file), "fp32", 2).run(lr), expected)


configs = st.builds(
    GeneratorConfig,
    scale=st.sampled_from([2, 4, 8]),
    channels=st.integers(1, 70),
    blocks=st.integers(0, 3),
    block_bias=st.booleans(),
    upsample_bn=st.booleans(),
    prelu=st.sampled_from(["shared", "channel"]),
    conventions=st.builds(
        Conventions,
        output=st.sampled_from(["linear", "tanh"]),
        lr_map=st.builds(ColourMap, st.tuples(*[st.floats(0.5, 2)] * 3), st.tuples(*[st.floats(-1, 1)] * 3)),
        hr_map=st.builds(ColourMap, st.tuples(*[st.floats(0.5, 2)] * 3), st.tuples(*[st.floats(-1, 1)] * 3)),
    ),
)


@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    config=configs,
    isa=st.sampled_from(ISAS),
    threads=st.integers(1, 5),
    count=st.integers(1, 2),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
)
def test_any_generator_and_size_agrees_with_float64(
    monkeypatch: pytest.MonkeyPatch,
    file_of: FileOf,
    exact: Exact,
    config: GeneratorConfig,
    isa: str,
    threads: int,
    count: int,
    height: int,
    width: int,
) -> None:
    # Float64 takes its time with 64 outputs for each pixel.
    height, width = -(-height * 2 // config.scale**2), -(-width * 2 // config.scale)
    file = file_of(config)
    lr = np.random.default_rng(height).random((count, 3, height, width), np.float32)
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    assert_near(NativeBackend(model_of(file), "fp32", threads).run(lr), exact(file, lr))


def test_values_far_outside_of_0_to_1_agree_with_float64(file_of: FileOf, exact: Exact) -> None:
    file = file_of(CONFIGS["paper"])
    lr = np.random.default_rng(2).normal(0, 1e4, (1, 3, 9, 10)).astype(np.float32)
    assert_near(NativeBackend(model_of(file), "fp32", 1).run(lr), exact(file, lr))


@pytest.mark.skipif("avx512_bf16" not in ISAS, reason="this processor does not multiply bfloat16")
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("name", ["paper", "64 channels, a slope each", "7 channels, a slope each, x8"])
def test_bf16_is_near_float64_at_every_size(case: Any, name: str, size: tuple[int, int]) -> None:
    file, lr, expected = case(CONFIGS[name], *size)
    error = NativeBackend(model_of(file), "bf16", 2).run(lr) - expected
    assert 0 < np.abs(error).max() <= 0.05 * max(np.ptp(expected), np.abs(expected).max())


@pytest.mark.parametrize("isa", [isa for isa in ISAS if isa not in ("avx512_bf16", "amx")])
def test_bf16_is_refused_where_the_instruction_set_lacks_it(
    monkeypatch: pytest.MonkeyPatch, case: Any, isa: str
) -> None:
    file, *_ = case(CONFIGS["paper"], 1, 1)
    monkeypatch.setenv("SRGAN_FAST_ISA", isa)
    with pytest.raises(ValueError, match=f"bf16 needs a processor with AVX-512 BF16; this is computed with {isa}"):
        NativeBackend(model_of(file), "bf16", 1)


def test_an_empty_choice_of_the_instruction_set_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SRGAN_FAST_ISA", "")
    assert _engine.isa() == ISAS[-1]


def test_what_it_is_can_be_asked(case: Any) -> None:
    file, *_ = case(CONFIGS["paper"], 1, 1)
    backend = NativeBackend(model_of(file), "fp32", 3)
    assert (backend._engine.scale, backend._engine.threads, backend._engine.isa) == (4, 3, ISAS[-1])
    assert backend.device == f"CPU, {ISAS[-1]}"
    assert backend.layer_times() == []
    backend.run(np.zeros((1, 3, 8, 5), np.float32))
    names, seconds, multiply_adds = zip(*backend.layer_times(), strict=True)
    assert names == (
        "9x9, 3 to 16",
        "5 x 3x3, 16 to 16",
        "3x3, 16 to 64",
        "3x3, 16 to 64 at x2",
        "9x9, 64 to 3 at x2",
    )
    assert min(seconds) > 0
    assert sum(multiply_adds) == 40 * macs_per_image_pixel(model_of(file).network)


def test_siblings_share_the_weights_and_give_the_same_bits(file_of: FileOf) -> None:
    backend = NativeBackend(model_of(file_of(CONFIGS["paper"])), "fp32", 2)
    image = np.random.default_rng(0).integers(0, 256, (30, 41, 3), np.uint8)
    expected = backend.upscale(image)
    siblings = [backend.sibling(threads) for threads in (1, 3)]
    assert [sibling.threads for sibling in siblings] == [1, 3]
    del backend
    for sibling in siblings:
        np.testing.assert_array_equal(sibling.upscale(image), expected)
    with pytest.raises(ValueError, match="threads is 0"):
        siblings[0].sibling(0)
