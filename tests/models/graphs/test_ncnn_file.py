"""ncnn's own package runs the same files: what is read must compute the same, and all else is refused in one line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import read_ncnn
from srgan_fast.network import receptive_radius, scale_of

from .ncnn_model import FLOAT16, INT8, NcnnModel, small_model
from .peers import REAL_ESRGAN, REALSR, packaged, psnr, run_ncnn

IMAGE = np.random.default_rng(3).random((3, 10, 12))


@pytest.mark.parametrize(
    ("name", "scale", "convs", "margin"),
    [
        ("realesr-animevideov3-x4", 4, 18, 0),
        # These two end in a bicubic resize, which repeats the border; a network pads with zeros.
        ("realesr-animevideov3-x2", 2, 19, 1),
        ("realesr-animevideov3-x3", 3, 19, 1),
        ("realesrgan-x4plus-anime", 4, 96, 0),
    ],
)
def test_real_esrgan_files_compute_what_ncnn_computes(name: str, scale: int, convs: int, margin: int) -> None:
    path = packaged(REAL_ESRGAN, f"{name}.param")
    network = read_ncnn(path)
    assert (scale_of(network), len(network.convs)) == (scale, convs)
    assert psnr(network, IMAGE, run_ncnn(path, IMAGE), margin) >= 100


@pytest.mark.parametrize(
    ("package", "name"), [(REAL_ESRGAN, "realesrgan-x4plus.param"), (REALSR, "REALSR_DF2K_UP4X.param")]
)
def test_23_blocks_are_351_convolutions_without_a_copy(package: str, name: str) -> None:
    network = read_ncnn(packaged(package, name))
    assert (scale_of(network), len(network.convs), receptive_radius(network)) == (4, 351, 349)
    assert sum(len(conv.residuals) for conv in network.convs) == 93
    assert not [conv.name for conv in network.convs if conv.size != 3]


def test_a_nearest_skip_of_the_image_is_the_networks_own() -> None:
    network = read_ncnn(packaged(REAL_ESRGAN, "realesr-animevideov3-x4.param"))
    assert network.skip == "nearest"
    assert network.convs[-1].shuffle == 4


def _check(model: NcnnModel, folder: Path, shape: tuple[int, int, int] = (3, 10, 12)) -> int:
    """The number of convolutions, if the model computes what ncnn computes."""
    path = model.write(folder)
    image = np.random.default_rng(4).random(shape)
    network = read_ncnn(path)
    assert psnr(network, image, run_ncnn(path, image)) >= 100
    return len(network.convs)


def test_a_small_model_of_everything_that_real_files_have(tmp_path: Path) -> None:
    assert _check(small_model(), tmp_path) == 5


@pytest.mark.parametrize("tag", [0, FLOAT16, 0x0002C056, 0x12345678], ids=["raw", "float16", "float32", "table"])
@pytest.mark.parametrize("size", [1, 3, 5])
def test_every_storage_of_weights(tag: int, size: int, tmp_path: Path) -> None:
    model = NcnnModel()
    model.conv(model.conv("data", 3, 5, size, tag), 5, 3, size, tag, "output")  # odd counts: filled up to whole words
    _check(model, tmp_path)


def test_grey_images_and_no_bias(tmp_path: Path) -> None:
    model = NcnnModel()
    model.conv("data", 1, 1, output="output", p5=0)
    _check(model, tmp_path, (1, 7, 5))


def _activations(model: NcnnModel, x: str) -> str:
    x = model.conv(model.conv(x, 3, 8, p9=1), 8, 8, p9=2, p10=(0.3,))
    x = model.layer("ReLU", [x], p0=0.1)
    x = model.layer("ReLU", [model.conv(x, 8, 8)])
    x = model.layer("PReLU", [model.conv(x, 8, 3)], p0=1)
    model.floats(1)
    return x


def _arithmetic(model: NcnnModel, x: str) -> str:
    x = model.conv(x, 3, 3)
    for operation, b in ((0, 0.3), (1, 0.2), (2, 0.7), (3, 2.0), (7, 1.5), (2, -0.5)):
        x = model.layer("BinaryOp", [x], p0=operation, p1=1, p2=b)
    x = model.layer("Scale", [x], p0=3, p1=1)
    model.floats(3)
    model.floats(3)
    mean = model.layer("MemoryData", [], p0=1, p1=1, p2=3)
    model.floats(3)
    a, b = model.split(model.layer("BinaryOp", [x, mean], p0=1), 2)
    a = model.conv(model.layer("BinaryOp", [a], p0=2, p1=1, p2=0.5), 3, 3)
    return model.layer("BinaryOp", [a, b], p0=7)


def _normalisation(model: NcnnModel, x: str) -> str:
    for _ in range(2):  # the second follows an activation and stays apart
        x = model.layer("BatchNorm", [x], p0=3, p1=1e-5)
        for low, high in ((0.5, 1.5), (-0.5, 0.5), (0.5, 2.0), (-0.5, 0.5)):
            model.floats(3, low=low, high=high)
        x = model.conv(x, 3, 3, p9=1)
    return x


def _dense(model: NcnnModel, x: str) -> str:
    a, b, c = model.split(model.conv(x, 3, 4), 3)
    joined = model.layer("Concat", [a, model.conv(b, 4, 3), model.layer("BinaryOp", [c], p0=2, p1=1, p2=0.3)])
    return model.conv(joined, 11, 3)


def _residuals_before_activations(model: NcnnModel, x: str) -> str:
    a, b, c = model.split(model.conv(x, 3, 3), 3)
    y = model.layer("Eltwise", [model.conv(a, 3, 3), b, c], p0=1, p1=(0.5, -1.0, 2.0))
    y = model.layer("ReLU", [y], p0=0.2)
    return model.layer("Noop", [model.layer("Dropout", [y])])


def _unshuffled(model: NcnnModel, x: str) -> str:
    return model.layer("PixelShuffle", [model.conv(model.layer("Reorg", [x], p0=2), 12, 48, 3)], p0=4)


def _unshuffled_blocks_first(model: NcnnModel, x: str) -> str:
    y = model.conv(model.layer("Reorg", [x], p0=2, p1=1), 12, 12, p9=1)
    return model.layer("PixelShuffle", [y], p0=2, p1=1)


def _shuffles(model: NcnnModel, x: str) -> str:
    x = model.layer("PixelShuffle", [model.conv(x, 3, 12)], p0=2, p1=1)
    x = model.layer("PReLU", [model.layer("PixelShuffle", [model.conv(x, 3, 12)], p0=2)], p0=3)
    model.floats(3)
    return model.conv(x, 3, 3)


def _enlarged(model: NcnnModel, x: str) -> str:
    a, b = model.split(model.conv(x, 3, 4), 2)
    a = model.layer("Interp", [model.layer("Interp", [a], p0=1, p1=2.0, p2=2.0)], p0=1, p1=2.0, p2=2.0)
    b = model.layer("Interp", [model.conv(b, 4, 4, 5)], p0=1, p1=4.0, p2=4.0)
    a, c = model.split(model.layer("BinaryOp", [a, b]), 2)
    return model.conv(model.layer("Concat", [model.conv(a, 4, 2, 5), c]), 6, 3)


def _bilinear_skip(model: NcnnModel, x: str) -> str:
    a, b = model.split(x, 2)
    y = model.layer("PixelShuffle", [model.conv(a, 3, 12)], p0=2)
    return model.layer("BinaryOp", [y, model.layer("Interp", [b], p0=2, p1=2.0, p2=2.0)])


def _colour_maps(model: NcnnModel, x: str) -> str:
    x = model.layer("BinaryOp", [model.layer("BinaryOp", [x], p0=2, p1=1, p2=2.0)], p0=1, p1=1, p2=1.0)
    x = model.layer("TanH", [model.conv(x, 3, 3)])
    return model.layer("BinaryOp", [model.layer("BinaryOp", [x], p0=0, p1=1, p2=1.0)], p0=3, p1=1, p2=2.0)


PARTS: list[Callable[[NcnnModel, str], str]] = [
    _activations,
    _arithmetic,
    _normalisation,
    _dense,
    _residuals_before_activations,
    _unshuffled,
    _unshuffled_blocks_first,
    _shuffles,
    _enlarged,
    _bilinear_skip,
    _colour_maps,
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__.strip("_"))
def test_layers_compute_what_ncnn_computes(part: Callable[[NcnnModel, str], str], tmp_path: Path) -> None:
    model = NcnnModel(2)
    model.layer("Noop", [part(model, "data")], "output")
    _check(model, tmp_path)


def test_a_clip_to_0_1_at_the_end_is_left_to_the_image(tmp_path: Path) -> None:
    model = NcnnModel()
    model.conv("data", 3, 3, output="v", p9=3, p10=(0.0, 1.0))
    path = model.write(tmp_path)
    image = np.random.default_rng(4).random((3, 6, 6))
    from srgan_fast.network.interpreter import run

    found = run(read_ncnn(path), image)
    assert found.min() < 0
    assert np.abs(found.clip(0, 1) - run_ncnn(path, image, result="v")).max() < 1e-5


REFUSED = {
    "a layer of another kind": (
        lambda m: m.layer("Sigmoid", ["data"]),
        "Sigmoid 'layer2': this layer type is not supported",
    ),
    "a crop": (lambda m: m.layer("Crop", ["data"], p3=4), "Crop 'layer2': this layer type is not supported"),
    "groups": (lambda m: m.layer("ConvolutionDepthWise", ["data"], p0=3), "ConvolutionDepthWise 'layer2'"),
    "a stride": (lambda m: m.conv("data", 3, 3, p3=2), "stride 2 is not supported"),
    "dilation": (lambda m: m.conv("data", 3, 3, p2=2), "dilation 2 is not supported"),
    "no padding": (lambda m: m.conv("data", 3, 3, p4=0), "padding 0 is not supported"),
    "uneven padding": (lambda m: m.conv("data", 3, 3, p15=0), "padding 0 is not supported"),
    "an even kernel": (lambda m: m.conv("data", 3, 3, 4), "its side must be odd"),
    "an oblong kernel": (lambda m: m.conv("data", 3, 3, p11=1), "a kernel height of 1"),
    "another activation": (lambda m: m.conv("data", 3, 3, p9=4), "activation 4 is not supported"),
    "int8 weights": (lambda m: m.conv("data", 3, 3, tag=INT8), "int8 weights; use the model in float32"),
    "int8 scales": (lambda m: m.conv("data", 3, 3, p8=1), "int8 scale term 1"),
    "a product of maps": (lambda m: m.layer("BinaryOp", m.split("data", 2), p0=2), "a product or quotient of two maps"),
    "a bicubic skip": (
        lambda m: m.conv(m.layer("Interp", ["data"], p0=3, p1=2.0, p2=2.0), 3, 3),
        "a bicubic resize by 2",
    ),
    "a resize to a size": (lambda m: m.layer("Interp", ["data"], p0=1, p3=64, p4=64), "an output height of 64"),
    "an unshuffle of a map": (lambda m: m.layer("Reorg", [m.conv("data", 3, 3)], p0=2), "anything but the image"),
    "a clip inside": (
        lambda m: m.conv(m.conv("data", 3, 3, p9=3, p10=(0.0, 1.0)), 3, 3),
        "which only the end of a network",
    ),
    "a clip to less": (lambda m: m.conv("data", 3, 3, p9=3, p10=(0.0, 0.5)), "clipped to 0..0.5"),
    "no convolution": (lambda m: m.layer("ReLU", ["data"]), "no convolution lies between"),
    "two results": (lambda m: [m.conv(x, 3, 3) for x in m.split("data", 2)], "2 results"),
    "two images": (lambda m: m.layer("Input", [], "other"), "more than one input"),
    "a circle": (
        lambda m: m.conv(m.conv("v9", 3, 3), 3, 3, output="v9"),
        "'v9' is read before any layer has written it",
    ),
    "itself": (lambda m: m.layer("ReLU", ["x"], "x"), "'x' is read before any layer has written it"),
    "two writers": (lambda m: m.layer("ReLU", ["data"], "data"), "two layers write 'data'"),
    "other channels": (lambda m: m.conv(m.conv("data", 3, 4), 5, 3), "4 channels arrive, its weights are for 5"),
    "a sum of other channels": (
        lambda m: m.layer("BinaryOp", [m.conv(x, 3, c) for x, c in zip(m.split("data", 2), (3, 4), strict=True)]),
        "adds 3 channels to 4",
    ),
    "two channels out": (lambda m: m.conv("data", 3, 2), "the last result has 2 channels, the image 3"),
    "negative channels": (lambda m: m.conv("data", 3, 3, p0=-3), "the number of output channels is -3"),
    "huge channels": (lambda m: m.conv("data", 3, 3, p0=2**31 - 1), "the number of output channels is 2147483647"),
    "huge weights": (lambda m: m.conv("data", 3, 3, p6=2**31 - 1), "the number of weights is 2147483647"),
    "weights that do not divide": (lambda m: m.conv("data", 3, 3, p6=80), "80 weights for 3 channels of 3 x 3"),
    "infinite parameters": (lambda m: m.conv("data", 3, 3, p9=2, p10=(float("inf"),)), "is not a parameter"),
    "a shuffle that does not divide": (
        lambda m: m.layer("PixelShuffle", [m.conv("data", 3, 3)], p0=2),
        "cannot be shuffled",
    ),
    "a huge shuffle": (lambda m: m.layer("PixelShuffle", [m.conv("data", 3, 3)], p0=4096), "its factor is 4096"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_such_network_is_refused_by_name(what: str, tmp_path: Path) -> None:
    model = NcnnModel()
    make, message = REFUSED[what]
    make(model)
    path = model.write(tmp_path)
    with pytest.raises(ModelError) as caught:
        read_ncnn(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def _damaged(tmp_path: Path, param: Callable[[bytes], bytes], data: Callable[[bytes], bytes] = bytes) -> str:
    model = small_model()
    path = model.write(tmp_path)
    path.write_bytes(param(model.param))
    path.with_suffix(".bin").write_bytes(data(model.data))
    with pytest.raises(ModelError) as caught:
        read_ncnn(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_bin_file_of_another_length_is_refused(tmp_path: Path) -> None:
    assert "needs 48 bytes of weights where the .bin file has 47" in _damaged(tmp_path, bytes, lambda b: b[:-1])
    assert "not of this file" in _damaged(tmp_path, bytes, lambda b: b + b"\0")
    assert "has 0" in _damaged(tmp_path, bytes, lambda _: b"")


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    message = _damaged(tmp_path, bytes, lambda b: b[:-4] + np.float32(np.nan).tobytes())
    assert "bias that are not finite" in message


def test_counts_of_layers_are_checked_first(tmp_path: Path) -> None:
    header = b"7767517\n1000000 1000000\n"
    assert "1000000 layers, more than 10000" in _damaged(tmp_path, lambda _: header + b"Noop a 1 1 a b\n" * 10)
    assert "says 9999 layers and has 1" in _damaged(tmp_path, lambda _: b"7767517\n9999 1\nInput a 0 1 data\n")
    assert "does not say how many" in _damaged(tmp_path, lambda _: b"7767517\n-1 1\n")
    assert "more than the" in _damaged(tmp_path, lambda _: header + b" " * (5 << 20))


def test_other_kinds_of_files_are_named(tmp_path: Path) -> None:
    assert "binary .param file" in _damaged(tmp_path, lambda _: (7767517).to_bytes(4, "little") + bytes(100))
    assert "does not begin with 7767517" in _damaged(tmp_path, lambda _: b"PK\x03\x04")
    assert "does not begin with 7767517" in _damaged(tmp_path, lambda _: b"")


def test_control_characters_of_a_file_do_not_reach_the_message(tmp_path: Path) -> None:
    message = _damaged(tmp_path, lambda p: p.replace(b"Eltwise layer", b"Bad \x1b[31m\xff\xe2\x80\xa8" + b"x" * 500))
    assert message.isprintable()
    assert len(message) < 300 + len(str(tmp_path))


def test_a_missing_half_is_named(tmp_path: Path) -> None:
    path = small_model().write(tmp_path)
    path.with_suffix(".bin").unlink()
    with pytest.raises(ModelError, match=r"model\.bin: no such file; ncnn's models are"):
        read_ncnn(path)
    with pytest.raises(ModelError, match=r"other\.param: no such file"):
        read_ncnn(tmp_path / "other.param")
