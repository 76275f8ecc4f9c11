"""The paper's discriminator and the patch discriminator."""

import pytest
import torch
from torch import nn

from srgan_fast.errors import ModelError
from srgan_fast.models import PatchDiscriminator, SRGANDiscriminator, build_discriminator

# Ledig et al. 2017, figure 4: in, out, stride.
TRUNK = [
    (3, 64, 1),
    (64, 64, 2),
    (64, 128, 1),
    (128, 128, 2),
    (128, 256, 1),
    (256, 256, 2),
    (256, 512, 1),
    (512, 512, 2),
]


@pytest.fixture(scope="module")
def patch() -> PatchDiscriminator:
    torch.manual_seed(0)
    return PatchDiscriminator().eval()


@pytest.fixture(scope="module")
def paper() -> SRGANDiscriminator:
    torch.manual_seed(0)
    return SRGANDiscriminator(32).eval()


def layers(module: nn.Module) -> list[nn.Module]:
    return [m for m in module.modules() if not list(m.children())]


@pytest.mark.parametrize("kind", ["paper", "patch"])
def test_trunk_is_the_papers_eight_convolutions(kind: str) -> None:
    with torch.device("meta"):
        found = layers(build_discriminator(kind).trunk)
    expected: list[type[nn.Module]] = [nn.Conv2d, nn.LeakyReLU] + [nn.Conv2d, nn.BatchNorm2d, nn.LeakyReLU] * 7
    assert [type(m) for m in found] == expected
    convs = [m for m in found if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.stride[0]) for m in convs] == TRUNK
    assert all(m.kernel_size == (3, 3) and m.padding == (1, 1) for m in convs)
    assert all(m.eps == 1e-5 for m in found if isinstance(m, nn.BatchNorm2d))
    assert all(m.negative_slope == 0.2 for m in found if isinstance(m, nn.LeakyReLU))


@pytest.mark.parametrize(("size", "cells"), [(16, 1), (96, 36), (128, 64)])
def test_paper_ends_in_dense_1024_and_dense_1(size: int, cells: int) -> None:
    with torch.device("meta"):
        end = layers(SRGANDiscriminator(size))[-3:]
    assert [type(m) for m in end] == [nn.Linear, nn.LeakyReLU, nn.Linear]
    assert (end[0].in_features, end[0].out_features) == (512 * cells, 1024)
    assert end[1].negative_slope == 0.2
    assert (end[2].in_features, end[2].out_features) == (1024, 1)


def test_paper_gives_one_unbounded_logit_for_each_image(paper: SRGANDiscriminator) -> None:
    image = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        logits = paper(image)
        assert logits.shape == (3, 1)
        assert torch.allclose(paper(image[1:2]), logits[1:2], atol=1e-5)
        paper_bias = paper.dense2.bias.clone()
        paper.dense2.bias.add_(100)
        assert torch.allclose(paper(image), logits + 100, atol=1e-4)
        paper.dense2.bias.copy_(paper_bias)


@pytest.mark.parametrize("size", [-16, 0, 8, 15, 17, 24, 100])
def test_paper_refuses_image_sizes_that_are_no_multiple_of_16(size: int) -> None:
    with pytest.raises(ModelError, match=f"image_size is {size}; it must be a multiple of 16"):
        SRGANDiscriminator(size)


@pytest.mark.parametrize("shape", [(1, 3, 16, 16), (1, 3, 32, 48), (1, 3, 33, 32)], ids=str)
def test_paper_refuses_other_sizes_than_its_own(paper: SRGANDiscriminator, shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError, match=f"takes 32x32 images, got {shape[3]}x{shape[2]}"):
        paper(torch.zeros(shape))


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 1, 32, 32), (1, 4, 32, 32), (1, 32, 32, 3)], ids=str)
@pytest.mark.parametrize("kind", ["paper", "patch"])
def test_anything_but_rgb_batches_is_refused(kind: str, shape: tuple[int, ...], request: pytest.FixtureRequest) -> None:
    with pytest.raises(ModelError, match="takes N, 3, H, W images"):
        request.getfixturevalue(kind)(torch.zeros(shape))


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 16), (16, 17), (32, 48), (33, 31), (7, 50)])
def test_patch_gives_one_logit_for_each_begun_16x16_patch(patch: PatchDiscriminator, height: int, width: int) -> None:
    with torch.no_grad():
        logits = patch(torch.rand(2, 3, height, width))
    assert patch.output_shape(height, width) == (1, (height + 15) // 16, (width + 15) // 16)
    assert logits.shape == (2, *patch.output_shape(height, width))


def test_patch_ends_in_one_convolution_to_one_channel(patch: PatchDiscriminator) -> None:
    head = layers(patch)[-1]
    assert isinstance(head, nn.Conv2d)
    assert (head.in_channels, head.out_channels, head.kernel_size, head.padding) == (512, 1, (3, 3), (1, 1))


@pytest.mark.parametrize(("kind", "built"), [("paper", SRGANDiscriminator), ("patch", PatchDiscriminator)])
def test_presets_names_build_their_discriminators(kind: str, built: type[nn.Module]) -> None:
    with torch.device("meta"):
        discriminator = build_discriminator(kind, image_size=48)
    assert isinstance(discriminator, built)
    assert getattr(discriminator, "image_size", 48) == 48


@pytest.mark.parametrize("kind", ["paper", "patch"])
def test_gradients_reach_the_image_and_every_parameter(kind: str, request: pytest.FixtureRequest) -> None:
    discriminator = request.getfixturevalue(kind)
    discriminator.zero_grad()
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    discriminator(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters())
