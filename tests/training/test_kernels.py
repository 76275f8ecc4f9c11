"""`auto` takes for each network the kernels that are faster on this processor."""

import pytest
import torch
from torch import nn

from srgan_fast.models import Generator, GeneratorConfig, PatchDiscriminator
from srgan_fast.ops import Kernels
from srgan_fast.training import kernels
from srgan_fast.training.kernels import kernels_for

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False], ids=["AMX", "no AMX"])
def amx(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    has: bool = request.param
    monkeypatch.setattr(kernels, "describe_processor", lambda: ("a processor", ["avx512f"] + ["amx_bf16"] * has))
    return has


@pytest.fixture(scope="module")
def generator() -> nn.Module:
    return Generator(GeneratorConfig(blocks=1))


@pytest.fixture(scope="module")
def critic() -> nn.Module:
    return PatchDiscriminator()


def test_amx_takes_discriminators_and_features_in_bf16(amx: bool, generator: nn.Module, critic: nn.Module) -> None:
    assert kernels_for(critic, "auto", "bf16", CPU) == ("reference" if amx else "auto")
    assert kernels_for(generator, "auto", "bf16", CPU) == "auto"
    assert kernels_for(critic, "auto", "fp32", CPU) == "auto"


@pytest.mark.usefixtures("amx")
@pytest.mark.parametrize("asked", ["fused", "reference"])
def test_what_is_asked_for_is_taken(asked: Kernels, critic: nn.Module) -> None:
    assert kernels_for(critic, asked, "bf16", CPU) == asked
