"""Folded convolutions compute what the module computes in eval mode."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from srgan_fast.errors import ModelError
from srgan_fast.models import ColourMap, Conventions, GeneratorConfig, GeneratorFile, generator_config, load_generator
from srgan_fast.models.checkpoint import save_generator
from srgan_fast.models.folding import FoldedConv, FoldedGenerator, fold_generator

from .conftest import MakeGenerator

CONFIGS = {
    "paper": generator_config("paper", channels=6, blocks=2),
    "pytorch-gan": generator_config("pytorch-gan", channels=6, blocks=2),
    "slope per channel": GeneratorConfig(channels=5, blocks=2, prelu="channel"),
    "x2, no blocks": generator_config("pytorch-gan", scale=2, channels=4, blocks=0),
    "x8, every option": GeneratorConfig(
        scale=8,
        channels=4,
        blocks=1,
        block_bias=True,
        upsample_bn=True,
        prelu="channel",
        conventions=Conventions(
            block_eps=0.5,
            upsample_eps=0.05,
            lr_map=ColourMap((2.0, 1.0, 0.5), (0.1, 0.2, -0.3)),
            hr_map=ColourMap((2.0, 0.25, -4.0), (0.3, -0.1, 0.5)),
        ),
    ),
}


def apply(folded: FoldedGenerator, lr: Tensor) -> Tensor:
    """The folded layers, connected as the paper's figure 4 connects them, in the precision of `lr`."""

    def tensor(values: object) -> Tensor:
        return torch.as_tensor(np.asarray(values)).to(lr.dtype)

    def mapped(x: Tensor, values: ColourMap) -> Tensor:
        return x * tensor(values.gain)[:, None, None] + tensor(values.offset)[:, None, None]

    def linear(layer: FoldedConv, x: Tensor) -> Tensor:
        return F.conv2d(x, tensor(layer.weight), tensor(layer.bias), padding=layer.weight.shape[-1] // 2)

    def active(layer: FoldedConv, x: Tensor) -> Tensor:
        return F.prelu(x, tensor(layer.slope))

    head = x = active(folded.head, linear(folded.head, mapped(lr, folded.config.conventions.lr_map)))
    for first, second in folded.blocks:
        x = x + linear(second, active(first, linear(first, x)))
    x = head + linear(folded.fuse, x)
    for layer in folded.upsample:
        x = active(layer, F.pixel_shuffle(linear(layer, x), 2))
    x = linear(folded.tail, x)
    return mapped(x.tanh() if folded.config.conventions.output == "tanh" else x, folded.hr_map)


@pytest.fixture(params=CONFIGS)
def file(request: pytest.FixtureRequest, make_generator: MakeGenerator, tmp_path: Path) -> GeneratorFile:
    return save_generator(make_generator(CONFIGS[request.param]), tmp_path / "model.safetensors")


def test_folded_layers_compute_the_modules_output(file: GeneratorFile) -> None:
    lr = torch.rand(2, 3, 6, 9, dtype=torch.float64)
    with torch.no_grad():
        expected = load_generator(file).double()(lr)
        found = apply(fold_generator(file), lr)
    assert expected.std() > 1e-3
    assert torch.allclose(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_folded_layers_are_float32_with_slopes_only_where_a_prelu_follows(file: GeneratorFile) -> None:
    folded, config = fold_generator(file), file.config
    slopes = config.channels if config.prelu == "channel" else 1
    assert len(folded.blocks) == config.blocks
    assert len(folded.upsample) == config.stages
    with_prelu = [folded.head, *(first for first, _ in folded.blocks), *folded.upsample]
    without = [folded.fuse, folded.tail, *(second for _, second in folded.blocks)]
    assert all(layer.slope is not None and layer.slope.shape == (slopes,) for layer in with_prelu)
    assert all(layer.slope is None for layer in without)
    for layer in with_prelu + without:
        assert layer.bias.shape == layer.weight.shape[:1]
        assert {a.dtype for a in (layer.weight, layer.bias, layer.slope) if a is not None} == {np.dtype(np.float32)}


def test_a_linear_output_needs_no_map_and_a_tanh_keeps_it(file: GeneratorFile) -> None:
    conventions = file.config.conventions
    left = ColourMap() if conventions.output == "linear" else conventions.hr_map.inverse()
    assert fold_generator(file).hr_map == left


def test_folding_leaves_the_files_weights_alone(file: GeneratorFile) -> None:
    before = {name: array.copy() for name, array in file.weights.items()}
    fold_generator(file)
    assert all(np.array_equal(before[name], array) for name, array in file.weights.items())


def test_epsilons_count_in_channels_of_no_variance(make_generator: MakeGenerator, tmp_path: Path) -> None:
    generator = make_generator(CONFIGS["paper"])
    with torch.no_grad():
        generator.blocks[0].bn1.running_var.zero_()
    file = save_generator(generator, tmp_path / "model.safetensors")
    lr = torch.rand(1, 3, 5, 5, dtype=torch.float64)
    with torch.no_grad():
        expected = generator.double()(lr)
        found = apply(fold_generator(file), lr)
    assert torch.allclose(found, expected, rtol=0, atol=2e-6 * float(expected.abs().max()))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("variance", [0.0, 1e-30])
def test_what_leaves_the_range_of_float32_is_refused(make_generator: MakeGenerator, variance: float) -> None:
    config = GeneratorConfig(channels=4, blocks=1, conventions=Conventions(block_eps=0.0))
    weights = {key: tensor.numpy().copy() for key, tensor in make_generator(config).state_dict().items()}
    weights["blocks.0.bn2.weight"].fill(1e30)
    weights["blocks.0.bn2.running_var"].fill(variance)
    with pytest.raises(ModelError, match=r"^odd: its weights leave float32's range when BatchNorm is folded"):
        fold_generator(GeneratorFile(config, weights, {}, "odd"))
