"""The generator that a run starts from: new weights, or a model that fits the configuration."""

from dataclasses import fields
from typing import Literal

from srgan_fast.errors import ModelError, TrainingError
from srgan_fast.models import GeneratorConfig, generator_config, load_generator
from srgan_fast.models.generator import Generator
from srgan_fast.models.initialisation import start_as_upscaler, why_no_upscaler
from srgan_fast.models.network_generator import NetworkGenerator, fresh_generator, load_network_generator
from srgan_fast.training.config import GeneratorSection


def initial_generator(section: GeneratorSection) -> Generator | NetworkGenerator:
    """Creates the generator, or loads the model `generator.init`.

    Raises:
        SrganFastError: the model cannot be read or does not fit, or the network does not support `generator.start`.
    """
    generator = _network_generator(section) or _srgan_generator(section)
    generator.recompute = section.checkpointing
    return generator


def _network_generator(section: GeneratorSection) -> NetworkGenerator | None:
    """A generator that is trained from its list of convolutions; None for `srgan`."""
    settings = section.settings()
    if settings is None:
        return None
    fresh = fresh_generator(section.architecture, settings)
    if not section.init:
        return fresh
    wanted = f"{fresh.description}, x{fresh.scale}"
    try:
        generator = load_network_generator(section.init)
    except ModelError as error:
        raise TrainingError(f"generator.init: {error}; the configuration requires {wanted}") from None
    if not generator.computes_like(fresh):
        found = f"{generator.description}, x{generator.scale}"
        but = "with other activations, biases or value ranges than" if found == wanted else f"which is not {wanted}, as"
        raise TrainingError(f"generator.init: {section.init} is {found}, {but} the configuration requires")
    return generator


def _srgan_generator(section: GeneratorSection) -> Generator:
    blocks = section.blocks or 0
    wanted = generator_config(section.preset, scale=section.scale, channels=section.channels, blocks=blocks)
    if not section.init:
        return _fresh_generator(wanted, section.start)
    generator = load_generator(section.init)
    if differing := _differing(generator.config, wanted):
        raise TrainingError(f"generator.init: {section.init} has {differing}")
    return generator


def _fresh_generator(config: GeneratorConfig, start: Literal["auto", "upscaler", "random"]) -> Generator:
    generator = Generator(config)
    problem = why_no_upscaler(config)
    if start == "upscaler" and problem:
        raise TrainingError(f"generator.start is upscaler, which this network does not support: {problem}; use random")
    if start != "random" and not problem:
        start_as_upscaler(generator)
    return generator


def _differing(found: GeneratorConfig, wanted: GeneratorConfig) -> str:
    """Differences between two architectures as text; empty if there are none."""
    pairs = {
        field.name: (getattr(found, field.name), getattr(wanted, field.name))
        for field in fields(GeneratorConfig)
        if field.name != "conventions"
    }
    differing = [f"{name} = {a!r} where the configuration requires {b!r}" for name, (a, b) in pairs.items() if a != b]
    if found.conventions != wanted.conventions:
        differing.append("the value ranges or BatchNorm epsilons of another preset")
    return ", ".join(differing)
