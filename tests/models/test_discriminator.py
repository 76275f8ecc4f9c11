"""The paper's discriminator and the patch discriminator."""

import pytest
import torch
from torch import nn

from srgan_fast.errors import ModelError
from srgan_fast.models import PatchDiscriminator, SRGANDiscriminator, UNetDiscriminator, build_discriminator
from srgan_fast.ops.spectral import SpectralConv2d

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


@pytest.fixture(scope="module")
def unet() -> UNetDiscriminator:
    torch.manual_seed(0)
    return UNetDiscriminator().eval()


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
@pytest.mark.parametrize("kind", ["paper", "patch", "unet"])
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


@pytest.mark.parametrize(
    ("kind", "built"),
    [
        ("paper", SRGANDiscriminator),
        ("patch", PatchDiscriminator),
        ("patch-sn", PatchDiscriminator),
        ("unet-sn", UNetDiscriminator),
    ],
)
def test_presets_names_build_their_discriminators(kind: str, built: type[nn.Module]) -> None:
    with torch.device("meta"):
        discriminator = build_discriminator(kind, image_size=48)
    assert isinstance(discriminator, built)
    assert getattr(discriminator, "image_size", 48) == 48


def test_spectral_patches_have_the_same_trunk_with_spectral_norm_for_batchnorm() -> None:
    found = layers(build_discriminator("patch-sn").trunk)
    assert [type(m) for m in found] == [nn.Conv2d, nn.LeakyReLU] + [SpectralConv2d, nn.LeakyReLU] * 7
    convs = found[::2]
    assert [(m.in_channels, m.out_channels, m.stride[0]) for m in convs] == TRUNK
    assert all(m.kernel_size == (3, 3) and m.padding == (1, 1) and m.bias is not None for m in convs)


def test_unet_is_real_esrgans(unet: UNetDiscriminator) -> None:
    # Wang et al. 2021, figure 6, and the layers of the published weights: in, out, side, stride, spectral norm, bias.
    expected = [
        (3, 64, 3, 1, False, True),
        (64, 128, 4, 2, True, False),
        (128, 256, 4, 2, True, False),
        (256, 512, 4, 2, True, False),
        (512, 256, 3, 1, True, False),
        (256, 128, 3, 1, True, False),
        (128, 64, 3, 1, True, False),
        (64, 64, 3, 1, True, False),
        (64, 64, 3, 1, True, False),
        (64, 1, 3, 1, False, True),
    ]
    convs = [m for m in unet.modules() if isinstance(m, nn.Conv2d | SpectralConv2d)]
    described = [
        (
            m.in_channels,
            m.out_channels,
            m.kernel_size[0],
            m.stride[0],
            isinstance(m, SpectralConv2d),
            m.bias is not None,
        )
        for m in convs
    ]
    assert described == expected
    assert not any(isinstance(m, nn.BatchNorm2d) for m in unet.modules())
    assert sum(p.numel() for p in unet.parameters()) == 4_376_897


def test_unet_computes_its_formula(unet: UNetDiscriminator) -> None:
    def act(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.leaky_relu(x, 0.2)

    def doubled(x: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    image = torch.rand(2, 3, 16, 24)
    with torch.no_grad():
        x0 = act(unet.first.conv(image))
        x1 = act(unet.down1.conv(x0))
        x2 = act(unet.down2.conv(x1))
        x3 = act(unet.down3.conv(x2))
        x4 = act(unet.up1.conv(doubled(x3))) + x2
        x5 = act(unet.up2.conv(doubled(x4))) + x1
        x6 = act(unet.up3.conv(doubled(x5))) + x0
        expected = unet.head(act(unet.last2.conv(act(unet.last1.conv(x6)))))
        logits = unet(image)
    assert logits.shape == (2, 1, 16, 24)
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize(("height", "width"), [(4, 8), (16, 12), (33, 32)])
def test_unet_refuses_sides_that_are_no_multiple_of_8(unet: UNetDiscriminator, height: int, width: int) -> None:
    with pytest.raises(ModelError, match=f"sides are multiples of 8, got {width}x{height}"):
        unet(torch.zeros(1, 3, height, width))


@pytest.mark.parametrize("kind", ["paper", "patch", "unet"])
def test_gradients_reach_the_image_and_every_parameter(kind: str, request: pytest.FixtureRequest) -> None:
    discriminator = request.getfixturevalue(kind)
    discriminator.zero_grad()
    image = torch.rand(2, 3, 32, 32, requires_grad=True)
    discriminator(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert all(p.grad is not None and p.grad.isfinite().all() for p in discriminator.parameters())
