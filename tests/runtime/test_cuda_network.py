"""Our CUDA kernels walk through any network's list: emulated in plain torch, against the same list in float64."""

import math
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from srgan_fast.architectures.srgan import IMAGENET_NORMALISED, SIGNED, Conventions, GeneratorConfig
from srgan_fast.models import load_generator, model_of
from srgan_fast.network import IMAGE, Conv, Network, Residual, interpreter
from srgan_fast.ops import infer, infer_checks
from srgan_fast.ops.conv import tail_weight
from srgan_fast.runtime import cuda_network
from srgan_fast.runtime.cuda_network import CudaNetwork

from ..network.random_networks import random_conv, rich_network, slopes
from ..stand_in import StandIn
from .conftest import FileOf
from .emulated_cuda import emulated_conv, emulated_head, emulated_picture, emulated_tail
from .test_native_networks import NETWORKS

CPU = torch.device("cpu")


def channels_last(*shape: int) -> Tensor:
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def test_the_emulation_computes_what_the_references_do() -> None:
    torch.manual_seed(0)
    pictures, gain, offset = torch.rand(2, 3, 6, 7), (2.0, 1.0, 0.5), (-1.0, 0.0, 0.25)
    weight, bias, slope = torch.randn(8, 3, 9, 9), torch.randn(8), torch.rand(8)
    got = emulated_head(pictures, gain, offset, infer.pack_head(weight, torch.float32), bias, slope)
    torch.testing.assert_close(got, infer.head_reference(pictures, gain, offset, weight, bias, slope))

    x, weight, bias, slope = channels_last(2, 24, 5, 6), torch.randn(32, 24, 3, 3), torch.randn(32), torch.rand(32)
    packed, residuals = infer.pack_conv(weight, torch.float32), [channels_last(2, 32, 5, 6) for _ in range(2)]
    behinds: tuple[dict[str, Any], ...] = (
        {"slope": slope},
        {"residuals": residuals, "scales": [0.5, -2.0]},
        {"slope": slope, "shuffle": 2},
    )
    for behind in behinds:
        expected = infer.conv_reference(x, weight, bias, **behind)
        torch.testing.assert_close(emulated_conv(x, packed, bias, **behind), expected)

    for shuffle, side in ((1, 3), (2, 5), (4, 1)):
        weight, bias, slope = torch.randn(3 * shuffle**2, 24, side, side), *torch.rand(2, 3 * shuffle**2)
        torch.testing.assert_close(
            emulated_picture(x, infer.pack_conv(weight, torch.float32), bias, slope, 3, shuffle),
            infer.picture_reference(x, weight, bias, slope, 3, shuffle),
            rtol=1e-4,
            atol=1e-4,
        )

    x, weight, bias = torch.randn(2, 32, 5, 6), torch.randn(3, 8, 9, 9), torch.randn(3)
    packed = infer.pack_tail(weight, torch.float32)
    assert packed.shape == (5, 128, 64)
    torch.testing.assert_close(
        emulated_tail(x, packed, bias), infer.tail_reference(x, weight, bias), rtol=1e-4, atol=1e-4
    )
    assert tail_weight(weight).shape == (12, 32, 5, 5)


_SMALL = 1 << 30  # multiply-adds that the emulation is given
_CASES = [case for case in infer_checks.CASES if math.prod(case.size) * case.side**2 <= _SMALL]


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("case", _CASES, ids=str)
def test_the_examinations_cases_are_computed_right(
    case: infer_checks.InferCase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(infer_checks, "_whole", lambda values: values.contiguous(memory_format=torch.channels_last))
    for error in infer_checks.check(case, CPU, torch.float16):
        assert error.excess <= 1.0, error


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


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_it_computes_the_generator(config: GeneratorConfig, file_of: FileOf) -> None:
    file = file_of(config)
    lr = torch.rand(2, 3, 5, 7)
    with torch.inference_mode():
        got = CudaNetwork(model_of(file).network, torch.float32, CPU).compute(lr)
        expected = load_generator(file)(lr)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)


# --- networks


def rng() -> np.random.Generator:
    return np.random.default_rng(5)


def network_of(*convs: Conv, **rest: Any) -> Network:
    return Network(tuple(convs), **rest)


def odd_concatenations() -> Network:
    """Inputs that stand side by side nowhere: twice the same, in another order, of two maps, the image among them."""
    conv = partial(random_conv, rng())
    return network_of(
        conv("first", 3, 5, slope=slopes(rng(), 5)),
        conv("second", 8, 9, inputs=(IMAGE, 1)),
        conv("twice", 10, 4, inputs=(1, 1)),
        conv("backwards", 8, 4, inputs=(1, IMAGE)),
        conv("third", 13, 7, inputs=(3, 2), slope=slopes(rng(), 7)),
        conv("two maps", 9, 6, inputs=(4, 1)),
        conv("last", 16, 3, inputs=(5, 6, IMAGE)),
    )


def residuals_everywhere() -> Network:
    """More residuals than a kernel adds, the image among them, before a shuffle, and in the last convolution."""
    conv = partial(random_conv, rng())
    return network_of(
        conv("first", 3, 3, slope=slopes(rng(), 3)),
        conv("three", 3, 3, inputs=(1,), residuals=(Residual(IMAGE, 0.5), Residual(1, -1.0), Residual(1, 0.25))),
        conv("wide", 3, 12, inputs=(2,)),
        conv("shuffled", 12, 12, inputs=(3,), slope=slopes(rng(), 12), residuals=(Residual(3, 0.5),), shuffle=2),
        conv("widest", 3, 12, 1, inputs=(4,)),
        conv("last", 12, 12, inputs=(5,), residuals=(Residual(5, 0.3),), shuffle=2),
    )


def sides(last: int) -> Network:
    """Filters of every side; a last convolution of more than 3x3 behind a shuffle by 2."""
    conv = partial(random_conv, rng())
    return network_of(
        conv("first", 3, 8, 7, slope=slopes(rng(), 8)),
        conv("one", 8, 16, 1, inputs=(1,)),
        conv("five", 16, 8, 5, inputs=(2,), residuals=(Residual(1),)),
        conv("nine", 8, 24, 9, inputs=(3,), slope=np.array([0.1], np.float32), shuffle=2),
        conv("last", 6, 3, last, inputs=(4,)),
    )


def one_convolution(channels: int = 3, **rest: Any) -> Network:
    return network_of(random_conv(rng(), "only", channels, channels * 4, 5, shuffle=2), channels=channels, **rest)


ODD = {
    "inputs side by side nowhere": odd_concatenations(),
    "residuals everywhere": residuals_everywhere(),
    "a tail of 5x5": sides(5),
    "a tail of 9x9": sides(9),
    "a last convolution of 3x3": sides(3),
    "slopes within a shuffle": network_of(
        random_conv(rng(), "first", 3, 8, 9),
        random_conv(rng(), "up", 8, 32, inputs=(1,), slope=slopes(rng(), 32), shuffle=2),
        random_conv(rng(), "last", 8, 3, 9, inputs=(2,)),
    ),
    "a shuffle by 3": network_of(
        random_conv(rng(), "first", 3, 8),
        random_conv(rng(), "up", 8, 45, inputs=(1,), slope=slopes(rng(), 45), shuffle=3),
        random_conv(rng(), "last", 5, 3, inputs=(2,), slope=np.array([0.5], np.float32)),
    ),
    "one convolution": one_convolution(),
    "one convolution, 4 channels, nearest": one_convolution(4, skip="nearest", tanh=True),
    "one convolution, gray, bilinear": one_convolution(1, skip="bilinear"),
    **{
        f"rich, {channels} channels, unshuffled by {unshuffle}, {skip}": rich_network(
            rng(), channels=channels, unshuffle=unshuffle, skip=skip, tanh=skip != "none"
        )
        for channels, unshuffle, skip in ((3, 1, "bilinear"), (1, 2, "nearest"), (4, 4, "none"))
    },
}


def images_of(network: Network) -> np.ndarray[Any, np.dtype[np.float32]]:
    step = network.unshuffle
    return np.random.default_rng(1).random((2, network.channels, 6 * step, 5 * step), np.float32)


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("network", (NETWORKS | ODD).values(), ids=NETWORKS | ODD)
def test_it_is_the_network(network: Network) -> None:
    lr = images_of(network)
    with torch.inference_mode():
        got = CudaNetwork(network, torch.float32, CPU).compute(torch.from_numpy(lr))
    expected = interpreter.run(network, lr)
    assert got.dtype == torch.float32
    assert got.shape == expected.shape
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


# Of the output's range: what rounding maps and weights to 11 and 8 bits gives at most.
@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 6e-3), (torch.bfloat16, 5e-2)], ids=str)
@pytest.mark.parametrize("network", (NETWORKS | ODD).values(), ids=NETWORKS | ODD)
def test_it_is_the_network_in_16_bits(network: Network, dtype: torch.dtype, most: float) -> None:
    lr = images_of(network)
    with torch.inference_mode():
        got = CudaNetwork(network, dtype, CPU).compute(torch.from_numpy(lr))
    expected = interpreter.run(network, lr)
    assert got.dtype == torch.float32
    assert np.abs(got.numpy() - expected).max() <= most * np.ptp(expected)


Calls = list[tuple[str, tuple[int, ...], dict[str, Any]]]


@pytest.fixture
def calls(emulated: None, monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What is called: the layer, the shape of what it reads, and whatever else is asked of it."""
    found: Calls = []

    def recorded(name: str, real: Any, x: Tensor, *given: Any, **asked: Any) -> Tensor:
        what = {key: value for key, value in asked.items() if key != "out" or value is not None}
        if name == "conv":
            what |= {"slope": given[2] is not None, "scales": list(given[4])}
        if "out" in what:
            what["out"] = tuple(what["out"].shape)
        found.append((name, tuple(x.shape[1:2]), what))
        y: Tensor = real(x, *given, **asked)
        return y

    for name in ("head", "conv", "block", "picture", "tail"):
        monkeypatch.setattr(infer, name, partial(recorded, name, getattr(infer, name)))
    return found


def test_srgans_launches_are_those_it_always_had(calls: Calls, file_of: FileOf) -> None:
    def run(**config: Any) -> Calls:
        network = model_of(file_of(GeneratorConfig(**config))).network
        calls.clear()
        with torch.inference_mode():
            CudaNetwork(network, torch.float16, CPU).compute(torch.rand(1, 3, 4, 5))
        return list(calls)

    early: dict[str, Any] = {"weights_are_constant": True}
    conv = early | {"shuffle": 1}
    active, added = conv | {"slope": True, "scales": []}, conv | {"slope": False, "scales": [1.0]}
    blocks = [("block", (64,), early)] * 2
    assert run(channels=64, blocks=2) == [
        ("head", (3,), early),
        *blocks,
        ("conv", (64,), added),
        ("conv", (64,), active | {"shuffle": 2}),
        ("conv", (64,), active),
        ("tail", (256,), {}),
    ]
    assert run(scale=2, channels=20, blocks=1) == [
        ("head", (3,), early),
        ("conv", (24,), active),
        ("conv", (24,), added),
        ("conv", (24,), added),
        ("conv", (24,), active),
        ("tail", (96,), {}),
    ]


def test_dense_blocks_read_and_write_slices_of_one_map(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    real = torch.cat

    def no_copy(tensors: list[Tensor], dim: int = 0) -> Tensor:
        assert all(tensor.dtype == torch.float64 for tensor in tensors), "maps were copied"  # the emulation's are not
        return real(tensors, dim)

    network = NETWORKS["dense, 64 + 32"]
    walked = CudaNetwork(network, torch.float16, CPU)
    monkeypatch.setattr(torch, "cat", no_copy)
    with torch.inference_mode():
        walked.compute(torch.rand(1, 3, 4, 5))
    block = [call for call in calls if call[0] == "conv"][:5]
    assert [shape for _, shape, _ in block] == [(64,), (96,), (128,), (160,), (192,)]
    assert [what["out"][1] for _, _, what in block] == [32, 32, 32, 32, 64]
    assert [what["scales"] for _, _, what in block] == [[], [], [], [], [1.0]]
    assert next(what["scales"] for _, _, what in calls if len(what.get("scales", ())) == 2) == [
        pytest.approx(0.2),
        1.0,
    ]


@pytest.mark.usefixtures("emulated")
def test_maps_are_given_back_when_nobody_reads_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network = NETWORKS["dense, 64 + 32"]
    walked = CudaNetwork(network, torch.float16, CPU)
    most = 0
    real = cuda_network._Maps.drop

    def drop(maps: Any, step: int) -> None:
        nonlocal most
        shared = {found.untyped_storage().data_ptr(): found.untyped_storage() for found in maps._shared.values()}
        own = {found.untyped_storage().data_ptr(): found.untyped_storage() for found in maps.values.values()}
        most = max(most, sum(storage.nbytes() for storage in (shared | own).values()))
        real(maps, step)

    monkeypatch.setattr(cuda_network._Maps, "drop", drop)
    with torch.inference_mode():
        walked.compute(torch.rand(1, 3, 12, 10))
    assert most <= walked.plan.bytes_per_pixel * 120


@pytest.mark.usefixtures("emulated")
def test_an_overflow_stays_to_be_seen_behind_tanh() -> None:
    network = one_convolution(tanh=True)
    walked = CudaNetwork(network, torch.float16, CPU)
    walked._layers[0][0].bias[0] = float("inf")
    with torch.inference_mode():
        got = walked.compute(torch.rand(1, 3, 4, 4))
    assert not got[:, 0, ::2, ::2].isfinite().any()
    assert got[:, 1:].abs().max() <= 1


@pytest.mark.usefixtures("emulated")
@pytest.mark.parametrize("network", [NETWORKS["dense x2, unshuffled"], ODD["residuals everywhere"]], ids=["x2", "odd"])
def test_recorded_networks_are_the_same(network: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = StandIn(monkeypatch)
    walked = CudaNetwork(network, torch.float16, CPU)
    walked._records, walked._stream = True, torch.cuda.Stream()
    images = [torch.rand(1, 3, 4, 6) for _ in range(4)]
    with torch.inference_mode():
        expected = [walked.compute(image) for image in images]
    for image, wanted in zip(images, expected, strict=True):
        torch.testing.assert_close(walked(image), wanted, rtol=0, atol=0)
    assert [graph.replays for graph in stand_in.graphs] == [3]
    walked.forget()
    walked(images[0])
    assert len(stand_in.graphs) == 1


def test_graphs_that_would_keep_much_memory_are_not_recorded() -> None:
    small, large = (CudaNetwork(replace(NETWORKS[name]), torch.float16, CPU) for name in ("compact x4", "128 features"))
    assert small._may_record(1 << 16)
    assert not small._may_record((1 << 16) + 1)
    assert not large._may_record(1 << 16)
    assert large._may_record(1 << 12)
