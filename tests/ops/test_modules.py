"""Every module and network computes with fused kernels what it computes in plain torch, and learns the same of it.

In float64 to its rounding; with maps of 16 bits, on a CPU and on a GPU where there is one, as exactly as torch does.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.architectures.srgan import Conventions
from srgan_fast.bench.training.phases import saved_bytes
from srgan_fast.models import (
    FeatureExtractor,
    Generator,
    GeneratorConfig,
    PatchDiscriminator,
    SRGANDiscriminator,
    UNetDiscriminator,
    discriminator,
    features,
    generator_config,
)
from srgan_fast.ops import (
    ConvAct,
    ConvBN,
    ConvBNLeakyReLU,
    ConvBNPReLU,
    ConvReLU,
    ResidualBlock,
    UpsampleBlock,
    cuda,
    use_kernels,
)
from srgan_fast.ops.conv import tail_weight
from srgan_fast.ops.modules import tail
from srgan_fast.ops.prologue import Pending, phase_minor
from srgan_fast.ops.switch import Switched


@dataclass(frozen=True)
class Place:
    """A device, and the type in which autocast keeps maps there; float64 is what weights have, too."""

    device: str
    maps: torch.dtype

    def __str__(self) -> str:
        return f"{self.device} {str(self.maps).removeprefix('torch.')}"

    @property
    def weights(self) -> torch.dtype:
        return torch.float64 if self.maps == torch.float64 else torch.float32

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device, self.maps, enabled=self.maps.itemsize == 2)


EXACT = Place("cpu", torch.float64)
SIXTEEN_BITS = [Place("cpu", torch.bfloat16), *(Place("cuda", dtype) for dtype in cuda.TYPES if cuda.usable())]
FLOATS = [Place("cuda", torch.float32)] if cuda.usable() else []
everywhere = pytest.mark.parametrize("place", [EXACT, *SIXTEEN_BITS, *FLOATS], ids=str)

# In double what is left is the order of sums, and Winograd's transforms; BatchNorm's division can magnify them.
RELATIVE = 1e-10
# Beside twice torch's own error: some roundings of a map; and of gradients what activations cost that end on the other
# side of 0 than in float64, which others do in torch.
ROUNDED = {torch.bfloat16: 2**-6, torch.float16: 2**-9, torch.float32: 1e-5}
TURNED = {torch.bfloat16: 0.15, torch.float16: 0.15, torch.float32: 1e-3}
MORE = 8

Make = Callable[[], nn.Module]
MODULES: dict[str, tuple[Make, int]] = {
    "ConvAct": (lambda: ConvAct(3, 5, 1), 3),
    "ConvBN": (lambda: ConvBN(5, False, 1e-5), 5),
    "ConvBN bias eps 0.8": (lambda: ConvBN(17, True, 0.8), 17),
    "ConvBNPReLU": (lambda: ConvBNPReLU(3, 20), 3),
    "ConvBNPReLU slopes bias eps 0.8": (lambda: ConvBNPReLU(16, 17, True, 0.8, 17), 16),
    "ResidualBlock": (lambda: ResidualBlock(5, False, 1e-5, 1), 5),
    "ResidualBlock slopes bias eps 0.8": (lambda: ResidualBlock(17, True, 0.8, 17), 17),
    "UpsampleBlock": (lambda: UpsampleBlock(5, False, 1e-5, 1), 5),
    "UpsampleBlock slopes": (lambda: UpsampleBlock(5, False, 1e-5, 5), 5),
    "UpsampleBlock bn eps 0.8": (lambda: UpsampleBlock(6, True, 0.8, 1), 6),
    "UpsampleBlock bn slopes": (lambda: UpsampleBlock(5, True, 1e-5, 5), 5),
    "ConvBNLeakyReLU": (lambda: ConvBNLeakyReLU(3, 7, 1, True), 3),
    "ConvBNLeakyReLU stride 2": (lambda: ConvBNLeakyReLU(20, 7, 2, True), 20),
    "ConvBNLeakyReLU no bn": (lambda: ConvBNLeakyReLU(3, 7, 1, False), 3),
    "ConvBNLeakyReLU no bn stride 2": (lambda: ConvBNLeakyReLU(20, 7, 2, False), 20),
    "ConvBNLeakyReLU spectral": (lambda: ConvBNLeakyReLU(3, 7, 1, False, spectral=True, bias=False), 3),
    "ConvBNLeakyReLU spectral stride 2": (lambda: ConvBNLeakyReLU(20, 7, 2, False, spectral=True), 20),
    "ConvReLU": (lambda: ConvReLU(3, 8), 3),
}
NORMALISED = [
    name for name, (make, _) in MODULES.items() if any(isinstance(m, nn.BatchNorm2d) for m in make().modules())
]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    torch.manual_seed(0)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Discriminators and VGGs of the usual layers with few channels."""
    monkeypatch.setattr(discriminator, "TRUNK_WIDTHS", (8, 9, 8, 9, 17, 16, 16, 20))
    monkeypatch.setattr(discriminator, "UNET_WIDTH", 8)
    monkeypatch.setattr(features, "_WIDTHS", (8, 9, 8, 17, 16))


def disturb(module: nn.Module) -> nn.Module:
    """Random values wherever a fresh module has ones and zeros, so that every tensor matters."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point() or name.endswith(("weight_u", "weight_v")):  # unit vectors
                continue
            if "running_var" in name or ("bn" in name and name.endswith("weight")):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("act.weight"):
                tensor.uniform_(-0.2, 0.4)
            elif tensor.dim() == 1:
                tensor.uniform_(-0.3, 0.3)
    return module


def twins(make: Make | nn.Module, place: Place = EXACT) -> tuple[Any, Any]:
    """The same module with fused kernels and in plain torch."""
    module = disturb(make if isinstance(make, nn.Module) else make()).to(place.device, place.weights)
    fused = copy.deepcopy(module)
    use_kernels(fused, "fused")
    assert all(part.kernels == "fused" for part in fused.modules() if isinstance(part, Switched))
    return fused, module


def close(ours: Tensor, expected: Tensor, scale: float, name: str, bound: float = RELATIVE) -> None:
    assert ours.shape == expected.shape, name
    assert ours.dtype == expected.dtype, name
    error = (ours.double() - expected.double()).abs().max().item() if expected.numel() else 0.0
    assert error <= bound * scale, f"{name}: {error:.2e} of {scale:.2e}"


def learn(module: nn.Module, x: Tensor, place: Place = EXACT) -> dict[str, Tensor]:
    """A forward and a backward pass: everything that comes of it."""
    module.zero_grad()
    x = x.detach().clone().requires_grad_()
    with place.autocast():
        y = module(x)
    torch.manual_seed(1)
    (y * torch.randn(y.shape).to(y)).sum().backward()
    assert x.grad is not None
    found = {"y": y.detach(), "dx": x.grad}
    return found | {f"d{name}": p.grad for name, p in module.named_parameters() if p.grad is not None}


def agree(fused: nn.Module, plain: nn.Module, x: Tensor, bound: float = RELATIVE, place: Place = EXACT) -> None:
    """Outputs, all gradients, and all buffers afterwards."""
    if place.maps != torch.float64:
        as_exact_as_torch(fused, plain, x, place)
        return
    ours, theirs = learn(fused, x), learn(plain, x)
    assert ours.keys() == theirs.keys()
    # The gradient of a bias that a BatchNorm takes away is 0 but for rounding: held against the others.
    largest = max(value.abs().max().item() for name, value in theirs.items() if name.startswith("d"))
    for name, value in ours.items():
        scale = theirs[name].abs().max().item()
        close(value, theirs[name], scale if name in ("y", "dx") else max(scale, 1e-2 * largest), name, bound)
    for name, buffer in plain.named_buffers():
        got = fused.get_buffer(name)
        if buffer.is_floating_point():
            close(got, buffer, buffer.abs().max().item(), name, bound)
        else:
            assert torch.equal(got, buffer), name


def as_exact_as_torch(fused: nn.Module, plain: nn.Module, x: Tensor, place: Place) -> None:
    """The same as `agree` with maps of 16 bits: no farther from float64 than plain torch, or not much."""
    exact_one = copy.deepcopy(plain).double()
    exact = learn(exact_one, x.double())
    ours, theirs = (learn(module, x.to(place.maps), place) for module in (fused, plain))
    assert ours.keys() == theirs.keys() == exact.keys()
    assert [value.dtype for value in ours.values()] == [value.dtype for value in theirs.values()]
    for found, module in ((exact, exact_one), (ours, fused), (theirs, plain)):
        found |= {f"buffer {name}": value for name, value in module.named_buffers()}
    groups: dict[str, list[str]] = {}
    for name, value in exact.items():
        kind = "buffers" if name.startswith("buffer") else "filters" if value.dim() == 4 else "vectors"
        groups.setdefault(name if name in ("y", "dx") else kind, []).append(name)

    def error(found: dict[str, Tensor], names: list[str]) -> float:
        """Of a group as one: the parts of a small one may be 0 but for rounding."""
        wrong, whole = (
            sum(t.double().square().sum().item() for t in tensors)
            for tensors in ([found[n].double() - exact[n].double() for n in names], [exact[n] for n in names])
        )
        return math.sqrt(wrong / max(whole, 1e-30))

    for group, names in groups.items():
        stock = error(theirs, names)
        if math.isnan(stock):  # PyTorch 2.14 leaves memory of the CPU unwritten: bfloat16, 1x1 maps, stride 2
            stock = 0.0
        allowed = 2 * stock + (ROUNDED[place.maps] if group in ("y", "buffers") else TURNED[place.maps])
        assert error(ours, names) <= allowed, f"{group}: {error(ours, names):.1e} of {allowed:.1e}"


def picture(channels: int, *size: int, place: Place = EXACT) -> Tensor:
    """Random, in values that maps there can hold; in 16 bits more of them, or a single activation would decide."""
    count = size[0] * (1 if place.maps == torch.float64 else MORE)
    return torch.randn(count, channels, *size[1:], dtype=torch.float64).to(place.maps).to(place.device, place.weights)


@everywhere
@pytest.mark.parametrize("size", [(2, 7, 5), (1, 9, 12), (3, 2, 3), (2, 1, 4)], ids=str)
@pytest.mark.parametrize("name", MODULES)
def test_values_gradients_and_statistics_are_those_of_plain_torch(
    name: str, size: tuple[int, ...], place: Place
) -> None:
    make, channels = MODULES[name]
    fused, plain = twins(make, place)
    for _ in range(3):  # running statistics move on
        agree(fused, plain, picture(channels, *size, place=place), place=place)


@everywhere
@pytest.mark.parametrize("name", MODULES)
def test_evaluation_is_that_of_plain_torch_and_counts_nothing(name: str, place: Place) -> None:
    make, channels = MODULES[name]
    fused, plain = twins(make, place)
    fused.eval(), plain.eval()
    before = copy.deepcopy(fused.state_dict())
    for size in ((1, 1, 1), (2, 7, 5)):
        agree(fused, plain, picture(channels, *size, place=place), place=place)
    assert all(torch.equal(value, before[key]) for key, value in fused.state_dict().items())


@pytest.mark.parametrize("name", MODULES)
def test_training_evaluation_and_training_again_follow_plain_torch(name: str) -> None:
    make, channels = MODULES[name]
    fused, plain = twins(make)
    optimisers = [torch.optim.SGD(m.parameters(), lr=1e-3) for m in (fused, plain)]
    for training in (True, True, False, True, False):
        fused.train(training), plain.train(training)
        agree(fused, plain, picture(channels, 2, 6, 5), 1e-8)
        for optimiser in optimisers:
            optimiser.step()


CHANGES: dict[str, Callable[[nn.BatchNorm2d], nn.BatchNorm2d]] = {
    "momentum None": lambda bn: nn.BatchNorm2d(bn.num_features, bn.eps, momentum=None),
    "momentum 0.7": lambda bn: nn.BatchNorm2d(bn.num_features, bn.eps, momentum=0.7),
    "momentum 0": lambda bn: nn.BatchNorm2d(bn.num_features, bn.eps, momentum=0.0),
    "no tracking": lambda bn: nn.BatchNorm2d(bn.num_features, bn.eps, track_running_stats=False),
    "not affine": lambda bn: nn.BatchNorm2d(bn.num_features, bn.eps, affine=False),
}


def changed(module: nn.Module, change: str) -> nn.Module:
    for name, child in list(module.named_children()):
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, CHANGES[change](child))
    return module


@everywhere
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", NORMALISED)
def test_other_batchnorms_follow_plain_torch_in_both_modes(name: str, change: str, place: Place) -> None:
    make, channels = MODULES[name]
    fused, plain = twins(lambda: changed(make(), change), place)
    for training in (True, True, False, True):
        fused.train(training), plain.train(training)
        agree(fused, plain, picture(channels, 2, 6, 5, place=place), place=place)


@everywhere
@pytest.mark.parametrize("name", NORMALISED)
def test_one_value_a_channel_is_refused_in_training_as_by_torch(name: str, place: Place) -> None:
    make, channels = MODULES[name]
    x = picture(channels, 1, 1, 1, place=place)[:1]
    for module in twins(make, place):
        before = copy.deepcopy(module.state_dict())
        with place.autocast(), pytest.raises(ValueError, match="more than 1 value per channel when training"):
            module(x)
        assert all(torch.equal(v, before[key]) for key, v in module.state_dict().items() if "running" in key)
        with place.autocast():
            module.eval()(x)


@everywhere
@pytest.mark.parametrize("name", MODULES)
def test_parts_that_are_frozen_get_no_gradients_and_the_others_theirs(name: str, place: Place) -> None:
    make, channels = MODULES[name]
    fused, plain = twins(make, place)
    for frozen in range(len(list(plain.parameters())) + 1):
        for module in (fused, plain):
            for i, p in enumerate(module.parameters()):
                p.requires_grad_(i != frozen)
        agree(fused, plain, picture(channels, 2, 4, 5, place=place), place=place)
    fused.requires_grad_(False), plain.requires_grad_(False)
    agree(fused, plain, picture(channels, 2, 4, 5, place=place), place=place)


@pytest.mark.parametrize("name", MODULES)
def test_the_switch_and_copies_leave_names_values_and_layout_of_parameters(name: str) -> None:
    make, channels = MODULES[name]
    fused, plain = twins(make)
    assert list(fused.state_dict()) == list(plain.state_dict())
    x = picture(channels, 2, 4, 5)
    learn(fused, x)
    twin = copy.deepcopy(fused)
    agree(twin, fused, x)
    other = make().double()
    other.load_state_dict(fused.state_dict())
    use_kernels(fused, "reference")
    agree(fused, other, x)


@pytest.mark.parametrize("name", MODULES)
def test_float32_is_near(name: str) -> None:
    make, channels = MODULES[name]
    fused, plain = twins(make, replace(EXACT, maps=torch.float32))
    x = picture(channels, 2, 12, 13).float()
    exact = learn(plain.double(), x.double())["y"]
    assert (learn(fused, x)["y"].double() - exact).norm() / exact.norm() < 1e-5


@everywhere
def test_every_memory_layout_gives_the_same(place: Place) -> None:
    fused, plain = twins(MODULES["ResidualBlock slopes bias eps 0.8"][0], place)
    x = picture(17, 3, 6, 5, place=place)
    wide = x.new_zeros(len(x), 19, 8, 5)
    wide[:, 1:18, 2:].copy_(x)
    for given in (x, x.contiguous(memory_format=torch.channels_last), wide[:, 1:18, 2:]):
        agree(fused, plain, given, place=place)
    agree(fused.to(memory_format=torch.channels_last), plain, x, place=place)


def small(preset: str, channels: int = 17, blocks: int = 2, scale: int = 4, **changes: Any) -> Generator:
    return Generator(replace(generator_config(preset, scale=scale, channels=channels, blocks=blocks), **changes))


GENERATORS: dict[str, Make] = {
    "paper": lambda: small("paper"),
    "pytorch-gan": lambda: small("pytorch-gan"),
    "x2": lambda: small("paper", scale=2),
    "x8": lambda: small("pytorch-gan", 5, 1, 8),
    "no blocks": lambda: small("paper", 5, 0),
    "one block of one channel": lambda: small("paper", 1, 1),
    "slopes": lambda: small("paper", prelu="channel"),
    "slopes and bn": lambda: small(
        "pytorch-gan", 5, prelu="channel", upsample_bn=True, conventions=Conventions(upsample_eps=0.8, output="tanh")
    ),
}


@everywhere
@pytest.mark.parametrize("name", GENERATORS)
def test_generators_learn_what_they_do_in_plain_torch(name: str, place: Place) -> None:
    fused, plain = twins(GENERATORS[name], place)
    for size in ((2, 5, 7), (1, 6, 4)):
        agree(fused, plain, picture(3, *size, place=place), 1e-9, place)
    fused.eval(), plain.eval()
    for size in ((2, 5, 7), (1, 1, 1)):
        agree(fused, plain, picture(3, *size, place=place), 1e-9, place)


@everywhere
@pytest.mark.parametrize("name", ["paper", "pytorch-gan"])
def test_generators_that_recompute_learn_the_same(name: str, place: Place) -> None:
    fused, plain = twins(GENERATORS[name], place)
    fused.recompute = True
    for _ in range(2):  # statistics count each batch once
        agree(fused, plain, picture(3, 2, 5, 7, place=place), 1e-9, place)


@everywhere
@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize(
    ("make", "side"),
    [
        (PatchDiscriminator, 33),
        (PatchDiscriminator, 17),
        (lambda: PatchDiscriminator(spectral=True), 33),
        (UNetDiscriminator, 24),
        (lambda: SRGANDiscriminator(32), 32),
    ],
)
def test_discriminators_learn_what_they_do_in_plain_torch(make: Make, side: int, place: Place) -> None:
    fused, plain = twins(make, place)
    for _ in range(2):
        agree(fused, plain, picture(3, 3, side, side, place=place), 1e-8, place)
    fused.eval(), plain.eval()
    agree(fused, plain, picture(3, 1, side, side, place=place), 1e-8, place)


@everywhere
@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("trainable", [False, True], ids=["frozen", "trainable"])
@pytest.mark.parametrize(
    ("cut", "activated"), [("vgg22", True), ("vgg34", False), ("features[:9]", True), ("features[:10]", True),
                           ("features[:1]", True), ("vgg54", False)]
)  # fmt: skip
def test_features_are_those_of_plain_torch(cut: str, activated: bool, trainable: bool, place: Place) -> None:
    fused, plain = twins(FeatureExtractor(cut, activated=activated, weights="random", trainable=trainable), place)
    agree(fused, plain, torch.rand(2, 3, 19, 34).to(place.device, place.weights), place=place)
    assert trainable == any(p.grad is not None for p in fused.parameters())
    if not activated:
        with torch.no_grad(), place.autocast():
            assert (fused(torch.rand(1, 3, 32, 32).to(place.device, place.weights)) < 0).any()


class Joined(nn.Module):
    """Features of several layers as one tensor of channels by size."""

    def __init__(self, *layers: str, trainable: bool = False) -> None:
        super().__init__()
        self.vgg = FeatureExtractor(layers=layers, weights="random", trainable=trainable)

    def forward(self, image: Tensor) -> Tensor:
        """N, 3, H, W to N, values."""
        return torch.cat([features.flatten(1) for features in self.vgg(image)], 1)


@everywhere
@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("trainable", [False, True], ids=["frozen", "trainable"])
@pytest.mark.parametrize(
    "layers",
    [
        ("conv1_2", "conv2_2", "conv3_4", "conv4_4", "conv5_4"),
        ("relu1_1", "conv1_1", "pool1"),
        ("conv1_2", "pool1", "conv2_1"),
        ("conv2_2", "relu2_2", "relu1_2"),
    ],
    ids=" ".join,
)
def test_features_of_several_layers_are_those_of_plain_torch(
    layers: tuple[str, ...], trainable: bool, place: Place
) -> None:
    fused, plain = twins(Joined(*layers, trainable=trainable), place)
    agree(fused, plain, torch.rand(2, 3, 19, 34).to(place.device, place.weights), place=place)
    assert trainable == any(p.grad is not None for p in fused.parameters())


@pytest.mark.usefixtures("_narrow")
def test_layers_before_their_relu_keep_no_more_memory_than_the_deepest_alone() -> None:
    def kept(**layers: Any) -> int:
        """Bytes of the maps that backward needs, each counted once."""
        vgg = FeatureExtractor(weights="random", **layers)
        use_kernels(vgg, "fused")
        image = torch.rand(1, 3, 32, 32, requires_grad=True)
        seen: dict[int, int] = {}
        tensors = []  # kept, so that no address is used twice

        def pack(tensor: Tensor) -> Tensor:
            tensors.append(tensor)
            if tensor.dim() == 4 and tensor.shape[0] == 1 and tensor.shape[2] > 3:
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            vgg(image)
        return sum(seen.values())

    several = kept(layers=("conv1_2", "conv2_2", "conv3_4", "conv4_1"))
    assert 0 < several <= kept(layers=("conv4_1",))


def test_the_tail_before_the_shuffle_is_the_9x9_convolution_behind_it() -> None:
    conv = nn.Conv2d(5, 3, 9, padding=4).double()
    x = torch.randn(2, 20, 6, 7, dtype=torch.float64, requires_grad=True)  # phase by phase
    inputs = (x, conv.weight, conv.bias)
    expected = conv(F.pixel_shuffle(phase_minor(x.transpose(0, 1)).transpose(0, 1), 2))
    factor = torch.randn_like(expected)
    wanted = torch.autograd.grad(expected, inputs, factor)
    found = tail(Pending(x, shuffled=True), conv)
    ours = torch.autograd.grad(found, inputs, factor)
    # The new weights themselves are the old ones, moved: in plain torch there is nothing but the order of sums.
    plain = F.conv2d(x, tail_weight(conv.weight), conv.bias.repeat_interleave(4), padding=2)
    torch.testing.assert_close(F.pixel_shuffle(plain, 2), expected, rtol=0, atol=1e-14)
    for a, b in zip((found, *ours), (expected, *wanted), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_every_tap_of_the_tail_is_moved_once_for_each_output_phase() -> None:
    weight = torch.arange(1.0, 2 * 3 * 81 + 1).view(2, 3, 9, 9)
    moved = tail_weight(weight)
    assert moved.shape == (8, 12, 5, 5)
    values, counts = moved.unique(return_counts=True)
    assert values.tolist() == [0.0, *range(1, 2 * 3 * 81 + 1)]
    assert set(counts[1:].tolist()) == {4}


def kept(network: nn.Module, x: Tensor) -> int:
    return saved_bytes(lambda: network(x), [*network.parameters(), *network.buffers(), x])


def test_the_generator_of_a_usual_step_keeps_little_more_than_half_for_backward() -> None:
    # 16 crops of 96x96: 160 of 279 MB, 0.572. Weights put in another order are kept, too, 1.4 MB whatever the batch:
    # with 4 crops it is 0.587, with one 0.649.
    fused, plain = twins(lambda: Generator(generator_config("paper")), replace(EXACT, maps=torch.float32))
    x = torch.rand(16, 3, 24, 24)
    assert kept(fused, x) <= 0.58 * kept(plain, x)


@everywhere
@pytest.mark.usefixtures("_narrow")
@pytest.mark.parametrize("make", [GENERATORS["paper"], GENERATORS["slopes and bn"], PatchDiscriminator])
def test_networks_compile_without_a_break_and_learn_the_same(make: Make, place: Place) -> None:
    torch._dynamo.reset()  # one network's code is compiled anew for each type, but not for ever more of them
    fused, plain = twins(make, place)
    fused.compile(fullgraph=True, backend="aot_eager")
    # Smaller, and a discriminator's last BatchNorms are of so few values that 16 bits say little.
    sides = (17, 16) if place == EXACT else (33, 32)
    x = torch.rand(2, 3, *sides).to(place.device, place.weights)
    for training in (True, False):
        plain.train(training), fused.train(training)
        agree(fused, plain, x, 1e-8, place)


def test_the_size_of_a_network_comes_from_its_configuration_either_way() -> None:
    fused, plain = twins(lambda: Generator(GeneratorConfig(channels=4, blocks=1, scale=2)))
    for height, width in ((1, 1), (3, 5)):
        x = picture(3, 2, height, width)
        assert fused.eval()(x).shape == plain.eval()(x).shape == (2, 3, 2 * height, 2 * width)


def test_a_slope_that_never_changes_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    block = ConvBNLeakyReLU(16, 16, stride=1, with_bn=True)
    assert "slope" not in block.state_dict()
    use_kernels(block, "fused")
    x = torch.rand(2, 16, 5, 6)
    expected = block(x)
    real, made = torch.full, []
    monkeypatch.setattr(torch, "full", lambda *sizes, **how: (made.append(sizes), real(*sizes, **how))[1])
    assert torch.equal(block(x), expected)
    assert made == []
    block.double()(x.double())
    assert made == [((1,), 0.2)]  # not the one that was rounded to float32
    assert block.bfloat16().slope.dtype == torch.bfloat16  # and is rounded no more than that
