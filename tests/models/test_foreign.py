"""Other people's checkpoints become ours with equal output, and nothing in them is executed.

The three networks are written here from their descriptions: the names of their modules and what their forward does.
"""

import os
import pickle
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from srgan_fast.errors import ModelError
from srgan_fast.models import load_generator, read_generator, read_model
from srgan_fast.models.foreign import convert_file

MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]


def conv(n_in: int, n_out: int, size: int, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(n_in, n_out, size, stride=1, padding=size // 2, bias=bias)


class Wrapped(nn.Module):
    """A sequence under a name of its own, with or without a skip."""

    def __init__(self, name: str, *layers: nn.Module, skip: bool = False) -> None:
        super().__init__()
        self.add_module(name, nn.Sequential(*layers))
        self.name, self.skip = name, skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.get_submodule(self.name)(x)
        return x + y if self.skip else y


class EriklindernorenGenerator(nn.Module):
    """PyTorch-GAN: an eps of 0.8 in the trunk, BatchNorm in a flat upsampler, tanh, ImageNet-normalised images."""

    def __init__(self, c: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(conv(3, c, 9), nn.PReLU())
        norm = [nn.BatchNorm2d(c, 0.8) for _ in range(2 * blocks + 1)]
        self.res_blocks = nn.Sequential(
            *(
                Wrapped("conv_block", conv(c, c, 3), norm[2 * i], nn.PReLU(), conv(c, c, 3), norm[2 * i + 1], skip=True)
                for i in range(blocks)
            )
        )
        self.conv2 = nn.Sequential(conv(c, c, 3), norm[-1])
        flat: list[nn.Module] = []
        for _ in range(scale.bit_length() - 1):
            flat += [conv(c, 4 * c, 3), nn.BatchNorm2d(4 * c), nn.PixelShuffle(2), nn.PReLU()]
        self.upsampling = nn.Sequential(*flat)
        self.conv3 = nn.Sequential(conv(c, 3, 9), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        first = self.conv1(x)
        return self.conv3(self.upsampling(first + self.conv2(self.res_blocks(first))))

    def pictures(self, lr: Tensor) -> Tensor:
        return self((lr - MEAN) / STD) * STD + MEAN


class LeftthomasResidual(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv1, self.bn1, self.prelu = conv(c, c, 3), nn.BatchNorm2d(c), nn.PReLU()
        self.conv2, self.bn2 = conv(c, c, 3), nn.BatchNorm2d(c)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.bn2(self.conv2(self.prelu(self.bn1(self.conv1(x)))))


class LeftthomasUpsample(nn.Module):
    def __init__(self, c: int) -> None:
        super().__init__()
        self.conv, self.pixel_shuffle, self.prelu = conv(c, 4 * c, 3), nn.PixelShuffle(2), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.pixel_shuffle(self.conv(x)))


class LeftthomasGenerator(nn.Module):
    """SRGAN by leftthomas: everything is a numbered block, five of them residual; (tanh + 1) / 2 at the end."""

    def __init__(self, c: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.last = blocks + 3
        self.block1 = nn.Sequential(conv(3, c, 9), nn.PReLU())
        for i in range(2, blocks + 2):
            self.add_module(f"block{i}", LeftthomasResidual(c))
        self.add_module(f"block{blocks + 2}", nn.Sequential(conv(c, c, 3), nn.BatchNorm2d(c)))
        end = nn.Sequential(*(LeftthomasUpsample(c) for _ in range(scale.bit_length() - 1)), conv(c, 3, 9))
        self.add_module(f"block{self.last}", end)

    def forward(self, x: Tensor) -> Tensor:
        first = y = self.block1(x)
        for i in range(2, self.last):
            y = self.get_submodule(f"block{i}")(y)
        return (torch.tanh(self.get_submodule(f"block{self.last}")(first + y)) + 1) / 2

    pictures = forward


class LornatangGenerator(nn.Module):
    """SRGAN-PyTorch by Lornatang: no biases beside BatchNorm, images in 0..1, clamped."""

    def __init__(self, c: int, blocks: int, scale: int, names: str = "conv_block") -> None:
        super().__init__()
        self.names = names
        self.add_module(f"{names}1", nn.Sequential(conv(3, c, 9), nn.PReLU()))

        def half() -> list[nn.Module]:
            return [conv(c, c, 3, bias=False), nn.BatchNorm2d(c)]

        self.trunk = nn.Sequential(*(Wrapped("rcb", *half(), nn.PReLU(), *half(), skip=True) for _ in range(blocks)))
        self.add_module(f"{names}2", nn.Sequential(*half()))
        self.upsampling = nn.Sequential(
            *(
                Wrapped("upsample_block", conv(c, 4 * c, 3), nn.PixelShuffle(2), nn.PReLU())
                for _ in range(scale.bit_length() - 1)
            )
        )
        self.add_module(f"{names}3", conv(c, 3, 9))

    def forward(self, x: Tensor) -> Tensor:
        first, second, third = (self.get_submodule(f"{self.names}{i}") for i in (1, 2, 3))
        head = first(x)
        return third(self.upsampling(head + second(self.trunk(head)))).clamp(0, 1)

    pictures = forward


def lornatang_older(c: int, blocks: int, scale: int) -> LornatangGenerator:
    return LornatangGenerator(c, blocks, scale, "conv")


def randomised(network: nn.Module) -> nn.Module:
    """Trained-looking: no tensor neutral, the output around the middle of its range."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean.uniform_(-0.3, 0.3)
                module.running_var.uniform_(0.3, 2)
                module.weight.uniform_(0.5, 1.5)
                module.bias.uniform_(-0.3, 0.3)
                module.num_batches_tracked.fill_(1234)
            elif isinstance(module, nn.PReLU):
                module.weight.uniform_(0.05, 0.4)
            elif isinstance(module, nn.Conv2d):
                module.weight.normal_(std=module.weight[0].numel() ** -0.5)
                if module.bias is not None:
                    module.bias.uniform_(-0.2, 0.4)
    return network.eval()


NETWORKS: dict[str, tuple[Callable[..., Any], int, str]] = {
    "eriklindernoren": (EriklindernorenGenerator, 2, "eriklindernoren/PyTorch-GAN"),
    "leftthomas": (LeftthomasGenerator, 5, "leftthomas/SRGAN"),
    "leftthomas, other depth": (LeftthomasGenerator, 2, "leftthomas/SRGAN"),
    "Lornatang": (LornatangGenerator, 2, "Lornatang/SRGAN-PyTorch"),
    "Lornatang, older names": (lornatang_older, 3, "Lornatang/SRGAN-PyTorch"),
}


@pytest.fixture(params=NETWORKS)
def foreign(request: pytest.FixtureRequest) -> Any:
    build, blocks, _ = NETWORKS[request.param]
    return randomised(build(4, blocks, 4))


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_converted_generator_computes_what_its_own_code_does(tmp_path: Path, name: str, scale: int) -> None:
    build, blocks, layout = NETWORKS[name]
    network = randomised(build(6, blocks, scale))
    torch.save(network.state_dict(), tmp_path / "theirs.pth")
    converted = convert_file(tmp_path / "theirs.pth", tmp_path / "ours.safetensors")
    config = read_generator(tmp_path / "ours.safetensors").config
    assert (config.scale, config.channels, config.blocks) == (scale, 6, blocks)
    assert converted.scale == scale
    direct, kept = read_model(tmp_path / "theirs.pth"), read_model(tmp_path / "ours.safetensors")
    assert direct.architecture == f"{kept.architecture} ({layout})"
    layers = zip(direct.network.convs, kept.network.convs, strict=True)
    assert all(np.array_equal(a.weight, b.weight) and np.array_equal(a.bias, b.bias) for a, b in layers)

    lr = torch.rand(2, 3, 9, 7)
    with torch.no_grad():
        expected = network.pictures(lr)
        found = load_generator(tmp_path / "ours.safetensors")(lr)
    if "Lornatang" in name:
        assert found.min() < 0 or found.max() > 1  # ours leaves the clamping to whoever writes images
        found = found.clamp(0, 1)
    assert expected.std() > 0.05
    assert (found - expected).abs().max() <= 1e-5

    metadata = read_generator(tmp_path / "ours.safetensors").metadata
    assert metadata.items() >= {"converted_from": "theirs.pth", "layout": layout}.items()


def convert(content: object, tmp_path: Path, name: str = "theirs.pth", **options: object) -> dict[str, Any]:
    torch.save(content, tmp_path / name, **options)
    convert_file(tmp_path / name, tmp_path / "ours.safetensors")
    return read_generator(tmp_path / "ours.safetensors").weights


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"params": state},
        lambda state: {"params_ema": state},
        lambda state: {"epoch": 7, "generator": {"state_dict": state}, "loss": [0.1]},
        lambda state: {"model_state_dict": state, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}},
        lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
        lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
        lambda state: {"state_dict": {f"generator.{name}": tensor for name, tensor in state.items()}},
        lambda state: {name: nn.Parameter(t) for name, t in state.items() if t.is_floating_point()},
        lambda state: {name: t.double() if t.is_floating_point() else t for name, t in state.items()},
        lambda state: dict(reversed(state.items())),
    ],
    ids=[
        "state_dict", "params", "params_ema", "nested twice", "model_state_dict", "DataParallel", "compiled",
        "prefixed and nested", "parameters", "float64", "reversed",
    ],
)  # fmt: skip
def test_weights_are_found_however_they_were_saved(foreign: Any, tmp_path: Path, wrap: Callable[..., Any]) -> None:
    plain = convert(foreign.state_dict(), tmp_path)
    assert same(convert(wrap(foreign.state_dict()), tmp_path), plain)


def test_the_same_tensors_are_read_from_safetensors(foreign: Any, tmp_path: Path) -> None:
    plain = convert(foreign.state_dict(), tmp_path)
    save_file({f"module.{name}": tensor for name, tensor in foreign.state_dict().items()}, tmp_path / "a.safetensors")
    convert_file(tmp_path / "a.safetensors", tmp_path / "ours.safetensors")
    assert same(read_generator(tmp_path / "ours.safetensors").weights, plain)
    (tmp_path / "a.safetensors").write_bytes(b"no")
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        convert_file(tmp_path / "a.safetensors", tmp_path / "ours.safetensors")


def test_files_of_old_pytorch_versions_are_read(foreign: Any, tmp_path: Path) -> None:
    plain = convert(foreign.state_dict(), tmp_path)
    legacy = convert(foreign.state_dict(), tmp_path, "legacy.pt", _use_new_zipfile_serialization=False)
    assert same(legacy, plain)


@pytest.mark.parametrize(
    ("averaged", "other"),
    [("params_ema", "params"), ("params_ema", "state_dict"), ("ema_state_dict", "state_dict")],
)
@pytest.mark.parametrize("averaged_first", [True, False])
def test_averaged_weights_are_preferred(tmp_path: Path, averaged: str, other: str, averaged_first: bool) -> None:
    one, two = (randomised(LornatangGenerator(4, 1, 4)).state_dict() for _ in range(2))
    content = {averaged: one, other: two} if averaged_first else {other: two, averaged: one}
    plain = convert(one, tmp_path)
    assert same(convert(content, tmp_path), plain)
    assert not same(convert(two, tmp_path), plain)


class Trap:
    """Leaves a file behind if it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def refused(path: Path, message: str) -> str:
    target = path.with_name("never.safetensors")
    with pytest.raises(ModelError, match=message) as error:
        convert_file(path, target)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    assert not target.exists()
    return text


@pytest.mark.parametrize("place", ["alone", "among weights", "beside weights", "as a key"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_never_executed(tmp_path: Path, place: str, zipped: bool) -> None:
    mark, path = tmp_path / "executed", tmp_path / "theirs.pth"
    state = LornatangGenerator(4, 1, 4).state_dict()
    trap = Trap(mark)
    content = {
        "alone": trap,
        "among weights": {**state, "trap": trap},
        "beside weights": {"params": state, "x": trap},
        "as a key": {"params": state, trap: 1},
    }
    torch.save(content[place], path, _use_new_zipfile_serialization=zipped)
    if place == "alone":
        refused(path, r"contains no state dict but an object of \w+\.mkdir, which would need that code to run")
    else:
        assert read_model(path).architecture == "SRGAN generator, 1 blocks of 4 channels (Lornatang/SRGAN-PyTorch)"
    assert not mark.exists()
    torch.load(path, weights_only=False)  # the trap is a real one
    assert mark.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_code_in_a_plain_pickle_is_not_executed(tmp_path: Path, protocol: int) -> None:
    mark, path = tmp_path / "executed", tmp_path / "theirs.pth"
    path.write_bytes(pickle.dumps({"conv1.0.weight": Trap(mark)}, protocol=protocol))
    refused(path, "not a readable PyTorch file")
    assert not mark.exists()


@pytest.mark.parametrize("wrap", [lambda module: module, lambda module: {"generator": module, "epoch": 3}])
def test_a_whole_pickled_module_is_refused(tmp_path: Path, wrap: Callable[..., Any]) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(wrap(nn.Sequential(conv(3, 4, 9), nn.PReLU())), path)
    refused(
        path, r"contains no state dict but (an object of torch.*save the state dict alone|a dictionary with generator)"
    )


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_a_torchscript_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pt"
    torch.jit.save(torch.jit.trace(conv(3, 4, 9), torch.zeros(1, 3, 4, 4)), path)
    refused(path, r"a TorchScript archive, which contains code; save only the state dict")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello world, no weights here\n",
        b"<!DOCTYPE html>\n<html>",
        bytes(100),
        b"\x89PNG\r\n\x1a\n",
        b"PK\3\4" * 9,
    ],
    ids=["empty", "text", "html", "zeros", "png", "zip"],
)
def test_files_of_another_kind_are_called_unreadable_not_dangerous(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "theirs.pth"
    path.write_bytes(content)
    text = refused(path, "not a readable PyTorch file")
    assert "weights_only" not in text


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's, about what the damage makes of the file
@pytest.mark.parametrize("zipped", [True, False])
def test_damaged_files_give_our_error_or_weights(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(LornatangGenerator(2, 1, 2).state_dict(), path, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    rng = random.Random(1)
    for i in range(120):
        damaged = bytearray(content)
        if i % 3:
            # Data is most of the file; the structure lies at its ends.
            for _ in range(3):
                damaged[rng.choice([rng.randrange(4000), len(content) - 1 - rng.randrange(4000)])] = rng.randrange(256)
        else:
            del damaged[rng.randrange(len(content)) :]
        path.write_bytes(damaged)
        with suppress(ModelError):
            read_model(path)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    refused(tmp_path / "none.pth", "no such file")
    refused(tmp_path, "no such file")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "a list"),
        (torch.zeros(3), "a tensor"),
        ({}, "a dictionary with nothing"),
        ({"epoch": 3, "best": 0.5}, "a dictionary with epoch, best"),
        ({"state_dict": {"epoch": 3}}, "a dictionary with state_dict"),
        ({"state_dict": {}}, "a dictionary with state_dict"),
        ({"model": {"model": {"model": {"model": {}}}}}, "a dictionary with model"),
    ],
    ids=str,
)
def test_files_without_a_state_dict_are_refused_with_what_they_hold(
    tmp_path: Path, content: object, found: str
) -> None:
    path = tmp_path / "theirs.pth"
    torch.save(content, path)
    refused(path, f"contains no state dict but {found}")


def test_an_unknown_network_is_refused_with_what_was_found_and_what_is_known(tmp_path: Path) -> None:
    path = tmp_path / "odd.pth"
    torch.save({"params": {f"layer{i}.weight": torch.zeros(8, 8, 3, 3) for i in range(9)}}, path)
    text = refused(path, r"\(params\): unknown network: 9 arrays, layer0\.weight 8x8x3x3, layer1\.weight")
    assert "supported: SRGAN, RRDB (ESRGAN), Compact (SRVGGNet), EDSR" in text


def test_a_network_with_a_part_that_is_not_known_is_refused_by_its_name(foreign: Any, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({**foreign.state_dict(), "attention.weight": torch.zeros(2)}, path)
    refused(path, r"looks like .*, but attention\.weight does not belong to that network")


def test_a_network_that_lacks_a_part_is_refused(foreign: Any, tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    names = [name for name, t in foreign.state_dict().items() if t.is_floating_point()]
    for name in random.Random(0).sample(names, 12):
        torch.save({n: t for n, t in foreign.state_dict().items() if n != name}, path)
        refused(path, "lacks|unknown network|not an SRGAN generator|not a complete")


@pytest.mark.filterwarnings("ignore:Validating sparse")
@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(2, dtype=torch.int64),
        torch.zeros(2, dtype=torch.complex64),
        torch.zeros(4, 4).to_sparse(),
        torch.zeros(2, device="meta"),
    ],
    ids=["integers", "complex", "sparse", "meta"],
)
def test_tensors_that_are_no_weights_are_missed_by_name(tmp_path: Path, tensor: Tensor) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({**LornatangGenerator(4, 1, 4).state_dict(), "conv_block3.bias": tensor}, path)
    refused(path, r"not a complete SRGAN generator; it lacks tail\.bias")


def test_weights_that_are_not_finite_are_refused(foreign: Any, tmp_path: Path) -> None:
    state = foreign.state_dict()
    next(iter(state.values())).view(-1)[0] = torch.nan
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(ModelError, match="not finite"):
        convert_file(tmp_path / "theirs.pth", tmp_path / "never.safetensors")
    assert not (tmp_path / "never.safetensors").exists()


def test_a_name_that_is_not_unicode_is_recorded_readably(tmp_path: Path) -> None:
    weights = convert(LornatangGenerator(4, 1, 4).state_dict(), tmp_path, os.fsdecode(b"caf\xe9.pth"))
    file = read_generator(tmp_path / "ours.safetensors")
    assert same(file.weights, weights)
    assert file.metadata["converted_from"].startswith("caf")
