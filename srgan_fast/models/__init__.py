"""Presets and model files.

`read_model` reads any supported model file, ours or a third party's, and returns a network, which backends execute.
`load_generator` and `read_generator` return an SRGAN generator of ours, as a trainable module and as arrays. Everything
that needs torch is imported on first use.
"""

from typing import TYPE_CHECKING

from srgan_fast.architectures.srgan import Conventions, GeneratorConfig
from srgan_fast.lazy import on_first_use
from srgan_fast.models.checkpoint import (
    DEFAULT_MODEL,
    GeneratorFile,
    load_generator,
    read_generator,
    save_generator,
    shipped_models,
    write_generator,
)
from srgan_fast.models.model_file import ModelFile, model_of, read_model
from srgan_fast.models.presets import PRESETS, Preset, generator_config, get_preset
from srgan_fast.network.graph import ColourMap

if TYPE_CHECKING:
    from srgan_fast.models.discriminator import (
        PatchDiscriminator,
        SRGANDiscriminator,
        UNetDiscriminator,
        build_discriminator,
    )
    from srgan_fast.models.features import FeatureExtractor
    from srgan_fast.models.generator import Generator

_NEEDS_TORCH = {
    "Generator": "srgan_fast.models.generator",
    "PatchDiscriminator": "srgan_fast.models.discriminator",
    "SRGANDiscriminator": "srgan_fast.models.discriminator",
    "UNetDiscriminator": "srgan_fast.models.discriminator",
    "build_discriminator": "srgan_fast.models.discriminator",
    "FeatureExtractor": "srgan_fast.models.features",
}

__all__ = [
    "DEFAULT_MODEL",
    "PRESETS",
    "ColourMap",
    "Conventions",
    "FeatureExtractor",
    "Generator",
    "GeneratorConfig",
    "GeneratorFile",
    "ModelFile",
    "PatchDiscriminator",
    "Preset",
    "SRGANDiscriminator",
    "UNetDiscriminator",
    "build_discriminator",
    "generator_config",
    "get_preset",
    "load_generator",
    "model_of",
    "read_generator",
    "read_model",
    "save_generator",
    "shipped_models",
    "write_generator",
]

__getattr__ = on_first_use(__name__, _NEEDS_TORCH)
