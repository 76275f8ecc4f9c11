"""The rows of the table: which loop trains the same networks, in which precision, with which kernels.

All rows start from the same weights and see the same random batch in every step.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam

from srgan_fast.bench.training.loops import Step, common_gan_loop, common_pretrain_loop
from srgan_fast.errors import UsageError
from srgan_fast.models import FeatureExtractor, Generator, PatchDiscriminator, generator_config, get_preset
from srgan_fast.ops import use_kernels
from srgan_fast.training.averaging import AveragedGenerator
from srgan_fast.training.features import Autocast
from srgan_fast.training.graphs import CapturedStep
from srgan_fast.training.step import PIXELS_ALONE, GanStep, PretrainStep, StepOptions

GENERATOR_PRESET = "paper"
LOSSES_PRESET = "pytorch-gan"
EMA = 0.999  # `run.ema` by default
LEARNING_RATE = 1e-4
SEED = 0

Losses = dict[str, float]
Stage = Literal["gan", "pretrain"]


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A row: a loop as people write it or `srgan_fast.training.step`, its precision (bf16 is autocast), its kernels.

    `tuned`: channels-last, VGG frozen and without a graph for real images, fused Adam; else nothing of it. For the GPU
    report: `captured`: a lean loop is replayed from a CUDA graph, an error where it cannot be; `compiled`:
    torch.compile makes the networks; `tf32`: float32 convolutions use TF32.
    """

    name: str
    loop: Literal["common", "lean"]
    precision: Literal["fp32", "bf16"] = "fp32"
    kernels: Literal["reference", "fused"] = "reference"
    tuned: bool = True
    captured: bool = False
    compiled: bool = False
    tf32: bool = False


ROWS: dict[str, TrainingRow] = {
    row.name: row
    for row in (
        TrainingRow("reference", "common", tuned=False),
        TrainingRow("stock", "common"),
        TrainingRow("stock-bf16", "common", "bf16"),
        TrainingRow("stock-lean", "lean"),
        TrainingRow("stock-lean-bf16", "lean", "bf16"),
        TrainingRow("fused", "lean", "fp32", "fused"),
        TrainingRow("fused-bf16", "lean", "bf16", "fused"),
    )
}
TRUSTED = "stock"  # what all rows are checked against, and the usual baseline


def find_row(name: str) -> TrainingRow:
    """The row of that name; a UsageError if there is none."""
    if name not in ROWS:
        raise UsageError(f"unknown row {name!r}; choose from {', '.join(ROWS)}")
    return ROWS[name]


@dataclass(frozen=True, slots=True)
class Work:
    """What every row does in a step, and on which device; see `TrainingOptions`."""

    stage: Stage
    batch: int
    hr: int
    features: str
    threads: int
    device: str = "cpu"

    def images(self) -> tuple[Tensor, Tensor]:
        """The batch: hr and lr, N, 3, H, W, uniform noise in 0..1; no time depends on what they show."""
        noise = torch.Generator().manual_seed(SEED)
        low = self.hr // generator_config(GENERATOR_PRESET).scale
        hr = torch.rand(self.batch, 3, self.hr, self.hr, generator=noise)
        return hr, torch.rand(self.batch, 3, low, low, generator=noise)


@dataclass(frozen=True, slots=True)
class Networks:
    """What is trained, and what judges it; only the generator in the `pretrain` stage."""

    generator: Generator
    discriminator: PatchDiscriminator | None
    features: FeatureExtractor | None

    def all(self) -> dict[str, nn.Module]:
        """By name, those that there are."""
        named = {"generator": self.generator, "discriminator": self.discriminator, "features": self.features}
        return {name: network for name, network in named.items() if network is not None}


@dataclass(frozen=True, slots=True)
class Trainee:
    """A row that was made: its networks, a step on its batch, hr and lr in its layout, the context of its networks."""

    networks: Networks
    step: Callable[[], Losses]
    images: tuple[Tensor, Tensor]
    autocast: Autocast


def make_networks(work: Work, trainable_features: bool = False) -> Networks:
    """The networks, the same weights every time, in training mode; a ModelError for no such cut of VGG19.

    VGG's are drawn by He's rule: torch's own makes features that hardly depend on the image eight layers later.
    """
    gan = work.stage == "gan"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        generator = Generator(generator_config(GENERATOR_PRESET))
        discriminator = PatchDiscriminator() if gan else None
        features = FeatureExtractor(work.features, weights="random", trainable=trainable_features) if gan else None
        for module in () if features is None else features.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    return Networks(generator, discriminator, features)


def make_trainee(row: TrainingRow, work: Work, averaged: bool = False) -> Trainee:
    """Networks, optimisers and loop of a row.

    `averaged`: a lean loop's step averages the generator's weights, as the trainer's own does.

    Raises:
        SrganFastError: it cannot be run here.
        Exception: whatever its kernels raise.
    """
    networks = make_networks(work, trainable_features=not row.tuned)
    hr, lr = (images.to(work.device) for images in work.images())
    for network in networks.all().values():
        use_kernels(network, row.kernels)
        network.to(work.device)
        if row.tuned:
            network.to(memory_format=torch.channels_last)
        if row.compiled:
            network.compile(dynamic=False)
    if row.tuned:
        hr, lr = hr.contiguous(memory_format=torch.channels_last), lr.contiguous(memory_format=torch.channels_last)
    autocast: Autocast = nullcontext
    if row.precision == "bf16":
        autocast = partial(torch.autocast, torch.device(work.device).type, torch.bfloat16)
    step = _step(row, networks, autocast, averaged)
    return Trainee(networks, partial(_keeping_graphs(step) if row.compiled else step, hr, lr), (hr, lr), autocast)


def _keeping_graphs(step: Step) -> Step:
    """The same step, with networks compiled so that a graph can be gone through twice, as ours goes through D's."""

    def run(hr: Tensor, lr: Tensor) -> Losses:
        with torch._functorch.config.patch(donated_buffer=False):
            return step(hr, lr)

    return run


def _step(row: TrainingRow, networks: Networks, autocast: Autocast, averaged: bool) -> Step:
    """One step of the row's loop on hr and lr; `averaged`: with the average of the weights that the trainer takes."""

    def adam(network: nn.Module) -> Adam:
        return Adam(network.parameters(), lr=LEARNING_RATE, fused=True if row.tuned else None)

    generator, discriminator, features = networks.generator, networks.discriminator, networks.features
    lean: PretrainStep | GanStep
    if discriminator is None or features is None:
        if row.loop == "common":
            return common_pretrain_loop(generator, adam(generator), autocast)
        lean = PretrainStep(generator, adam(generator), PIXELS_ALONE, StepOptions(autocast))
    else:
        trained = generator, discriminator, features, adam(generator), adam(discriminator)
        losses, discriminator_map = get_preset(LOSSES_PRESET).losses, get_preset(GENERATOR_PRESET).discriminator_map
        if row.loop == "common":
            weight = losses.adversarial_weight
            return common_gan_loop(*trained, discriminator_map, weight, graph_of_real=not row.tuned, autocast=autocast)
        lean = GanStep(*trained, losses, discriminator_map, StepOptions(autocast))
    step = CapturedStep(lean, required=True) if row.captured else lean
    if not averaged:
        return lambda hr, lr: step([(hr, lr)])
    average, numbers = AveragedGenerator(generator, EMA), count()
    return lambda hr, lr: step([(hr, lr)], partial(average.update, generator, next(numbers)))
