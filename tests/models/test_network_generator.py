"""Generators that train by their list are the networks that other people's modules and our readers take them for."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from spandrel.architectures.Compact import Compact
from spandrel.architectures.ESRGAN import ESRGAN, ESRGANArch
from torch import Tensor, nn

from srgan_fast.architectures import TRAINED_BY_LIST, recognise
from srgan_fast.architectures.compact import CompactSettings
from srgan_fast.errors import ModelError
from srgan_fast.models import Generator, generator_config, read_model, save_generator
from srgan_fast.models.network_generator import (
    NetworkGenerator,
    fresh_generator,
    load_network_generator,
    save_network_generator,
)
from srgan_fast.models.safetensors_file import write_safetensors
from srgan_fast.network.interpreter import run
from srgan_fast.ops import use_kernels

SIZES: dict[str, dict[str, Any]] = {
    "compact": {"channels": 8, "convolutions": 2},
    "rrdb": {"channels": 8, "blocks": 2, "growth": 4},
    "edsr": {"channels": 8, "blocks": 2},
    "msrresnet": {"channels": 8, "blocks": 2},
}
SCALED = [(key, scale) for key, a in TRAINED_BY_LIST.items() if a.settings for scale in a.settings.SCALES]
KERNELS = ["reference", "fused"]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def made(key: str, **sizes: Any) -> NetworkGenerator:
    """A small one in which every tensor matters, in training mode."""
    settings = TRAINED_BY_LIST[key].settings
    assert settings is not None
    generator = fresh_generator(key, settings(**{**SIZES[key], **sizes}))
    torch.manual_seed(4)
    with torch.no_grad():
        for part in generator.modules():
            if isinstance(part, nn.Conv2d):
                part.weight.normal_(std=part.weight[0].numel() ** -0.5)
                assert part.bias is not None
                part.bias.normal_(std=0.1)
            elif isinstance(part, nn.PReLU):
                part.weight.uniform_(0.05, 0.4)
    return generator.train()


def state_of(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().float().numpy() for name, tensor in module.state_dict().items()}


def relative(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def lr_of(*size: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((2, 3, *size)))


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize(("key", "scale"), SCALED)
def test_output_is_that_of_the_described_network_at_any_size(key: str, scale: int, kernels: str) -> None:
    generator = made(key, scale=scale)
    network = recognise(state_of(generator), generator.facts).network
    use_kernels(generator.double(), kernels)
    for size in ((7, 10), (1, 1), (4, 8)):
        expected = run(network, lr_of(*size).numpy())
        with torch.no_grad():
            got = generator(lr_of(*size)).numpy()
        assert got.shape == expected.shape
        np.testing.assert_allclose(got, expected, atol=1e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
@pytest.mark.parametrize("activation", ["prelu", "relu", "leakyrelu"])
def test_compact_is_spandrels_module_of_the_same_weights(scale: int, activation: str) -> None:
    generator = made("compact", scale=scale, activation=activation).double()
    theirs = Compact(num_feat=8, num_conv=2, upscale=scale, act_type=activation).double()
    theirs.load_state_dict(generator.state_dict())
    use_kernels(generator, "fused")
    ours, expected = generator(lr_of(6, 5)), theirs(lr_of(6, 5))
    torch.testing.assert_close(ours, expected)
    for y in (ours, expected):
        y.square().sum().backward()
    for (name, a), b in zip(generator.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_rrdb_is_recognised_by_spandrel_and_computes_the_same(scale: int) -> None:
    generator = made("rrdb", scale=scale, growth=32).double()  # it knows no other growth
    found = ESRGANArch().load({name: tensor.clone() for name, tensor in generator.state_dict().items()})
    assert found.scale == scale
    theirs = found.model.double().requires_grad_()
    use_kernels(generator, "fused")
    ours, expected = generator(lr_of(8, 4)), theirs(lr_of(8, 4))
    torch.testing.assert_close(ours, expected, rtol=1e-6, atol=1e-6)  # our slope of 0.2 is a float32
    for y in (ours, expected):
        y.square().sum().backward()
    # Its names are those of 2018, its modules in the order of ours.
    for (name, a), b in zip(generator.named_parameters(), theirs.parameters(), strict=True):
        assert a.grad is not None
        assert b.grad is not None
        assert relative(a.grad, b.grad) < 1e-6, name


def gradients(generator: NetworkGenerator, lr: Tensor, kernels: str, recompute: bool = False) -> dict[str, Tensor]:
    use_kernels(generator, kernels)
    generator.recompute = recompute
    generator.zero_grad()
    y = generator(lr)
    weights = torch.from_numpy(np.random.default_rng(1).random(y.shape)).to(y.dtype)
    (y * weights).sum().backward()
    return {name: p.grad for name, p in generator.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(("key", "scale"), SCALED)
def test_gradients_of_fused_kernels_in_float64_are_those_of_plain_torch(key: str, scale: int, recompute: bool) -> None:
    generator = made(key, scale=scale).double()
    expected = gradients(generator, lr_of(6, 5), "reference")
    found = gradients(generator, lr_of(6, 5), "fused", recompute)
    assert found.keys() == expected.keys() == dict(generator.named_parameters()).keys()
    for name, gradient in expected.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(found[name], gradient, rtol=1e-9, atol=1e-9 * float(gradient.norm()), msg=name)


@pytest.mark.parametrize("key", SIZES)
def test_gradients_of_fused_kernels_in_float32_are_those_of_float64(key: str) -> None:
    generator = made(key, channels=16)
    found = gradients(generator, lr_of(9, 12).float(), "fused")
    expected = gradients(generator.double(), lr_of(9, 12), "reference")
    assert max(relative(found[name], gradient) for name, gradient in expected.items()) < 1e-3


@pytest.mark.parametrize("key", SIZES)
def test_in_bfloat16_fused_kernels_are_as_near_to_float64_as_plain_torch(key: str) -> None:
    generator, errors = made(key, channels=16), {}
    with torch.no_grad():
        exact = made(key, channels=16).double()(lr_of(9, 12))
        for kernels in KERNELS:
            use_kernels(generator, kernels)
            with torch.autocast("cpu", torch.bfloat16):
                errors[kernels] = relative(generator(lr_of(9, 12).float()), exact)
    assert errors["fused"] < 1.5 * errors["reference"] + 1e-3
    assert errors["fused"] < 0.05


@pytest.mark.parametrize("key", ["rrdb", "edsr", "msrresnet"])
def test_recomputed_blocks_keep_fewer_activations_for_the_same_gradients(key: str) -> None:
    generator, kept = made(key, blocks=12, scale=2), {}
    for recompute in (False, True):
        sizes: list[int] = []

        def pack(tensor: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        generator.recompute = recompute
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            generator(lr_of(16, 16).float())
        kept[recompute] = sum(sizes)
    assert generator.blocks == 12
    assert kept[True] < 0.75 * kept[False]
    plain, again = (gradients(generator, lr_of(6, 5).float(), "reference", recompute) for recompute in (False, True))
    assert all(torch.equal(again[name], gradient) for name, gradient in plain.items())


def test_gradients_reach_the_first_layer_of_a_long_chain() -> None:
    generator = fresh_generator("compact", CompactSettings(channels=32, convolutions=32))
    lr = lr_of(12, 12).float()
    (generator(lr) - torch.rand(2, 3, 48, 48)).abs().mean().backward()
    first, last = (generator.get_submodule(name).weight.grad for name in ("body.0", "body.64"))
    assert isinstance(first, Tensor)
    assert isinstance(last, Tensor)
    assert float(first.norm() / last.norm()) > 0.01  # 7e-13 with PyTorch's default initialisation


def test_new_convolutions_start_by_hes_rule_a_tenth_of_it_or_as_pytorch() -> None:
    def std(generator: NetworkGenerator, name: str) -> float:
        """Of a convolution's weights, relative to He's rule."""
        weight = generator.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        return float(weight.detach().std() / (2 / weight[0].numel()) ** 0.5)

    def fresh(key: str, **sizes: Any) -> NetworkGenerator:
        settings = TRAINED_BY_LIST[key].settings
        assert settings is not None
        return fresh_generator(key, settings(channels=64, **sizes))

    torchs = 6**-0.5  # uniform within 1 / sqrt(fan in)
    rrdb, compact = fresh("rrdb", blocks=1), fresh("compact", convolutions=1)
    msr, edsr = fresh("msrresnet", blocks=1), fresh("edsr", blocks=1)
    for generator, name, expected in [
        (rrdb, "body.0.rdb2.conv5", 0.1), (rrdb, "conv_first", torchs), (rrdb, "conv_up1", torchs),
        (msr, "body.0.conv2", 0.1), (msr, "upconv2", 0.1), (msr, "conv_hr", 0.1),
        (edsr, "body.0.conv1", torchs), (edsr, "upsample.2", torchs), (compact, "body.2", 1.0),
        (compact, "body.4", 0.1),
    ]:  # fmt: skip
        assert std(generator, name) == pytest.approx(expected, rel=0.05), name
        bias = generator.get_submodule(name).bias
        assert isinstance(bias, Tensor)
        assert bool(bias.any()) == (expected == torchs), name
    assert (generator_slopes := dict(compact.named_parameters())["body.1.weight"]).shape == (64,)
    assert (generator_slopes == 0.25).all()


@pytest.mark.parametrize("key", SIZES)
def test_a_saved_generator_is_read_as_the_network_that_it_is(key: str, tmp_path: Path) -> None:
    sizes = {"compact": {"activation": "leakyrelu"}, "edsr": {"res_scale": 0.3}}.get(key, {})
    generator, path = made(key, **sizes).eval(), tmp_path / "model.safetensors"
    save_network_generator(generator, path, {"licence": "CC0"})
    file = read_model(path)
    assert file.architecture == file.metadata["architecture"] == generator.description
    assert (file.scale, file.metadata["licence"]) == (4, "CC0")
    with torch.no_grad():
        expected = generator.double()(lr_of(5, 6))[0].numpy()
    np.testing.assert_allclose(run(file.network, lr_of(5, 6)[0].numpy()), expected, atol=1e-5)
    again = load_network_generator(path)
    assert again.computes_like(generator)
    assert not again.training
    assert all(torch.equal(again.state_dict()[name].double(), t) for name, t in generator.state_dict().items())
    assert again.computes_like(fresh_generator(key, TRAINED_BY_LIST[key].settings(**{**SIZES[key], **sizes})))


@pytest.mark.parametrize("how", [{"scale": 4}, {"scale": 4, "in_nc": 12, "shuffle_factor": 2}, {"plus": True}], ids=str)
def test_esrgans_of_2018_are_trained_under_todays_names(how: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(6)
    theirs = ESRGAN(num_filters=8, num_blocks=1, **how).eval()
    torch.save({"params_ema": theirs.state_dict()}, tmp_path / "old.pth")
    generator = load_network_generator(tmp_path / "old.pth")
    assert "body.0.rdb1.conv1.weight" in generator.state_dict()
    for kernels in KERNELS:
        use_kernels(generator, kernels)
        torch.testing.assert_close(generator(lr_of(6, 4).float()), theirs(lr_of(6, 4).float()), rtol=1e-4, atol=1e-5)
    save_network_generator(generator, tmp_path / "new.safetensors")
    old, new = (read_model(tmp_path / name).network.convs for name in ("old.pth", "new.safetensors"))
    assert all(np.array_equal(a.weight, b.weight) for a, b in zip(old, new, strict=True))
    expected = gradients(generator.double(), lr_of(4, 4), "reference")
    found = gradients(generator, lr_of(4, 4), "fused")
    assert all(torch.allclose(found[name], gradient, rtol=1e-8, atol=1e-12) for name, gradient in expected.items())


def test_colour_maps_in_a_file_are_kept_and_not_trained(tmp_path: Path) -> None:
    state = state_of(made("edsr"))
    for name, sign in (("sub_mean", -1), ("add_mean", 1)):  # of EDSR-PyTorch on values of 0..1
        state |= {f"{name}.weight": np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)}
        state |= {f"{name}.bias": np.array([0.4, 0.5, 0.6], np.float32) * sign}
    write_safetensors(tmp_path / "own.safetensors", state, {"res_scale": "0.5"})
    generator = load_network_generator(tmp_path / "own.safetensors")
    assert not any("mean" in name for name, _ in generator.named_parameters())
    assert not generator.computes_like(made("edsr", res_scale=0.5))
    save_network_generator(generator, tmp_path / "again.safetensors")
    lr = lr_of(4, 5)[0].numpy()
    own, again = (run(read_model(tmp_path / f"{name}.safetensors").network, lr) for name in ("own", "again"))
    np.testing.assert_array_equal(own, again)


def test_what_cannot_be_trained_by_its_list_is_refused(tmp_path: Path) -> None:
    ours = tmp_path / "ours.safetensors"
    save_generator(Generator(generator_config("paper", channels=4, blocks=1)), ours)
    with pytest.raises(ModelError, match=r"ours\.safetensors: is an SRGAN generator of ours already"):
        load_network_generator(ours)
    with pytest.raises(ModelError, match="neither a file nor a shipped model"):
        load_network_generator("no-such-model")


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 8, 8, 3)], ids=str)
def test_anything_but_rgb_batches_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="takes N, 3, H, W") as error:
        made("compact")(torch.zeros(shape))
    assert str(shape) in str(error.value)


def test_weights_that_are_not_finite_are_not_written(tmp_path: Path) -> None:
    generator = made("compact")
    with torch.no_grad():
        dict(generator.named_parameters())["body.2.weight"][0, 0, 0, 0] = float("nan")
    with pytest.raises(ModelError, match=r"body\.2\.weight holds values that are not finite"):
        save_network_generator(generator, tmp_path / "model.safetensors")
    assert not (tmp_path / "model.safetensors").exists()
