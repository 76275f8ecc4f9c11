"""Steps that are replayed from a CUDA graph are the steps themselves."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from srgan_fast.models import Generator, GeneratorConfig, PatchDiscriminator, get_preset
from srgan_fast.models.presets import LossRecipe
from srgan_fast.ops import switch, use_kernels
from srgan_fast.ops.native import why_not_on_cuda
from srgan_fast.training import graphs
from srgan_fast.training.figures import Figures, NonFiniteLossError
from srgan_fast.training.graphs import WARM_UP, CapturedStep
from srgan_fast.training.step import Batch, GanStep, PretrainStep, StepOptions
from srgan_fast.training.weight_update import update_weights

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")


class _Counted:
    """A step that counts, and the ways that it was computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[Sequence[Batch]], bool] | None = None) -> None:
        self.networks: dict[str, nn.Module] = {}
        self.ways: list[str] = []
        self.fused: list[bool] = []  # whether `auto` takes fused kernels, at each that was computed
        counted = self

        class Recording:
            def __init__(self, step: Any, batches: Sequence[Batch], stream: object) -> None:
                if fails is not None and fails(batches):
                    raise RuntimeError("operation not permitted when stream is capturing\nand more")
                counted.ways.append("recorded")

            def replay(self, batches: Sequence[Batch]) -> str:
                counted.ways.append("replayed")
                return "figures"

        monkeypatch.setattr(graphs, "_Recording", Recording)
        monkeypatch.setattr(graphs, "_on_side_stream", lambda step, batches, stream: step.compute(batches))
        monkeypatch.setattr(CapturedStep, "_side_stream", lambda self, batches: None)

    def compute(self, batches: Sequence[Batch]) -> Any:
        self.ways.append("computed")
        self.fused.append(switch._recorded.steps > 0)
        return "figures"

    def conclude(self, figures: Figures, after_update: Callable[[], None] | None = None) -> dict[str, float]:
        assert figures == "figures"
        return {"pixel": float(len(self.ways))}


def _batch(side: int = 8) -> list[Batch]:
    return [(torch.zeros(2, 3, 4 * side, 4 * side), torch.zeros(2, 3, side, side))]


def test_a_step_is_recorded_after_its_warm_up_and_replayed_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _Counted(monkeypatch)
    step = CapturedStep(counted)
    for _ in range(WARM_UP + 2):
        step(_batch())
    assert counted.ways == ["computed"] * WARM_UP + ["recorded", "replayed", "replayed"]


def test_other_shapes_are_computed_as_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _Counted(monkeypatch)
    step = CapturedStep(counted)
    for side in (8, 4, *[8] * (WARM_UP + 1), 4, 8):
        step(_batch(side))
    assert counted.ways == ["computed"] * (2 + WARM_UP) + ["recorded", "replayed", "computed", "replayed"]


def test_a_step_that_has_changed_is_warmed_up_and_recorded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _Counted(monkeypatch)
    step = CapturedStep(counted)
    for _ in range(WARM_UP + 2):
        step(_batch())
    counted.ways.clear()
    step.forget()
    for _ in range(WARM_UP + 2):
        step(_batch())
    assert counted.ways == ["computed"] * WARM_UP + ["recorded", "replayed", "replayed"]


def test_what_cannot_be_recorded_is_computed_and_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    counted = _Counted(monkeypatch, fails=lambda batches: True)
    step = CapturedStep(counted)
    with caplog.at_level(logging.WARNING):
        for _ in range(WARM_UP + 3):
            step(_batch())
    assert counted.ways == ["computed"] * (WARM_UP + 3)
    assert counted.fused == [True] * WARM_UP + [False] * 3
    assert [record.getMessage() for record in caplog.records] == [
        "steps cannot be recorded as a CUDA graph: operation not permitted when stream is capturing"
    ]


def test_a_failed_recording_does_not_end_recording_for_other_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    counted = _Counted(monkeypatch, fails=lambda batches: batches[0][1].shape[-1] == 8)
    step = CapturedStep(counted)
    for side in [8] * (WARM_UP + 2) + [4] * (WARM_UP + 2) + [8, 4]:
        step(_batch(side))
    assert counted.ways == ["computed"] * (2 * WARM_UP + 2) + [
        "recorded",
        "replayed",
        "replayed",
        "computed",
        "replayed",
    ]


def test_what_must_be_recorded_and_cannot_be_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    step = CapturedStep(_Counted(monkeypatch, fails=lambda batches: True), required=True)
    for _ in range(WARM_UP):
        step(_batch())
    with pytest.raises(RuntimeError, match="not permitted when stream is capturing"):
        step(_batch())


def _gan_step(kernels: Any) -> GanStep:
    torch.manual_seed(0)
    generator = Generator(GeneratorConfig(blocks=2)).cuda()
    discriminator = PatchDiscriminator().cuda()
    for network in (generator, discriminator):
        network.to(memory_format=torch.channels_last)
        use_kernels(network, kernels)
    optimisers = [torch.optim.Adam(network.parameters(), lr=1e-4, fused=True) for network in (generator, discriminator)]
    recipe = LossRecipe(content_weight=0.0, adversarial="lsgan", adversarial_weight=1e-2, pixel_weight=1.0)
    autocast = partial(torch.autocast, "cuda", torch.bfloat16)
    return GanStep(
        generator, discriminator, None, optimisers[0], optimisers[1], recipe, get_preset("paper").discriminator_map,
        StepOptions(autocast, clip=10.0),
    )  # fmt: skip


@needs_gpu
@pytest.mark.parametrize("side_streams", [False, True])
@pytest.mark.parametrize("kernels", ["reference", "fused"])
def test_replayed_steps_train_alike(kernels: str, side_streams: bool) -> None:
    if kernels == "fused" and why_not_on_cuda() is not None:
        pytest.skip("no CUDA kernels built")
    noise = torch.Generator().manual_seed(1)
    batches = [
        [(torch.rand(4, 3, 64, 64, generator=noise).cuda(), torch.rand(4, 3, 16, 16, generator=noise).cuda())]
        for _ in range(9)
    ]
    plain, recorded = _gan_step(kernels), _gan_step(kernels)
    recorded.options = replace(recorded.options, side_streams=side_streams)
    captured = CapturedStep(recorded)
    for i, batch in enumerate(batches):
        expected, got = plain(batch), captured(batch)
        assert captured._recording is None or i >= WARM_UP
        for name, value in expected.items():
            assert got[name] == pytest.approx(value, rel=3e-2, abs=1e-3), (i, name)
    assert captured._recording is not None
    for name, network in plain.networks.items():
        theirs = recorded.networks[name].state_dict()
        for key, value in network.state_dict().items():
            if side_streams and name == "discriminator" and "running" in key:
                continue  # they see the real images first
            error = (theirs[key].double() - value.double()).norm() / value.double().norm().clamp_min(1e-2)
            assert error < 2e-2, f"{name} {key}: {error:.1e}"


@needs_gpu
def test_a_loss_that_is_not_finite_stops_a_replayed_step_before_the_weights() -> None:
    step = CapturedStep(recorded := _gan_step("reference"))
    hr, lr = torch.rand(2, 3, 64, 64).cuda(), torch.rand(2, 3, 16, 16).cuda()
    for _ in range(WARM_UP + 2):
        step([(hr, lr)])
    before = {key: value.clone() for key, value in recorded.generator.named_parameters()}
    with pytest.raises(NonFiniteLossError):
        step([(hr * float("nan"), lr)])
    assert all(torch.equal(value, before[key]) for key, value in recorded.generator.named_parameters())


def test_on_a_gpu_what_is_done_meanwhile_comes_before_the_wait_for_the_losses() -> None:
    order: list[str] = []

    class Optimiser:
        _step_supports_amp_scaling = True

        def step(self) -> None:
            order.append("weights")

    values: Any = SimpleNamespace(is_cuda=True, isfinite=lambda: torch.ones(1, dtype=torch.bool))
    figures: Any = SimpleNamespace(values=values, norms={}, read=lambda: order.append("losses"))
    optimisers: Any = {"generator": Optimiser()}
    update_weights(figures, optimisers, {}, None, lambda: order.append("average"))
    assert order == ["weights", "average", "losses"]


def test_on_a_cpu_nothing_is_done_where_a_loss_is_not_finite() -> None:
    generator = Generator(GeneratorConfig(channels=8, blocks=1))
    step = PretrainStep(generator, torch.optim.Adam(generator.parameters()))
    done: list[str] = []
    batch = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 4, 4)
    step([batch], lambda: done.append("average"))
    assert done == ["average"]
    with pytest.raises(NonFiniteLossError):
        step([(batch[0] * float("nan"), batch[1])], lambda: done.append("average"))
    assert done == ["average"]


@pytest.mark.parametrize("before", [True, False])
def test_cudnn_tries_its_algorithms_within_steps_on_a_gpu(before: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", before)
    with graphs.fastest_algorithms(torch.device("cuda", 0)):
        assert torch.backends.cudnn.benchmark
    assert torch.backends.cudnn.benchmark == before
    with graphs.fastest_algorithms(torch.device("cpu")):
        assert torch.backends.cudnn.benchmark == before
