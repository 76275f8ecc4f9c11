"""`auto` says once why it does not use the fused kernels, `fused` refuses, and `reference` never asks."""

import logging
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from srgan_fast.errors import TrainingError
from srgan_fast.models import Generator, generator_config
from srgan_fast.ops import ConvBN, available, native, switch, use_kernels, why_not
from srgan_fast.ops.pending import convolve
from srgan_fast.ops.prologue import Pending


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    monkeypatch.setattr(switch, "_said", set())


@pytest.fixture
def _not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (switch, native):
        monkeypatch.setattr(module, "why_not", lambda: "the library is on holiday")
        monkeypatch.setattr(module, "available", lambda: False)


def forwards(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows with each call of a fused convolution, with or without its BatchNorm."""
    calls: list[str] = []

    def count(name: str) -> None:
        real = getattr(torch.ops.srgan_fast, name)
        monkeypatch.setattr(torch.ops.srgan_fast, name, lambda *a: calls.append(name) or real(*a))

    for name in ("conv_forward", "conv_bn_forward"):
        count(name)
    return calls


def test_the_library_is_there_in_this_installation() -> None:
    assert available()
    assert why_not() is None


def test_a_fresh_network_is_plain_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = forwards(monkeypatch)
    block = ConvBN(4, False, 1e-5)
    assert block.kernels == "reference"
    block(torch.rand(2, 4, 3, 3))
    assert not calls


@pytest.mark.parametrize("kernels", ["auto", "fused"])
def test_the_switch_reaches_every_part_and_back(monkeypatch: pytest.MonkeyPatch, kernels: str) -> None:
    calls = forwards(monkeypatch)
    generator = Generator(generator_config("paper", channels=4, blocks=2))
    use_kernels(generator, kernels)
    generator(torch.rand(2, 3, 3, 3))
    assert len(calls) == 2 * 2 + 1 + 2 + 1  # blocks, the end of the trunk, two stages, the tail
    calls.clear()
    generator.blocks(torch.rand(2, 4, 3, 3))  # on its own
    assert len(calls) == 2 * 2
    calls.clear()
    use_kernels(generator, "reference")
    generator(torch.rand(2, 3, 3, 3))
    assert not calls


def test_modules_that_know_no_switch_are_left_alone() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3), ConvBN(4, False, 1e-5), nn.ReLU())
    use_kernels(network, "fused")
    assert network[1].kernels == "fused"
    assert not hasattr(network[0], "kernels")


@pytest.mark.parametrize(
    ("dtype", "device", "reason"),
    [
        (torch.float16, "cpu", "float32, float64 or bfloat16 on a CPU, not float16"),
        (torch.float32, "meta", "run on a CPU or on CUDA, not on meta"),
    ],
)
def test_auto_falls_back_with_one_line_and_fused_refuses_what_it_cannot_do(
    caplog: pytest.LogCaptureFixture, dtype: torch.dtype, device: str, reason: str
) -> None:
    block = ConvBN(4, False, 1e-5).to(device, dtype)
    x = torch.rand(2, 4, 3, 3).to(device, dtype)
    expected = block.eval()(x)
    use_kernels(block, "auto")
    with caplog.at_level(logging.DEBUG, "srgan_fast.ops"):
        for _ in range(3):
            found = block(x)
    assert found.device.type == device
    assert device == "meta" or torch.equal(found, expected)
    (line,) = caplog.messages
    assert line == f"fused kernels {line.split('fused kernels ')[1]}"
    assert reason in line
    assert line.endswith("; using plain PyTorch")
    use_kernels(block, "fused")
    with pytest.raises(TrainingError, match=reason) as error:
        block(x)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith("kernels='fused': ")


@pytest.mark.usefixtures("_not_there")
def test_without_the_library_auto_says_so_once_and_fused_is_refused_at_the_switch(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = forwards(monkeypatch)
    generator = Generator(generator_config("paper", channels=4, blocks=2))
    x = torch.rand(2, 3, 3, 3)
    expected = generator.eval()(x)
    use_kernels(generator, "auto")
    with caplog.at_level(logging.DEBUG, "srgan_fast.ops"):
        assert torch.equal(generator(x), expected)
        assert torch.equal(generator(x), expected)
    assert caplog.messages == ["the library is on holiday; using plain PyTorch"]
    with pytest.raises(TrainingError, match="kernels='fused': the library is on holiday"):
        use_kernels(generator, "fused")
    assert all(getattr(part, "kernels", "auto") == "auto" for part in generator.modules())
    assert not calls


def test_reference_asks_for_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "why_not", lambda: pytest.fail("was asked"))
    use_kernels(block := ConvBN(4, False, 1e-5), "reference")
    block(torch.rand(2, 4, 3, 3))


def test_a_kernel_that_is_not_fused_goes_through_plain_torch_and_says_so_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    x = torch.rand(2, 4, 5, 6, dtype=torch.float64)
    weight = torch.rand(3, 4, 7, 7, dtype=torch.float64)
    with caplog.at_level(logging.DEBUG, "srgan_fast.ops"):
        for _ in range(2):
            found = convolve(Pending(x), weight, moments=True)
    torch.testing.assert_close(found.y, nn.functional.conv2d(x, weight, padding=3))
    torch.testing.assert_close(found.mean, found.y.mean((0, 2, 3)))
    assert caplog.messages == ["no fused kernel for (7, 7) of stride 1; using plain PyTorch"]


WITHOUT = """
import sys
sys.modules["srgan_fast._C"] = None
from srgan_fast import ops
from srgan_fast.errors import TrainingError
assert not ops.available()
try:
    ops.use_kernels(ops.ConvReLU(3, 4), "fused")
except TrainingError as error:
    print(error)
"""


def test_a_package_without_the_library_imports_and_says_how_to_get_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False, env={**os.environ}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("kernels='fused': this installation has no fused kernels")
    assert "pip install" in done.stdout
