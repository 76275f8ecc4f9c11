"""The float64 interpreter is the definition; PyTorch and ONNX Runtime execute the same list and must agree with it."""

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch.nn import functional as F

from srgan_fast.errors import ModelError
from srgan_fast.network import Network, scale_of
from srgan_fast.network.interpreter import enlarge_bilinear, pad_to_multiple, run, shuffle, unshuffle
from srgan_fast.network.onnx_graph import build_onnx
from srgan_fast.network.torch_module import NetworkModule

from .random_networks import random_conv, rich_network

NETWORKS = {
    "rich": {},
    "gray, tanh": {"channels": 1, "tanh": True},
    "four channels, nearest skip": {"channels": 4, "skip": "nearest"},
    "bilinear skip": {"skip": "bilinear"},
    "unshuffled by 2, nearest skip": {"unshuffle": 2, "skip": "nearest"},
    "unshuffled by 4": {"unshuffle": 4},
    "unshuffled by 8, to scale 1, bilinear skip": {"unshuffle": 8, "skip": "bilinear"},
}
SIZES = [(1, 1), (1, 5), (7, 3), (4, 9)]  # times the network's unshuffle


def of(name: str) -> Network:
    return rich_network(np.random.default_rng(5), **NETWORKS[name])


def images(network: Network, count: int, height: int, width: int) -> np.ndarray:
    u = network.unshuffle
    shape = (count, network.channels, height * u, width * u)
    return np.random.default_rng(6).random(shape, np.float32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", SIZES)
def test_the_torch_module_computes_what_the_interpreter_does(name: str, size: tuple[int, int]) -> None:
    network = of(name)
    lr = images(network, 2, *size)
    with torch.inference_mode():
        got = NetworkModule(network).double()(torch.from_numpy(lr).double()).numpy()
    expected = run(network, lr)
    assert got.shape == expected.shape == (2, network.channels, *(side * scale_of(network) for side in lr.shape[2:]))
    # Its maps and slopes are float32 values that were made double.
    np.testing.assert_allclose(got, expected, atol=2e-6)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("size", SIZES)
def test_the_onnx_graph_computes_what_the_interpreter_does(name: str, size: tuple[int, int]) -> None:
    network = of(name)
    lr = images(network, 2, *size)
    session = ort.InferenceSession(build_onnx(network, name).SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"lr": lr})[0], run(network, lr), atol=2e-5)


def test_the_module_takes_channels_last_images_and_gives_them_back() -> None:
    network = of("rich")
    lr = torch.from_numpy(images(network, 1, 5, 6)).to(memory_format=torch.channels_last)
    module = NetworkModule(network).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        np.testing.assert_allclose(module(lr).numpy(), run(network, lr.numpy()), atol=1e-5)


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_shuffle_has_pytorchs_order_and_unshuffle_undoes_it(factor: int) -> None:
    x = np.random.default_rng(0).random((3 * factor**2, 4, 5))
    assert np.array_equal(shuffle(x, factor), F.pixel_shuffle(torch.from_numpy(x), factor).numpy())
    assert np.array_equal(unshuffle(shuffle(x, factor), factor), x)
    assert np.array_equal(unshuffle(x, 1), x)


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (3, 2)])
def test_bilinear_is_pytorchs_without_aligned_corners(factor: int, size: tuple[int, int]) -> None:
    x = np.random.default_rng(0).random((2, *size))
    expected = F.interpolate(torch.from_numpy(x[None]), scale_factor=factor, mode="bilinear", align_corners=False)
    got = enlarge_bilinear(enlarge_bilinear(x, factor, 1), factor, 2)
    np.testing.assert_allclose(got, expected.numpy()[0], atol=1e-14)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 8), (8, 4)])
def test_sides_that_unshuffle_does_not_divide_are_mirrored_and_the_result_is_cropped(size: tuple[int, int]) -> None:
    network = of("unshuffled by 4")
    lr = np.random.default_rng(1).random((3, *size))
    whole = pad_to_multiple(lr, 4)
    assert np.array_equal(whole[:, : size[0], : size[1]], lr)
    scale = scale_of(network)
    got = run(network, lr)
    assert got.shape == (3, size[0] * scale, size[1] * scale)
    assert np.array_equal(got, run(network, whole)[:, : size[0] * scale, : size[1] * scale])


def test_padding_mirrors_without_the_border_pixel() -> None:
    assert pad_to_multiple(np.array([[1, 2, 3, 4, 5]]), 4).tolist() == [[1, 2, 3, 4, 5, 4, 3, 2]] * 4


def test_every_convolutions_result_can_be_watched() -> None:
    network = of("rich")
    seen = []
    run(network, images(network, 1, 2, 3)[0], lambda index, y: seen.append((index, y.shape[0])))
    assert seen == [(0, 8), (1, 4), (2, 4), (3, 8), (4, 8), (5, 6), (6, 6), (7, 3)]


@pytest.mark.parametrize("shape", [(4, 5), (1, 4, 5), (2, 1, 4, 5)])
def test_images_of_another_kind_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=r"takes N, 3, H, W images"):
        run(of("rich"), np.zeros(shape))


def test_weights_beyond_float16_are_refused_by_name() -> None:
    conv = random_conv(np.random.default_rng(0), "only", 3, 3)
    network = Network((type(conv)("only", (0,), conv.weight * np.float32(1e6), conv.bias),))
    build_onnx(network, "large")
    with pytest.raises(ModelError, match=r"^large: only\.weight exceeds the range of float16; use fp32"):
        build_onnx(network, "large", np.float16)


def test_half_precision_graphs_take_and_give_float32() -> None:
    network = of("rich")
    lr = images(network, 1, 4, 5)
    model = build_onnx(network, "half", np.float16)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(None, {"lr": lr})[0]
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, run(network, lr), atol=2e-2)


def test_graphs_of_pixels_round_and_clamp() -> None:
    network = of("four channels, nearest skip")
    pixels = np.random.default_rng(2).integers(0, 256, (2, 5, 3, 4)).astype(np.uint8)
    model = build_onnx(network, "pixels", pixels=True)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    got = session.run(None, {"lr": pixels})[0]
    exact = run(network, pixels.transpose(0, 3, 1, 2) / 255).clip(0, 1).transpose(0, 2, 3, 1) * 255
    assert got.dtype == np.uint8
    assert np.abs(got - exact).max() <= 0.5 + 1e-2
