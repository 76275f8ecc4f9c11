"""A forked step computes what the serial one does, and every value is waited for before another stream reads it.

Streams are stand-ins that know what they have waited for, as vector clocks: each operator that runs is checked against
the last writer of what it reads, and against the last readers of what it overwrites.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from srgan_fast.models import PRESETS, FeatureExtractor, Generator, discriminator, features, generator_config
from srgan_fast.models.discriminator import build_discriminator
from srgan_fast.ops import use_kernels
from srgan_fast.training import step as step_module
from srgan_fast.training import streams
from srgan_fast.training.step import Batch, GanStep
from srgan_fast.training.streams import may_fork


class Stream:
    """A stream whose work is done at once; `seen` is the last operator of each stream that it has waited for."""

    def __init__(self, device: object = None) -> None:
        self.seen: dict[Stream, int] = {self: 0}

    def wait_stream(self, other: "Stream") -> None:
        for stream, tick in other.seen.items():
            self.seen[stream] = max(tick, self.seen.get(stream, 0))

    def has_waited_for(self, place: tuple["Stream", int]) -> bool:
        return self.seen.get(place[0], 0) >= place[1]


class Races(TorchDispatchMode):
    """Notes operators that read or overwrite what another stream may still be at."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.stream = self.main = Stream()
        self.streams: list[Stream] = []
        self._kept: dict[int, torch.UntypedStorage] = {}  # so that addresses are not reused
        self._written: dict[int, tuple[Stream, int]] = {}
        self._read: dict[int, dict[Stream, int]] = {}

    def make(self, device: object = None) -> Stream:
        self.streams.append(Stream())
        return self.streams[-1]

    @contextmanager
    def on(self, stream: Stream) -> Iterator[None]:
        before, self.stream = self.stream, stream
        try:
            yield
        finally:
            self.stream = before

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, own = kwargs or {}, self.stream
        own.seen[own] += 1
        inputs = {t.untyped_storage() for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)}
        result = func(*args, **kwargs)
        outputs = {t.untyped_storage() for t in tree_leaves(result) if isinstance(t, Tensor)}
        self._kept |= {s.data_ptr(): s for s in inputs | outputs}
        read, made = ({s.data_ptr() for s in storages} for storages in (inputs, outputs))
        changes = func._schema.is_mutable
        for address in read:
            if address in self._written and not own.has_waited_for(self._written[address]):
                self.found.append(f"{func} reads what was not waited for")
            if changes and not all(own.has_waited_for(place) for place in self._read.get(address, {}).items()):
                self.found.append(f"{func} overwrites what is being read")
            self._read.setdefault(address, {})[own] = own.seen[own]
        for address in (made - read) | (read if changes else set()):
            self._written[address] = own, own.seen[own]
        return result


@pytest.fixture
def races(monkeypatch: pytest.MonkeyPatch) -> Races:
    made = Races()
    monkeypatch.setattr(torch.cuda, "Stream", made.make)
    monkeypatch.setattr(torch.cuda, "stream", made.on)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device=None: made.stream)
    return made


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forks on the CPU, where no stream is needed."""
    monkeypatch.setattr(step_module, "may_fork", lambda image, recorded: True)


def build(kernels: str, adversarial: str) -> GanStep:
    torch.manual_seed(5)
    preset = PRESETS["paper"]
    generator = Generator(generator_config("paper", channels=8, blocks=1)).train()
    critic = build_discriminator("patch", 16).train()
    vgg = FeatureExtractor("features[:4]", weights="random", input_map=preset.feature_map)
    for network in (generator, critic, vgg):
        network.double().to(memory_format=torch.channels_last)
        use_kernels(network, kernels)  # type: ignore[arg-type]
    recipe = replace(preset.losses, adversarial=adversarial, pixel_weight=0.1, variation_weight=0.1)  # type: ignore[arg-type]
    return GanStep(
        generator, critic, vgg, Adam(generator.parameters()), Adam(critic.parameters()), recipe,
        preset.discriminator_map,
    )  # fmt: skip


def parts() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    hr = torch.rand(2, 2, 3, 16, 16, generator=generator, dtype=torch.float64)
    return [(each, nn.functional.avg_pool2d(each, 4)) for each in hr]


def compute(made: GanStep, forks: bool) -> dict[str, Tensor]:
    own = copy.deepcopy(made)
    own.options = replace(own.options, side_streams=forks)
    own.__post_init__()
    figures = own.compute(parts())
    results = dict(zip(figures.names, figures.values, strict=True))
    for name, network in own.networks.items():
        results |= {f"{name}.{key}": p.grad for key, p in network.named_parameters() if p.grad is not None}
        results |= {f"{name}.{key}": b for key, b in network.named_buffers()}
    return results


@pytest.mark.usefixtures("_narrow_networks", "forked")
@pytest.mark.parametrize("kernels", ["reference", "fused"])
@pytest.mark.parametrize("adversarial", ["bce", "ragan"])
def test_a_forked_step_is_the_serial_one_and_waits_for_what_it_reads(
    kernels: str, adversarial: str, races: Races
) -> None:
    made = build(kernels, adversarial)
    serial = compute(made, forks=False)
    assert races.streams == []
    with races:
        forked = compute(made, forks=True)
    assert races.found == []
    assert len(races.streams) == 2  # for all parts
    assert serial.keys() == forked.keys()
    # D sees the real images first, which its running statistics depend on.
    differing = [key for key in serial if not torch.equal(serial[key], forked[key]) and "running" not in key]
    assert differing == []
    assert all(races.main.has_waited_for((stream, stream.seen[stream])) for stream in races.streams)


@pytest.mark.usefixtures("_narrow_networks", "forked")
@pytest.mark.parametrize("missing", ["join", "fork"])
def test_a_missing_wait_is_noticed(missing: str, races: Races, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing == "join":
        monkeypatch.setattr(streams.Branches, "join", lambda self, *names: None)
    else:
        wait = Stream.wait_stream
        monkeypatch.setattr(
            Stream, "wait_stream", lambda self, other: wait(self, other) if self is races.main else None
        )
    made = build("reference", "bce")
    with races:
        compute(made, forks=True)
    assert races.found != []


@pytest.mark.parametrize("recorded", [True, False])
def test_only_recorded_steps_on_cuda_fork(recorded: bool) -> None:
    assert not may_fork(torch.zeros(1), recorded)
    image: Any = type("Image", (), {"is_cuda": True})()
    assert may_fork(image, recorded) == recorded


@pytest.mark.usefixtures("_narrow_networks")
def test_a_step_on_a_cpu_makes_no_stream(races: Races) -> None:
    made = build("reference", "bce")
    compute(made, forks=True)
    assert races.streams == []


@pytest.fixture
def _narrow_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discriminator, "TRUNK_WIDTHS", (8, 8, 8, 8, 16, 16, 16, 16))
    monkeypatch.setattr(features, "_WIDTHS", (8, 8, 8, 16, 16))
