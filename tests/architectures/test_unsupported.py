"""Networks that do not run here are refused by their names."""

import importlib
from typing import Any

import numpy as np
import pytest
import torchvision
from torch import nn
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils.parametrizations import spectral_norm

from srgan_fast.architectures import recognise
from srgan_fast.errors import ModelError
from srgan_fast.models import PatchDiscriminator, SRGANDiscriminator

SPANDRELS = {
    "SwinIR": {"window_size": 8}, "Swin2SR": {"window_size": 8}, "SPAN": {"num_in_ch": 3, "num_out_ch": 3},
    "SAFMN": {"dim": 16}, "HAT": {}, "DAT": {}, "OmniSR": {}, "RGT": {}, "DRCT": {}, "ATD": {}, "PLKSR": {},
    "RCAN": {}, "DITN": {}, "CRAFT": {}, "SwiftSRGAN": {}, "NAFNet": {}, "SeemoRe": {}, "MoSR": {}, "SCUNet": {},
    "DCTLSA": {}, "GRL": {}, "FDAT": {},
}  # fmt: skip


@pytest.mark.parametrize("name", SPANDRELS)
def test_networks_with_attention_or_gates_are_refused_by_name(name: str, state_of: Any) -> None:
    module = getattr(importlib.import_module(f"spandrel.architectures.{name}"), name)
    with pytest.raises(ModelError, match=rf"^this is {name}; .*; supported: SRGAN, RRDB \(ESRGAN\), Compact"):
        recognise(state_of(module(**SPANDRELS[name])))


class UNetDiscriminator(nn.Module):
    """Real-ESRGAN's has spectral norms in the older way, which keeps the weights under another name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(3, 4, 3)
        self.conv1 = old_spectral_norm(nn.Conv2d(4, 4, 3))


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (UNetDiscriminator(), "a U-Net discriminator"),
        (SRGANDiscriminator(32), "a discriminator"),
        (PatchDiscriminator(), "a discriminator"),
        (torchvision.models.vgg11(), "a VGG; it classifies"),
    ],
    ids=["U-Net", "SRGAN", "patch", "VGG"],
)
def test_what_else_lies_beside_generators_is_refused_by_name(module: nn.Module, message: str, state_of: Any) -> None:
    with pytest.raises(ModelError, match=rf"^this is {message}"):
        recognise(state_of(module))


def test_unknown_networks_are_described() -> None:
    state = {"odd.weight": np.zeros((2, 3), np.float32)}
    with pytest.raises(ModelError, match=r"^unknown network: 1 arrays, odd\.weight 2x3, \.\.\.; supported"):
        recognise(state)
    with pytest.raises(ModelError, match=r"unknown network: no arrays"):
        recognise({})


def test_spectral_norms_of_the_newer_kind_are_no_unknown_danger(state_of: Any) -> None:
    with pytest.raises(ModelError, match=r"unknown network"):
        recognise(state_of(spectral_norm(nn.Conv2d(3, 4, 3))))
