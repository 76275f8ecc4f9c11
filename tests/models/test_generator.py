"""The generator is the paper's network, at any size, from 0..1 to 0..1."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from srgan_fast.architectures.srgan import expected_shapes, network_of
from srgan_fast.errors import ModelError
from srgan_fast.models import ColourMap, Conventions, Generator, GeneratorConfig, generator_config
from srgan_fast.models.generator import icnr_
from srgan_fast.network import receptive_radius

from .conftest import MakeGenerator

ODD_MAPS = Conventions(
    block_eps=0.3,
    upsample_eps=0.02,
    lr_map=ColourMap((2.0, 3.0, 0.5), (-1.0, 0.2, 0.1)),
    hr_map=ColourMap((4.0, 0.5, -2.0), (0.3, -0.4, 1.0)),
)

CONFIGS = {
    "paper": generator_config("paper", channels=4, blocks=2),
    "pytorch-gan": generator_config("pytorch-gan", channels=4, blocks=2),
    "x2": GeneratorConfig(scale=2, channels=5, blocks=1),
    "x8": GeneratorConfig(scale=8, channels=4, blocks=1),
    "no blocks": GeneratorConfig(channels=3, blocks=0),
    "slope per channel": GeneratorConfig(channels=4, blocks=2, prelu="channel"),
    "odd maps": GeneratorConfig(
        scale=2, channels=4, blocks=1, block_bias=True, upsample_bn=True, prelu="channel", conventions=ODD_MAPS
    ),
}


def described(state: dict[str, Tensor], config: GeneratorConfig, lr: Tensor) -> Tensor:
    """The network of Ledig et al. 2017, figure 4, written down from its description."""

    def conv(x: Tensor, name: str, size: int) -> Tensor:
        weight = state[f"{name}.weight"]
        assert weight.shape[2:] == (size, size)
        return F.conv2d(x, weight, state.get(f"{name}.bias"), padding=size // 2)

    def norm(x: Tensor, name: str, eps: float) -> Tensor:
        gamma, beta, mean, var = (state[f"{name}.{p}"][:, None, None] for p in NORM_PARTS)
        return (x - mean) / (var + eps).sqrt() * gamma + beta

    def prelu(x: Tensor, name: str) -> Tensor:
        return torch.where(x > 0, x, x * state[f"{name}.act.weight"][:, None, None])

    def shuffle(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        out = x.new_empty(n, c // 4, 2 * h, 2 * w)
        for k in range(4):
            out[:, :, k // 2 :: 2, k % 2 :: 2] = x[:, k::4]
        return out

    def mapped(x: Tensor, values: ColourMap) -> Tensor:
        return x * x.new_tensor(values.gain)[:, None, None] + x.new_tensor(values.offset)[:, None, None]

    how = config.conventions
    head = x = prelu(conv(mapped(lr, how.lr_map), "head.conv", 9), "head")
    for i in range(config.blocks):
        y = norm(conv(x, f"blocks.{i}.conv1", 3), f"blocks.{i}.bn1", how.block_eps)
        y = conv(prelu(y, f"blocks.{i}"), f"blocks.{i}.conv2", 3)
        x = x + norm(y, f"blocks.{i}.bn2", how.block_eps)
    x = head + norm(conv(x, "fuse.conv", 3), "fuse.bn", how.block_eps)
    for i in range({2: 1, 4: 2, 8: 3}[config.scale]):
        x = conv(x, f"upsample.{i}.conv", 3)
        if config.upsample_bn:
            x = norm(x, f"upsample.{i}.bn", how.upsample_eps)
        x = prelu(shuffle(x), f"upsample.{i}")
    x = conv(x, "tail", 9)
    return mapped(x.tanh() if how.output == "tanh" else x, how.hr_map.inverse())


NORM_PARTS = ("weight", "bias", "running_mean", "running_var")


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_eval_output_is_that_of_the_described_network(config: GeneratorConfig, make_generator: MakeGenerator) -> None:
    generator = make_generator(config).double()
    lr = torch.rand(2, 3, 7, 6, dtype=torch.float64)
    with torch.no_grad():
        assert torch.allclose(generator(lr), described(generator.state_dict(), config, lr), rtol=1e-6, atol=1e-6)


def test_default_has_the_papers_layers() -> None:
    with torch.device("meta"):
        generator = Generator()
    convs = [m for m in generator.modules() if isinstance(m, nn.Conv2d)]
    shapes = [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in convs]
    assert shapes == [(3, 64, 9)] + [(64, 64, 3)] * 33 + [(64, 256, 3)] * 2 + [(64, 3, 9)]
    assert all(m.stride == (1, 1) and m.padding == (m.kernel_size[0] // 2,) * 2 for m in convs)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in generator.modules()) == 33
    assert [m.num_parameters for m in generator.modules() if isinstance(m, nn.PReLU)] == [1] * (1 + 16 + 2)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_state_holds_the_expected_tensors_and_no_constants(config: GeneratorConfig) -> None:
    state = Generator(config).state_dict()
    shapes = {name: tuple(t.shape) for name, t in state.items() if not name.endswith("num_batches_tracked")}
    assert shapes == expected_shapes(config)


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 7), (5, 1), (2, 3), (9, 16)])
def test_output_is_scale_times_any_input_size(scale: int, height: int, width: int) -> None:
    generator = Generator(GeneratorConfig(scale=scale, channels=4, blocks=1)).eval()
    assert generator.scale == scale
    with torch.no_grad():
        out = generator(torch.rand(2, 3, height, width))
    assert out.shape == (2, 3, scale * height, scale * width)
    assert out.isfinite().all()


@pytest.mark.parametrize(
    "shape", [(3, 8, 8), (1, 1, 8, 8), (1, 4, 8, 8), (8, 8, 3), (1, 8, 8, 3), (8, 8), (), (1, 1, 3, 8, 8)], ids=str
)
def test_anything_but_rgb_batches_is_refused_with_its_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match="takes N, 3, H, W") as error:
        Generator(GeneratorConfig(channels=4, blocks=1))(torch.zeros(shape))
    assert str(shape) in str(error.value)


@pytest.mark.parametrize("name", ["paper", "pytorch-gan", "x8"])
@pytest.mark.parametrize("training", [False, True])
def test_fresh_upsampling_is_nearest_neighbour(name: str, training: bool) -> None:
    for block in Generator(CONFIGS[name]).train(training).upsample:
        with torch.no_grad():
            y = block(torch.randn(2, CONFIGS[name].channels, 5, 6))
        assert y.std() > 0.1
        assert torch.equal(y, y[:, :, ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize("factor", [2, 3])
def test_icnr_draws_each_shuffled_channel_by_hes_rule(factor: int) -> None:
    torch.manual_seed(0)
    weight = torch.zeros(64 * factor**2, 32, 3, 3)
    icnr_(weight, factor)
    groups = weight.view(64, factor**2, -1)
    assert torch.equal(groups, groups[:, :1].expand_as(groups))
    assert groups[:, 0].unique(dim=0).shape[0] == 64
    assert weight.std() == pytest.approx((2 / (1 + 0.25**2) / (32 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("preset", ["paper", "pytorch-gan"])
def test_network_sees_its_own_range_and_the_caller_sees_0_to_1(preset: str) -> None:
    generator = Generator(generator_config(preset, channels=4, blocks=1)).eval()
    seen: list[Tensor] = []
    generator.head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    inner = torch.tensor([-0.5, 0.25, 0.75])
    with torch.no_grad():
        generator.tail.weight.zero_()
        generator.tail.bias.copy_(inner)
        lr = torch.rand(1, 3, 4, 4)
        out = generator(lr)
    mean, std = torch.tensor([0.485, 0.456, 0.406])[:, None, None], torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    inner = inner[:, None, None]
    if preset == "paper":
        fed, given = lr, (inner + 1) / 2
    else:
        fed, given = (lr - mean) / std, inner.tanh() * std + mean
    assert torch.allclose(seen[0], fed, atol=1e-6)
    assert torch.allclose(out, given.expand_as(out[0])[None], atol=1e-6)


def test_overshoot_is_not_clamped() -> None:
    generator = Generator(generator_config("paper", channels=4, blocks=1)).eval()
    with torch.no_grad():
        generator.tail.weight.zero_()
        generator.tail.bias.copy_(torch.tensor([3.0, -3.0, 0.0]))
        out = generator(torch.rand(1, 3, 2, 2))
    assert torch.equal(out[0, :, 0, 0], torch.tensor([2.0, -1.0, 0.5]))


@pytest.mark.parametrize(("scale", "blocks"), [(2, 0), (2, 3), (4, 0), (4, 1), (4, 16), (8, 0), (8, 2)])
def test_influence_ends_exactly_at_the_receptive_radius(scale: int, blocks: int) -> None:
    config = GeneratorConfig(scale=scale, channels=1, blocks=blocks)
    generator = Generator(config).double().eval()
    with torch.no_grad():  # every path adds, so that none cancels another
        for name, parameter in generator.named_parameters():
            if parameter.dim() == 4:
                parameter.copy_(torch.full_like(parameter, 1 / parameter[0].numel()))
            elif "bn" not in name and name.endswith("bias"):
                parameter.zero_()
    weights = {n: t.float().numpy() for n, t in generator.state_dict().items() if t.is_floating_point()}
    radius = receptive_radius(network_of(config, weights))
    centre, side = radius + 2, 2 * radius + 5
    lr = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    cell = slice(scale * centre, scale * (centre + 1))
    generator(lr)[0, :, cell, cell].sum().backward()
    influence = lr.grad.abs().amax((0, 1))
    for axis in (0, 1):
        reached = influence.amax(axis).nonzero().flatten().tolist()
        assert reached == list(range(centre - radius, centre + radius + 1))


@pytest.mark.parametrize("name", ["paper", "pytorch-gan", "odd maps"])
def test_every_parameter_is_trained(name: str, make_generator: MakeGenerator) -> None:
    generator = make_generator(CONFIGS[name]).train()
    generator(torch.rand(2, 3, 6, 6)).square().sum().backward()
    silent = [name for name, p in generator.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert silent == []


def test_recomputing_blocks_changes_neither_output_nor_gradients_nor_statistics(make_generator: MakeGenerator) -> None:
    config = replace(CONFIGS["paper"], blocks=3)
    lr = torch.rand(2, 3, 6, 5)
    runs = []
    for recompute in (False, True):
        generator = make_generator(config).train()
        generator.recompute = recompute
        out = generator(lr)
        out.square().sum().backward()
        gradients = {name: p.grad for name, p in generator.named_parameters()}
        runs.append((out, gradients, generator.state_dict()))
    (out, gradients, state), (again_out, again_gradients, again_state) = runs
    assert torch.allclose(out, again_out)
    assert all(torch.allclose(gradients[name], again_gradients[name], rtol=1e-4, atol=1e-5) for name in gradients)
    assert all(torch.allclose(state[name], again_state[name]) for name in state)
