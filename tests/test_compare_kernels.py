"""The comparison of trainings passes for our kernels and fails for kernels that are slightly wrong."""

import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from srgan_fast.data.images import Image, write_image
from srgan_fast.models import discriminator, features
from srgan_fast.ops import PackedWeights, available

pytestmark = pytest.mark.skipif(not available(), reason="no fused kernels in this installation")

TOOL = Path(__file__).parents[1] / "tools/compare_kernels.py"
STEPS = 20
Operator = Callable[..., tuple[torch.Tensor, ...]]


@pytest.fixture(scope="module")
def tool() -> Iterator[ModuleType]:
    """The program, as a module."""
    pytest.importorskip("matplotlib")
    spec = importlib.util.spec_from_file_location("compare_kernels", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "compare_kernels", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture(scope="module", autouse=True)
def _small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Narrow networks on one thread, and a cache of their own."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(discriminator, "TRUNK_WIDTHS", (16, 16, 16, 16, 32, 32, 32, 32))
        patch.setattr(features, "_WIDTHS", (16, 16, 16, 32, 32))
        yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def sections(tool: ModuleType, tmp_path_factory: pytest.TempPathFactory, photo: NDArray[np.uint8]) -> dict[str, Any]:
    """The program's small SRGAN, smaller."""
    folder = tmp_path_factory.mktemp("pictures")
    write_image(folder / "photo.png", Image(photo[:256, 100:356]))
    planned: dict[str, Any] = tool.gan_sections(folder, STEPS)
    planned["generator"] |= {"channels": 16, "blocks": 2}
    planned["data"] |= {"crop": 48}
    return planned


@pytest.fixture(scope="module")
def references(tool: ModuleType, sections: dict[str, Any]) -> list[Any]:
    return [tool.conduct(sections, "reference", number) for number in range(tool.REFERENCES)]


def failures(tool: ModuleType, references: list[Any], run: Any) -> set[str]:
    return {finding.name for finding in tool.judge(references, run, tool.GAN_CURVES) if not finding.passed}


def test_fused_training_passes_and_is_drawn(
    tool: ModuleType,
    sections: dict[str, Any],
    references: list[Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    fused = tool.conduct(sections, "fused")
    assert len(fused.curves["content"]) == STEPS
    assert fused.curves != references[0].curves, "the switch did nothing"
    findings = tool.judge(references, fused, tool.GAN_CURVES)
    for finding in findings:
        assert finding.passed, finding
    tool.draw([(references, fused, tool.GAN_CURVES)], tmp_path / "curves.png")
    assert (tmp_path / "curves.png").stat().st_size > 0
    values = tool.report(references, fused, tool.GAN_CURVES, findings)
    assert json.loads(json.dumps(values)) == values
    tool.print_report("SRGAN", values)
    assert "DIFFERS" not in capsys.readouterr().out


def _longer(result: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
    return (result[0] * 1.02, *result[1:])


@pytest.mark.parametrize(
    ("operator", "shows_in"),
    [
        ("conv_wgrad", {"gradients of step 1", "their lengths"}),  # Adam takes it out of the curves
        ("conv_dgrad", {"gradients of step 1", "their lengths", "content"}),
        ("conv_forward", {"losses of step 1", "gradients of step 1", "their lengths", "content"}),
    ],
)
def test_an_operator_that_is_off_by_two_percent_fails(
    tool: ModuleType,
    sections: dict[str, Any],
    references: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    operator: str,
    shows_in: set[str],
) -> None:
    right: Operator = getattr(torch.ops.srgan_fast, operator)
    monkeypatch.setattr(torch.ops.srgan_fast, operator, lambda *given: _longer(right(*given)))
    assert shows_in <= failures(tool, references, tool.conduct(sections, "fused"))


def test_weights_that_were_transformed_before_a_step_fail_by_their_curves(
    tool: ModuleType, sections: dict[str, Any], references: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first step is right; from then on the discriminator is asked with its old weights."""
    monkeypatch.setattr(PackedWeights, "clear", lambda self: None)
    assert failures(tool, references, tool.conduct(sections, "fused")) >= {"adversarial", "discriminator"}
