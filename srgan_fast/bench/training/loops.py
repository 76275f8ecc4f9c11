"""The usual training loops, on this project's networks: baselines of our step.

The adversarial one follows the widely copied repository PyTorch-GAN (`implementations/srgan/srgan.py`) statement by
statement: in the generator's step D's weights get unused gradients, and D sees the generated images twice. The phases
are named as those of `srgan_fast.training.step` in traces.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim import Optimizer
from torch.profiler import record_function

from srgan_fast.models.generator import Affine
from srgan_fast.network.graph import ColourMap
from srgan_fast.training.features import Autocast

Step = Callable[[Tensor, Tensor], dict[str, float]]
"""One step on hr and lr; returns its losses."""


def common_pretrain_loop(generator: nn.Module, optimiser: Optimizer, autocast: Autocast) -> Step:
    """Trains the generator on an L1 loss; returns the `pixel` loss."""

    def step(hr: Tensor, lr: Tensor) -> dict[str, float]:
        optimiser.zero_grad()
        with record_function("G forward"), autocast():
            sr = generator(lr)
        loss = F.l1_loss(sr.float(), hr)
        with record_function("G backward"):
            loss.backward()  # type: ignore[no-untyped-call]
        with record_function("optimisers"):
            optimiser.step()
        return {"pixel": loss.item()}

    return step


def common_gan_loop(
    generator: nn.Module,
    discriminator: nn.Module,
    features: nn.Module,
    generator_optimiser: Optimizer,
    discriminator_optimiser: Optimizer,
    discriminator_map: ColourMap,
    adversarial_weight: float,
    graph_of_real: bool,
    autocast: Autocast,
) -> Step:
    """Generator and discriminator in turns: L1 distance of features, least-squares loss, D's losses averaged.

    `discriminator_map` maps images in 0..1 to the discriminator's input, `adversarial_weight` is the weight of the
    adversarial loss, `graph_of_real` whether the features of real images keep an unused autograd graph.

    Returns:
        A step that returns the losses `content`, `generator` (the weighted sum) and `discriminator`.
    """
    to_discriminator = Affine(discriminator_map).to(next(generator.parameters()))

    def discriminate(image: Tensor) -> Tensor:
        with record_function("D forward"):
            logits: Tensor = discriminator(to_discriminator(image))
        return logits

    def step(hr: Tensor, lr: Tensor) -> dict[str, float]:
        generator_optimiser.zero_grad()
        with autocast():
            with record_function("G forward"):
                sr = generator(lr)
            fake = discriminate(sr)
            with record_function("VGG(SR) forward"):
                sr_features = features(sr)
            with record_function("VGG(HR) forward"), nullcontext() if graph_of_real else torch.no_grad():
                hr_features = features(hr)
        adversarial = F.mse_loss(fake.float(), torch.ones_like(fake, dtype=torch.float32))
        content = F.l1_loss(sr_features.float(), hr_features.detach().float())
        generator_loss = content + adversarial_weight * adversarial
        with _parts_of_backward(fake, sr):
            generator_loss.backward()  # type: ignore[no-untyped-call]
        with record_function("optimisers"):
            generator_optimiser.step()

        discriminator_optimiser.zero_grad()
        with autocast():
            real, fake = discriminate(hr), discriminate(sr.detach())
        real_loss = F.mse_loss(real.float(), torch.ones_like(real, dtype=torch.float32))
        fake_loss = F.mse_loss(fake.float(), torch.zeros_like(fake, dtype=torch.float32))
        discriminator_loss = (real_loss + fake_loss) / 2
        with record_function("D backward, to its weights"):
            discriminator_loss.backward()  # type: ignore[no-untyped-call]
        with record_function("optimisers"):
            discriminator_optimiser.step()
        losses = {"content": content, "generator": generator_loss, "discriminator": discriminator_loss}
        return {name: loss.item() for name, loss in losses.items()}

    return step


@contextmanager
def _parts_of_backward(fake: Tensor, sr: Tensor) -> Iterator[None]:
    """Names the phases of one backward pass through VGG, D and G.

    Autograd processes them in reverse order: VGG, then D from its logits `fake`, then G from `sr`, whose gradient is
    complete only then.
    """
    part = record_function("VGG backward, to SR")

    def begin(name: str) -> None:
        nonlocal part
        part.__exit__(None, None, None)
        part = record_function(name)
        part.__enter__()  # type: ignore[no-untyped-call]

    fake.register_hook(lambda _: begin("D backward, to SR"))  # type: ignore[no-untyped-call]
    sr.register_hook(lambda _: begin("G backward"))  # type: ignore[no-untyped-call]
    part.__enter__()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        part.__exit__(None, None, None)
