"""VGG features: torchvision's layers and names, cut where a loss says, frozen unless asked otherwise."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from srgan_fast.errors import ModelError
from srgan_fast.models import ColourMap, FeatureExtractor
from srgan_fast.models.features import DEFAULT_LAYERS, VggName, cut_index, feature_layers
from srgan_fast.ops import use_kernels
from srgan_fast.ops.switch import Kernels


def torchvision_features(vgg: VggName, count: int | None = None) -> nn.Sequential:
    """The first of torchvision's layers, on no device."""
    with torch.device("meta"):
        network = getattr(torchvision.models, vgg)(weights=None)
    return network.features[:count]


def normalised(image: Tensor) -> Tensor:
    return torchvision.transforms.functional.normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])


@pytest.fixture(scope="module")
def lower() -> nn.Sequential:
    """VGG19 up to relu2_2 with random weights."""
    torch.manual_seed(1)
    features = torchvision_features("vgg19", 9).to_empty(device="cpu")
    for layer in features:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            nn.init.uniform_(layer.bias, -0.2, 0.2)
    return features


@pytest.fixture(scope="module")
def state(lower: nn.Sequential) -> dict[str, Tensor]:
    """Those weights by torchvision's names, with a part that is not needed."""
    return {**{f"features.{name}": t for name, t in lower.state_dict().items()}, "classifier.0.weight": torch.ones(2)}


@pytest.fixture
def file(state: dict[str, Tensor], tmp_path: Path) -> Path:
    path = tmp_path / "vgg19.safetensors"
    save_file(state, path)
    return path


@pytest.mark.parametrize("vgg", ["vgg19", "vgg16"])
def test_layers_are_torchvisions(vgg: VggName) -> None:
    theirs = list(torchvision_features(vgg))
    with torch.device("meta"):
        ours = list(FeatureExtractor(f"features[:{len(theirs)}]", weights="random", vgg=vgg).features)

    def described(layer: nn.Module) -> object:
        if isinstance(layer, nn.Conv2d):
            return layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding
        return type(layer), getattr(layer, "kernel_size", None), getattr(layer, "stride", None)

    def plain(value: object) -> object:
        return 2 if value == (2, 2) else value

    assert [described(a) for a in ours] == [described(b) for b in theirs]
    names = feature_layers(vgg)
    kinds = {nn.Conv2d: "conv", nn.ReLU: "relu", nn.MaxPool2d: "pool"}
    assert [name[:4] for name in names] == [kinds[type(b)] for b in theirs]


@pytest.mark.parametrize(
    ("vgg", "cut", "activated", "count", "layer"),
    [
        ("vgg19", "vgg22", True, 9, "relu2_2"),
        ("vgg19", "vgg22", False, 8, "conv2_2"),
        ("vgg19", "vgg54", True, 36, "relu5_4"),
        ("vgg19", "vgg54", False, 35, "conv5_4"),
        ("vgg19", "conv5_4", True, 36, "relu5_4"),
        ("vgg19", "features[:18]", True, 18, "relu3_4"),
        ("vgg19", "features[:18]", False, 18, "relu3_4"),  # the number says it all
        ("vgg19", "features[:1]", True, 1, "conv1_1"),
        ("vgg19", "features[:37]", True, 37, "pool5"),
        ("vgg16", "features[:16]", True, 16, "relu3_3"),
        ("vgg16", "vgg53", True, 30, "relu5_3"),
        ("vgg16", "conv5_3", False, 29, "conv5_3"),
    ],
)
def test_a_cut_keeps_the_layers_up_to_its_own(vgg: VggName, cut: str, activated: bool, count: int, layer: str) -> None:
    assert cut_index(vgg, cut, activated) == count
    with torch.device("meta"):
        extractor = FeatureExtractor(cut, activated=activated, weights="random", vgg=vgg)
    assert (len(extractor.features), extractor.layer) == (count, layer)


@pytest.mark.parametrize(
    ("vgg", "cut"),
    [
        ("vgg19", "vgg55"),
        ("vgg19", "vgg13"),
        ("vgg19", "vgg61"),
        ("vgg16", "vgg54"),
        ("vgg16", "vgg34"),
        ("vgg19", "relu3_1"),
        ("vgg19", ""),
        ("vgg19", "features[18]"),
        ("vgg19", "features[:0]"),
        ("vgg19", "features[:38]"),
        ("vgg16", "features[:32]"),
        ("vgg19", "features[:-1]"),
    ],
)
def test_a_cut_that_is_not_there_is_refused_with_those_that_are(vgg: VggName, cut: str) -> None:
    with pytest.raises(ModelError, match=r"features\[:"):
        FeatureExtractor(cut, weights="random", vgg=vgg)


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize(("activated", "count"), [(True, 9), (False, 8)])
def test_features_are_torchvisions_of_the_normalised_image(
    lower: nn.Sequential, state: dict[str, Tensor], tmp_path: Path, suffix: str, activated: bool, count: int
) -> None:
    path = tmp_path / f"vgg19{suffix}"
    save_file(state, path) if suffix == ".safetensors" else torch.save(state, path)
    extractor = FeatureExtractor("vgg22", activated=activated, weights=path)
    image = torch.rand(2, 3, 13, 10)
    with torch.no_grad():
        features, expected = extractor(image), lower[:count](normalised(image))
    assert features.shape == (2, 128, 6, 5)
    assert torch.allclose(features, expected, rtol=1e-4, atol=1e-4)
    assert bool((features < 0).any()) is not activated


def test_deep_features_are_torchvisions() -> None:
    torch.manual_seed(2)
    extractor = FeatureExtractor("vgg54", activated=False, weights="random")
    theirs = torchvision_features("vgg19", 35)
    theirs.load_state_dict(extractor.features.state_dict(), assign=True)
    image = torch.rand(1, 3, 16, 33)
    with torch.no_grad():
        assert torch.allclose(extractor(image), theirs(normalised(image)), rtol=1e-4, atol=1e-6)


def test_input_map_replaces_the_normalisation(file: Path, lower: nn.Sequential) -> None:
    doubled = FeatureExtractor("vgg22", weights=file, input_map=ColourMap((2.0, 2.0, 2.0), (-1.0, 0.0, 1.0)))
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        expected = lower(2 * image + torch.tensor([-1.0, 0.0, 1.0])[:, None, None])
        assert torch.allclose(doubled(image), expected, rtol=1e-4, atol=1e-4)


def test_half_precision_files_are_read(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file({name: t.half() for name, t in state.items()}, tmp_path / "half.safetensors")
    extractor = FeatureExtractor("vgg22", weights=tmp_path / "half.safetensors")
    assert {p.dtype for p in extractor.parameters()} == {torch.float32}
    assert torch.equal(extractor.features[0].weight, state["features.0.weight"].half().float())


def test_frozen_by_default_but_gradients_pass_to_the_image(file: Path) -> None:
    extractor = FeatureExtractor("vgg22", weights=file)
    nn.ModuleList([extractor]).train()  # as a trainer does with all its networks
    image = torch.rand(1, 3, 8, 8, requires_grad=True)
    extractor(image).sum().backward()
    assert not any(module.training for module in extractor.modules())
    assert not any(p.requires_grad or p.grad is not None for p in extractor.parameters())
    assert image.grad.abs().sum() > 0


def test_trainable_on_request(file: Path) -> None:
    extractor = FeatureExtractor("vgg22", weights=file, trainable=True)
    assert extractor.training
    assert not extractor.eval().training
    assert extractor.train().training
    extractor(torch.rand(1, 3, 8, 8)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in extractor.parameters())


@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 1, 16, 16), (1, 16, 16, 3)], ids=str)
def test_anything_but_rgb_batches_is_refused(file: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="takes N, 3, H, W images"):
        FeatureExtractor("vgg22", weights=file)(torch.zeros(shape))


@pytest.mark.parametrize(("cut", "side"), [("features[:4]", 1), ("vgg22", 2), ("features[:18]", 4)])
def test_images_smaller_than_the_pooling_are_refused(cut: str, side: int) -> None:
    extractor = FeatureExtractor(cut, weights="random")
    assert extractor(torch.zeros(1, 3, side, side)).shape[2:] == (1, 1)
    if side > 1:
        with pytest.raises(ModelError, match=f"images of {side - 1}x{side} are too small; .* needs {side}"):
            extractor(torch.zeros(1, 3, side, side - 1))


class NotOnlyTensors:
    """Something that must not be unpickled."""


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
@pytest.mark.parametrize("content", [b"", b"no weights at all\n", bytes(200)], ids=["empty", "text", "zeros"])
def test_files_that_are_no_weights_are_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"vgg{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not readable VGG weights"):
        FeatureExtractor("vgg22", weights=path)


def test_pickled_objects_are_refused(tmp_path: Path) -> None:
    torch.save({"features.0.weight": NotOnlyTensors()}, tmp_path / "vgg.pth")
    with pytest.raises(ModelError, match="not readable VGG weights"):
        FeatureExtractor("vgg22", weights=tmp_path / "vgg.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "contains a list, not a state dict"),
        ({}, r"has no features\.0\.weight, which vgg19 up to relu2_2 needs"),
        ({"features.0.weight": 3}, r"has no features\.0\.weight"),
        ({"features.0.weight": torch.zeros(64, 1, 3, 3)}, r"features\.0\.weight has shape \(64, 1, 3, 3\)"),
    ],
    ids=["list", "nothing", "number", "gray"],
)
def test_weights_that_do_not_fit_are_refused(tmp_path: Path, content: object, message: str) -> None:
    torch.save(content, tmp_path / "vgg.pth")
    with pytest.raises(ModelError, match=message):
        FeatureExtractor("vgg22", weights=tmp_path / "vgg.pth")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"vgg19\.pth: no such file"):
        FeatureExtractor("vgg22", weights=tmp_path / "vgg19.pth")


@pytest.mark.parametrize("failure", [OSError("no route to host"), RuntimeError("invalid hash value")], ids=str)
@pytest.mark.parametrize(("vgg", "weights"), [("vgg19", "VGG19_Weights"), ("vgg16", "VGG16_Weights")])
def test_a_failed_download_asks_for_a_local_file(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, vgg: VggName, weights: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(getattr(torchvision.models, weights), "get_state_dict", fail)
    with pytest.raises(ModelError, match=f"{vgg} weights could not be downloaded .* give a local file"):
        FeatureExtractor("vgg22", vgg=vgg)


@pytest.mark.parametrize("vgg", ["vgg19", "vgg16"])
def test_default_layers_are_the_last_convolutions_of_the_five_groups(vgg: VggName) -> None:
    names = feature_layers(vgg)
    before_pools = [names[i - 2] for i, name in enumerate(names) if name.startswith("pool")]
    assert DEFAULT_LAYERS[vgg] == dict(zip(before_pools, (0.1, 0.1, 1.0, 1.0, 1.0), strict=True))


def test_several_layers_come_in_the_order_in_which_they_were_asked_for(file: Path) -> None:
    layers = ("conv2_2", "relu1_1", "conv1_2", "relu2_2")
    extractor = FeatureExtractor(layers=layers, weights=file)
    assert (extractor.layers, extractor.layer, len(extractor.features)) == (layers, "relu2_2", 9)
    image = torch.rand(2, 3, 12, 10)
    found = extractor(image)
    for name, features in zip(layers, found, strict=True):
        index = feature_layers("vgg19").index(name)
        assert torch.equal(features, extractor.features[: index + 1](extractor.input_map(image))), name
    assert (found[0] < 0).any()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (("conv3_4",), "'conv3_4' is not a layer of vgg16; it has conv1_1, relu1_1, .*, pool5"),
        (("vgg33",), "'vgg33' is not a layer of vgg16"),
        (("conv1_2", "conv1_2"), "layers are conv1_2, conv1_2; name each once"),
    ],
)
def test_layers_that_are_not_there_or_named_twice_are_refused(layers: tuple[str, ...], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        FeatureExtractor(layers=layers, weights="random", vgg="vgg16")


@pytest.mark.data
@pytest.mark.parametrize(("cut", "layer"), [("features[:16]", "relu3_3"), ("conv5_3", "relu5_3")])
def test_keras_vgg16_gets_bgr_in_0_to_255_minus_its_means(data_folder: Path, cut: str, layer: str) -> None:
    path = data_folder / "vgg" / "vgg16_features.f16.safetensors"
    extractor = FeatureExtractor.from_keras_vgg16(path, cut)
    assert extractor.layer == layer

    weights = load_file(path)
    image = torch.rand(1, 3, 24, 33)
    x = 255 * image[:, [2, 1, 0]] - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    for i, name in enumerate(feature_layers("vgg16")[: len(extractor.features)]):
        if name.startswith("conv"):
            x = F.conv2d(x, weights[f"features.{i}.weight"].float(), weights[f"features.{i}.bias"].float(), padding=1)
        else:
            x = x.relu() if name.startswith("relu") else F.max_pool2d(x, 2)
    with torch.no_grad():
        features = extractor(image)
    assert x.max() > 1
    assert torch.allclose(features, x, rtol=1e-3, atol=1e-4 * float(x.max()))


@pytest.mark.parametrize("layers", [(), ("conv1_2", "relu2_1", "conv2_2", "pool2")], ids=["cut", "layers"])
@pytest.mark.parametrize("sides", [(16, 24), (18, 21)], ids=["together", "one after the other"])
@pytest.mark.parametrize("kernels", ["fused", "reference"])
def test_features_of_two_batches_are_those_of_each(
    layers: tuple[str, ...], sides: tuple[int, int], kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("srgan_fast.models.features._WIDTHS", (8, 8, 8, 16, 16))
    extractor = FeatureExtractor("features[:9]", layers=layers, weights="random").double()
    use_kernels(extractor, kernels)
    still, moving = torch.rand(2, 2, 3, *sides, dtype=torch.float64)
    given = moving.clone().requires_grad_()
    first, second = extractor.of_two(still, given)
    gradient = torch.autograd.grad(torch.stack([m.square().sum() for m in second]).sum(), given)[0]

    image = moving.clone().requires_grad_()
    expected = extractor(still), extractor(image)
    each = [maps if isinstance(maps, list) else [maps] for maps in expected]
    for found, wanted in zip((*first, *second), (*each[0], *each[1]), strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        gradient, torch.autograd.grad(torch.stack([m.square().sum() for m in each[1]]).sum(), image)[0]
    )
    assert not any(m.requires_grad for m in first)
    assert all(m.requires_grad for m in second)
