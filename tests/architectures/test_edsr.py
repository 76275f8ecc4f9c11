"""EDSR and MSRResNet against the networks written from their descriptions (spandrel has neither)."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from srgan_fast.architectures import recognise
from srgan_fast.errors import ModelError
from srgan_fast.network import scale_of
from srgan_fast.network.interpreter import run

MEAN = torch.tensor((0.4488, 0.4371, 0.4040))


def conv(c_in: int, c_out: int) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, 3, padding=1)


class Block(nn.Module):
    def __init__(self, c: int, damping: float) -> None:
        super().__init__()
        self.conv1, self.conv2, self.damping = conv(c, c), conv(c, c), damping

    def forward(self, x: Tensor) -> Tensor:
        return x + self.damping * self.conv2(F.relu(self.conv1(x)))


def upsampler(c: int, scale: int) -> nn.Sequential:
    factors = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
    return nn.Sequential(*(m for r in factors for m in (conv(c, c * r * r), nn.PixelShuffle(r))))


class BasicEDSR(nn.Module):
    """BasicSR: images less their mean, times 255."""

    def __init__(self, c: int, blocks: int, scale: int, damping: float = 1.0) -> None:
        super().__init__()
        self.conv_first = conv(3, c)
        self.body = nn.Sequential(*(Block(c, damping) for _ in range(blocks)))
        self.conv_after_body = conv(c, c)
        self.upsample = upsampler(c, scale)
        self.conv_last = conv(c, 3)

    def forward(self, x: Tensor) -> Tensor:
        mean = MEAN.to(x).view(1, 3, 1, 1)
        x = self.conv_first((x - mean) * 255)
        x = self.conv_last(self.upsample(x + self.conv_after_body(self.body(x))))
        return x / 255 + mean


class OwnBlock(nn.Module):
    def __init__(self, c: int, damping: float) -> None:
        super().__init__()
        self.body, self.damping = nn.Sequential(conv(c, c), nn.ReLU(), conv(c, c)), damping

    def forward(self, x: Tensor) -> Tensor:
        return x + self.damping * self.body(x)


class MeanShift(nn.Conv2d):
    """A 1x1 convolution that only adds a colour."""

    def __init__(self, sign: int, white: float) -> None:
        super().__init__(3, 3, 1)
        self.weight.data = torch.eye(3).view(3, 3, 1, 1)
        self.bias.data = sign * white * MEAN
        self.requires_grad_(False)


class OwnEDSR(nn.Module):
    """EDSR-PyTorch, which works on values of 0..255 or of 0..1."""

    def __init__(self, c: int, blocks: int, scale: int, damping: float = 1.0, white: float = 255.0) -> None:
        super().__init__()
        self.white = white
        self.sub_mean, self.add_mean = MeanShift(-1, white), MeanShift(1, white)
        self.head = nn.Sequential(conv(3, c))
        self.body = nn.Sequential(*(OwnBlock(c, damping) for _ in range(blocks)), conv(c, c))
        self.tail = nn.Sequential(upsampler(c, scale), conv(c, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.head(self.sub_mean(x * self.white))
        return self.add_mean(self.tail(x + self.body(x))) / self.white


class MSRResNet(nn.Module):
    """BasicSR: no long skip but a bilinear one around everything."""

    def __init__(self, c: int, blocks: int, scale: int) -> None:
        super().__init__()
        self.scale, self.factors = scale, {2: [2], 3: [3], 4: [2, 2]}[scale]
        self.conv_first = conv(3, c)
        self.body = nn.Sequential(*(Block(c, 1.0) for _ in range(blocks)))
        for i, r in enumerate(self.factors):
            self.add_module(f"upconv{i + 1}", conv(c, c * r * r))
        self.conv_hr, self.conv_last = conv(c, c), conv(c, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(F.leaky_relu(self.conv_first(x), 0.1))
        for i, r in enumerate(self.factors):
            y = F.leaky_relu(F.pixel_shuffle(self.get_submodule(f"upconv{i + 1}")(y), r), 0.1)
        y = self.conv_last(F.leaky_relu(self.conv_hr(y), 0.1))
        return y + F.interpolate(x, scale_factor=self.scale, mode="bilinear", align_corners=False)


def assert_agrees(module: nn.Module, network: Any, size: tuple[int, int]) -> None:
    lr = np.random.default_rng(0).random((3, *size))
    with torch.inference_mode():
        expected = module.double()(torch.from_numpy(lr[None]))[0].numpy()
    got = run(network, lr)
    assert got.shape == expected.shape
    np.testing.assert_allclose(got, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("kind", [BasicEDSR, OwnEDSR, MSRResNet])
@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (5, 8)])
def test_agrees_with_its_description(
    kind: Any, scale: int, size: tuple[int, int], randomised: Any, state_of: Any
) -> None:
    module = randomised(kind(8, 2, scale))
    found = recognise(state_of(module))
    name = "MSRResNet" if kind is MSRResNet else "EDSR"
    assert found.description == f"{name}, 2 blocks of 8 channels"
    assert scale_of(found.network) == scale
    assert_agrees(module, found.network, size)


@pytest.mark.parametrize("kind", [BasicEDSR, OwnEDSR])
def test_edsr_of_256_channels_damps_its_residuals(kind: Any, randomised: Any, state_of: Any) -> None:
    module = randomised(kind(256, 1, 2, 0.1))
    found = recognise(state_of(module))
    assert found.description == "EDSR, 1 blocks of 256 channels, residuals times 0.1"
    assert_agrees(module, found.network, (4, 5))


def test_a_recorded_damping_is_taken(randomised: Any, state_of: Any) -> None:
    module = randomised(BasicEDSR(8, 2, 2, 0.3))
    assert_agrees(module, recognise(state_of(module), {"res_scale": "0.3"}).network, (4, 5))
    with pytest.raises(ModelError, match=r"res_scale in its metadata is 'much', not a number"):
        recognise(state_of(module), {"res_scale": "much"})


def test_edsr_trained_on_values_of_0_to_1_is_told_by_its_mean(randomised: Any, state_of: Any) -> None:
    module = randomised(OwnEDSR(8, 1, 2, white=1.0))
    assert_agrees(module, recognise(state_of(module)).network, (4, 5))


def test_older_names_of_msrresnet_are_known(randomised: Any, state_of: Any) -> None:
    module = randomised(MSRResNet(8, 2, 4))
    old = {
        name.replace("body.", "recon_trunk.").replace("conv_hr", "HRconv"): array
        for name, array in state_of(module).items()
    }
    assert_agrees(module, recognise(old).network, (4, 5))


def test_a_mean_that_mixes_colours_is_refused(randomised: Any, state_of: Any) -> None:
    state = state_of(randomised(OwnEDSR(8, 1, 2)))
    state["sub_mean.weight"][0, 1] = 0.5
    with pytest.raises(ModelError, match=r"looks like EDSR, but sub_mean mixes colours"):
        recognise(state)
