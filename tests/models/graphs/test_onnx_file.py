"""ONNX Runtime runs the same files, PyTorch's exporters write them: what is read must compute the same."""

import io
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, external_data_helper, numpy_helper
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.errors import ModelError
from srgan_fast.models.graphs import read_onnx
from srgan_fast.network import Network, scale_of
from srgan_fast.network.interpreter import run
from srgan_fast.network.onnx_graph import build_onnx

from ...network.random_networks import rich_network
from .onnx_model import FLOOR, OnnxModel, small_model
from .peers import psnr, run_onnx

IMAGES = np.random.default_rng(3).random((1, 3, 8, 12))


def _read(model: bytes, folder: Path) -> Network:
    path = folder / "model.onnx"
    path.write_bytes(model)
    return read_onnx(path)


def _check(model: bytes, folder: Path, images: np.ndarray = IMAGES) -> Network:
    """The network, if it computes what ONNX Runtime computes."""
    network = _read(model, folder)
    assert psnr(network, images[0], run_onnx(model, images)[0]) >= 100
    return network


def test_a_small_model_becomes_the_expected_convolutions(tmp_path: Path) -> None:
    network = _check(small_model(), tmp_path)
    assert (scale_of(network), network.skip) == (4, "nearest")
    assert [conv.inputs for conv in network.convs] == [(0,), (1,), (1, 2), (3,), (4,)]
    assert [conv.shuffle for conv in network.convs] == [1, 1, 1, 2, 2]
    assert [(r.value, r.scale) for r in network.convs[2].residuals] == [(1, 1.0)]


@pytest.mark.parametrize(
    "parts",
    [
        {},
        {"channels": 1, "tanh": True},
        {"channels": 4, "skip": "nearest"},
        {"skip": "bilinear"},
        {"unshuffle": 2, "skip": "nearest"},
        {"unshuffle": 4},
        {"unshuffle": 8, "skip": "bilinear", "tanh": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_is_written_here_is_read_back_the_same(parts: dict[str, Any], dtype: type, tmp_path: Path) -> None:
    before = rich_network(np.random.default_rng(5), **parts)
    after = _read(build_onnx(before, "rich", dtype).SerializeToString(), tmp_path)
    assert len(after.convs) == len(before.convs)
    assert (after.unshuffle, after.tanh) == (before.unshuffle, before.tanh)
    skip = "nearest" if scale_of(before) == 1 else before.skip  # all the same without an enlargement
    assert after.skip == skip
    image = np.random.default_rng(6).random((before.channels, 2 * before.unshuffle, 3 * before.unshuffle))
    tolerance = 1e-5 if dtype is np.float32 else 0.03
    np.testing.assert_allclose(run(after, image), run(before, image), atol=tolerance, rtol=tolerance)


class _Compact(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 1, 1), nn.PReLU(8), nn.Conv2d(8, 27, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.body(x), 3) + F.interpolate(x, scale_factor=3, mode="nearest")


class _Dense(nn.Module):
    """ESRGAN's blocks, upsampling, and the pixel-unshuffle of its x2."""

    def __init__(self, unshuffle: int) -> None:
        super().__init__()
        self.unshuffle = unshuffle
        self.first = nn.Conv2d(3 * unshuffle**2, 8, 3, 1, 1)
        self.dense = nn.ModuleList(nn.Conv2d(8 + 4 * i, 4 if i < 4 else 8, 3, 1, 1) for i in range(5))
        self.trunk, self.up1, self.up2, self.hr = (nn.Conv2d(8, 8, 3, 1, 1) for _ in range(4))
        self.last = nn.Conv2d(8, 3, 3, 1, 1)

    def block(self, x: Tensor) -> Tensor:
        maps = [x]
        for conv in self.dense[:4]:
            maps.append(F.leaky_relu(conv(torch.cat(maps, 1)), 0.2))
        return self.dense[4](torch.cat(maps, 1)) * 0.2 + x

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(F.pixel_unshuffle(x, self.unshuffle) if self.unshuffle > 1 else x)
        x = x + self.trunk(self.block(self.block(x)) * 0.2 + x)
        for conv in (self.up1, self.up2):
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.last(F.leaky_relu(self.hr(x), 0.2))


class _Residual(nn.Module):
    """EDSR with its shift of the mean, BatchNorm, MSRResNet's skip."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.back = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        for conv, sign in ((self.shift, -1), (self.back, 1)):
            conv.weight.data = torch.eye(3)[:, :, None, None]
            conv.bias.data = sign * torch.tensor([0.4488, 0.4371, 0.4040])
        self.first, self.a, self.b = nn.Conv2d(3, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.bn = nn.BatchNorm2d(8)
        self.bn.running_mean.uniform_(-1, 1)
        self.bn.running_var.uniform_(0.5, 2)
        self.up, self.last = nn.Conv2d(8, 32, 3, 1, 1), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, image: Tensor) -> Tensor:
        x = self.shift(image)
        y = self.first(x)
        y = y + 0.1 * self.bn(self.b(F.relu(self.a(y))))
        y = self.last(F.leaky_relu(F.pixel_shuffle(self.up(y), 2), 0.1))
        return self.back(y + F.interpolate(x, scale_factor=2, mode="bilinear"))


class _Odd(nn.Module):
    """What no published network does in this way, but the operators allow."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.a, self.b = nn.Conv2d(3, 8, 9, 1, 4), nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.bn = nn.BatchNorm2d(8)
        self.bn.running_mean.uniform_(-1, 1)
        self.up, self.wide, self.last = nn.Conv2d(8, 32, 3, 1, 1), nn.Conv2d(16, 8, 5, 1, 2), nn.Conv2d(8, 3, 3, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        f = F.relu(self.first(x * 2 - 1))
        y = F.leaky_relu(f + self.b(F.relu(self.a(self.bn(f)))), 0.2)
        z = F.pixel_shuffle(self.up(y), 2) + F.interpolate(f, scale_factor=2, mode="nearest")
        w = F.interpolate(y - f * 0.5, scale_factor=2, mode="nearest")
        z = F.relu(self.wide(torch.cat([z, w], 1))) + z + w - z * 0.5 + F.leaky_relu(w)
        return (torch.tanh(self.last(z)) + 1) / 2


EXPORTS: dict[str, dict[str, Any]] = {
    "torch.export": {"dynamo": True},
    "tracing": {"dynamo": False},
    "tracing, free sizes": {"dynamo": False, "input_names": ["x"], "dynamic_axes": {"x": [0, 2, 3]}},
    "tracing, opset 11": {"dynamo": False, "opset_version": 11},
}


@pytest.mark.parametrize("how", EXPORTS)
@pytest.mark.parametrize(
    ("make", "convs", "skip"),
    [
        (_Compact, 2, "nearest"),
        (lambda: _Dense(1), 16, "none"),
        (lambda: _Dense(2), 16, "none"),
        (lambda: _Dense(4), 16, "none"),
        (_Residual, 5, "bilinear"),
        (_Odd, 12, "none"),
    ],
    ids=["compact", "dense x4", "dense x2", "dense x1", "residual", "odd"],
)
def test_pytorchs_exports_compute_what_the_module_computes(
    make: Callable[[], nn.Module], convs: int, skip: str, how: str, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    module, images, file = make().eval(), torch.from_numpy(IMAGES).float(), io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (images,), file, verbose=False, **EXPORTS[how])
    network = _read(file.getvalue(), tmp_path)
    assert (len(network.convs), network.skip) == (convs, skip)
    with torch.no_grad():
        wanted = module.double()(images.double())[0].numpy()
    np.testing.assert_allclose(run(network, images.numpy()[0]), wanted, atol=2e-6)


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.float64])
def test_every_storage_of_weights(dtype: type, raw: bool, tmp_path: Path) -> None:
    model = OnnxModel(dtype=dtype)
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x = model.conv(model.node("Cast", ["image"], to=kind), 3, 3, 1, raw=raw)
    x = model.node("Mul", [x, model.constant(0.5, raw=raw)])
    network = _read(model.model(model.node("Cast", [x], to=TensorProto.FLOAT)), tmp_path)
    weight = 0.5 * numpy_helper.to_array(model.constants[0]).astype(np.float64)
    np.testing.assert_array_equal(network.convs[0].weight, weight.astype(np.float32))


def test_bfloat16_weights_are_read(tmp_path: Path) -> None:
    model = OnnxModel()
    result = model.conv("image", 3, 3)
    weight = numpy_helper.to_array(model.constants[0])
    bits = (weight.view(np.uint32) >> 16).astype(np.uint16)
    model.constants[0] = onnx.helper.make_tensor("c0", TensorProto.BFLOAT16, weight.shape, bits.tobytes(), raw=True)
    network = _read(model.model(result), tmp_path)
    np.testing.assert_array_equal(network.convs[0].weight, (bits.astype(np.uint32) << 16).view(np.float32))


def test_old_upsampling_operators_are_read(tmp_path: Path) -> None:
    model = OnnxModel()
    x = model.node("Upsample", [model.conv("image", 3, 4), model.constant([1, 1, 2, 2])], mode="nearest")
    _check(model.model(model.conv(x, 4, 3), 9), tmp_path)
    model = OnnxModel()
    x = model.node("Resize", [model.conv("image", 3, 4), model.constant([1, 1, 2, 2])], mode="nearest")
    _check(model.model(model.conv(x, 4, 3), 10), tmp_path)


def test_nearest_with_half_pixels_is_the_same_enlargement(tmp_path: Path) -> None:
    for factor in (2, 3, 4):
        model = OnnxModel()
        scales = model.constant([1, 1, factor, factor])
        x = model.node("Resize", [model.conv("image", 3, 4), "", scales], mode="nearest")
        _check(model.model(model.conv(x, 4, 3)), tmp_path)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_both_orders_of_depth_to_space(mode: str, tmp_path: Path) -> None:
    model = OnnxModel()
    slopes = model.constant(np.linspace(0, 0.5, 12).reshape(12, 1, 1))
    x = model.node("PRelu", [model.conv("image", 3, 12), slopes])
    x = model.node("DepthToSpace", [x], blocksize=2, mode=mode)
    x = model.node("PRelu", [x, model.constant([[[0.1]], [[0.4]], [[0.7]]])])
    _check(model.model(model.conv(x, 3, 3)), tmp_path)


def test_space_to_depth_counts_blocks_first(tmp_path: Path) -> None:
    model = OnnxModel()
    x = model.conv(model.node("SpaceToDepth", ["image"], blocksize=2), 12, 12)
    network = _check(model.model(model.node("DepthToSpace", [x], blocksize=2, mode="DCR")), tmp_path)
    assert network.unshuffle == 2


def test_constants_on_either_side(tmp_path: Path) -> None:
    model = OnnxModel()
    x = model.conv("image", 3, 3)
    column = [[[0.5]], [[-1.0]], [[2.0]]]
    for op, first in (("Add", False), ("Sub", False), ("Sub", True), ("Mul", True), ("Div", False), ("Sum", True)):
        c = model.constant(column)
        x = model.node(op, [c, x] if first else [x, c])
    _check(model.model(model.node("Sub", [model.conv(x, 3, 3), "image"])), tmp_path)


def test_nodes_that_nothing_needs_do_not_matter(tmp_path: Path) -> None:
    model = OnnxModel()
    model.node("Shape", ["image"])
    _check(model.model(model.conv("image", 3, 3)), tmp_path)


def test_the_onnx_package_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model()
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    _read(model, tmp_path)


def _reshaped(m: OnnxModel) -> str:
    return m.node("Reshape", [m.conv("image", 3, 3), m.constant([1, 3, -1], np.int64)])


def _resized(m: OnnxModel, **how: Any) -> str:
    return m.conv(m.node("Resize", [m.conv("image", 3, 3), "", m.constant([1, 1, 2, 2])], **how), 3, 3)


REFUSED: dict[str, tuple[Callable[[OnnxModel], str], str]] = {
    "attention": (lambda m: m.node("MatMul", ["image", "image"]), "MatMul 'matmul0': this operator is not supported"),
    "a sigmoid": (
        lambda m: m.node("Sigmoid", [m.conv("image", 3, 3)]),
        "Sigmoid 'sigmoid1': this operator is not supported",
    ),
    "padding": (lambda m: m.node("Pad", ["image"], pads=[0] * 8), "Pad 'pad0'"),
    "another domain": (
        lambda m: m.node("Conv", ["image"], domain="com.microsoft"),
        "Conv 'conv0': this operator is not supported",
    ),
    "a gate": (lambda m: m.node("Mul", [m.conv("image", 3, 3), "image"]), "a product or quotient of two maps"),
    "a reshape": (_reshaped, "with (1, 3, -1), which is not a step of a pixel shuffle"),
    "a transpose": (lambda m: m.node("Transpose", ["image"], perm=[0, 2, 3, 1]), "(0, 2, 3, 1), which is not a step"),
    "groups": (lambda m: m.conv("image", 1, 3, group=3), "a convolution of 3 groups"),
    "strides": (lambda m: m.conv("image", 3, 3, strides=[2, 2]), "strides of (2, 2)"),
    "no padding": (lambda m: m.conv("image", 3, 3, pads=[0] * 4), "a padding of (0, 0, 0, 0)"),
    "an even kernel": (lambda m: m.conv("image", 3, 3, 4), "a kernel of 4 x 4"),
    "weights that are computed": (lambda m: m.node("Conv", ["image", "image"]), "its weight is not a constant"),
    "bicubic": (lambda m: _resized(m, mode="cubic"), "a bicubic resize by 2 inside"),
    "corners": (
        lambda m: _resized(m, mode="linear", coordinate_transformation_mode="align_corners"),
        "only half-pixel centres",
    ),
    "ceiling": (lambda m: _resized(m, nearest_mode="ceil", coordinate_transformation_mode="asymmetric"), "'ceil'"),
    "a size": (
        lambda m: m.node("Resize", ["image", "", "", m.constant([1, 3, 64, 64], np.int64)], mode="nearest", **FLOOR),
        "a resize to a size",
    ),
    "a mask": (
        lambda m: m.node("Add", [m.conv("image", 3, 3), m.constant(np.ones((8, 8)))]),
        "only one for each channel",
    ),
    "channels last": (lambda m: m.node("Concat", ["image", "image"], axis=3), "along axis 3"),
    "pixels of integers": (lambda m: m.node("Cast", ["image"], to=TensorProto.UINT8), "not floating-point"),
    "a constant": (lambda m: m.node("Identity", [m.constant(1.0)]), "its result is a constant"),
    "weights of integers": (
        lambda m: m.node("Conv", ["image", m.constant(np.ones((3, 3, 1, 1)), np.int8)]),
        "element type 3",
    ),
    "a circle": (lambda m: m.node("Relu", ["v1"], m.node("Relu", ["v0"], "v1")), "is read before any layer"),
    "infinite weights": (lambda m: m.node("Mul", [m.conv("image", 3, 3), m.constant(1e38)]), "not finite"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_no_such_network_is_refused_by_name(what: str, tmp_path: Path) -> None:
    model = OnnxModel()
    make, message = REFUSED[what]
    result = make(model)
    if what == "infinite weights":
        for _ in range(3):
            result = model.node("Mul", [result, model.constant(1e38)])
    with pytest.raises(ModelError) as caught:
        _read(model.model(result), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'model.onnx'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_uint8_images_are_refused(tmp_path: Path) -> None:
    model = OnnxModel()
    data = model.model(model.conv("image", 3, 3), kind=TensorProto.UINT8)
    with pytest.raises(ModelError, match="not of floating-point numbers"):
        _read(data, tmp_path)


def _external(tmp_path: Path, location: str = "weights.bin") -> tuple[Path, bytes]:
    """A model whose weights are in a file of its folder, and its result's constants as they were."""
    model = onnx.load_from_string(small_model())
    for tensor in model.graph.initializer:
        external_data_helper.set_external_data(tensor, location)
    folder = tmp_path / "models"
    folder.mkdir(exist_ok=True)
    path = folder / "model.onnx"
    offset, data = 0, b""
    for tensor in model.graph.initializer:
        raw = tensor.raw_data
        external_data_helper.set_external_data(tensor, location, offset, len(raw))
        data, offset = data + raw, offset + len(raw)
        tensor.ClearField("raw_data")
    path.write_bytes(model.SerializeToString())
    return path, data


def test_weights_beside_the_file_are_read(tmp_path: Path) -> None:
    path, data = _external(tmp_path)
    (path.parent / "weights.bin").write_bytes(data)
    image = IMAGES[0]
    assert psnr(read_onnx(path), image, run_onnx(small_model(), IMAGES)[0]) >= 100


@pytest.mark.parametrize("how", ["above", "absolute", "link"])
def test_weights_outside_the_folder_are_refused(how: str, tmp_path: Path) -> None:
    outside = tmp_path / "weights.bin"
    location = {"above": "../weights.bin", "absolute": str(outside), "link": "link.bin"}[how]
    path, data = _external(tmp_path, location)
    outside.write_bytes(data)
    (path.parent / "link.bin").symlink_to(outside)
    with pytest.raises(ModelError, match="is outside the model's folder"):
        read_onnx(path)


def test_a_weights_file_that_is_too_short_or_missing_is_refused(tmp_path: Path) -> None:
    path, data = _external(tmp_path)
    with pytest.raises(ModelError, match=r"is in 'weights\.bin', which does not exist"):
        read_onnx(path)
    (path.parent / "weights.bin").write_bytes(data[:-1])
    with pytest.raises(ModelError, match=r"'weights\.bin' has others"):
        read_onnx(path)


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04 and so on", b"\x08\x08", b"\x3a\xff\xff\xff\xff\x0f", bytes(100)])
def test_other_files_are_no_onnx_files(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="ONNX file"):
        _read(data, tmp_path)
