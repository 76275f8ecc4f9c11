"""Networks, presets and model files.

`load_generator` and `read_generator` are the doors to model files; the first gives a torch module, the second arrays
for runtimes without torch. Everything that needs torch is imported on first use.
"""

from typing import TYPE_CHECKING, Any

from srgan_fast.models.checkpoint import (
    DEFAULT_MODEL,
    GeneratorFile,
    load_generator,
    read_generator,
    save_generator,
    shipped_models,
    write_generator,
)
from srgan_fast.models.config import AffineMap, Conventions, GeneratorConfig
from srgan_fast.models.presets import PRESETS, Preset, generator_config, get_preset

if TYPE_CHECKING:
    from srgan_fast.models.discriminator import PatchDiscriminator, SRGANDiscriminator, build_discriminator
    from srgan_fast.models.features import FeatureExtractor
    from srgan_fast.models.generator import Generator

_NEEDS_TORCH = {
    "Generator": "generator",
    "PatchDiscriminator": "discriminator",
    "SRGANDiscriminator": "discriminator",
    "build_discriminator": "discriminator",
    "FeatureExtractor": "features",
}

__all__ = [
    "DEFAULT_MODEL",
    "PRESETS",
    "AffineMap",
    "Conventions",
    "FeatureExtractor",
    "Generator",
    "GeneratorConfig",
    "GeneratorFile",
    "PatchDiscriminator",
    "Preset",
    "SRGANDiscriminator",
    "build_discriminator",
    "generator_config",
    "get_preset",
    "load_generator",
    "read_generator",
    "save_generator",
    "shipped_models",
    "write_generator",
]


def __getattr__(name: str) -> Any:
    if name not in _NEEDS_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 (first use only)

    return getattr(importlib.import_module(f"{__name__}.{_NEEDS_TORCH[name]}"), name)
