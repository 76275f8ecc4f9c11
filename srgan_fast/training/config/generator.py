"""The section `generator`: architecture, sizes and initial weights."""

from dataclasses import fields
from typing import Any, Literal

from pydantic import ValidationInfo, field_validator, model_validator

from srgan_fast.architectures import TRAINED_BY_LIST, Settings
from srgan_fast.models import PRESETS
from srgan_fast.training.config.fields import ConfigSection, Count, Positive, Weight

SRGAN = "srgan"
_SRGAN_SCALES = (2, 4, 8)
_COMMON = ("scale", "channels")
# Sizes that only some architectures have, with their defaults; SRGAN's default is the paper's.
_SIZES: dict[str, dict[str, Any]] = {
    SRGAN: {"blocks": 16},
    **{
        key: {f.name: f.default for f in fields(architecture.settings) if f.name not in _COMMON}
        for key, architecture in TRAINED_BY_LIST.items()
        if architecture.settings is not None
    },
}


class GeneratorSection(ConfigSection):
    """The generator.

    Attributes:
        architecture: `srgan`, `compact` (Real-ESRGAN's SRVGGNetCompact), `rrdb` (ESRGAN), `msrresnet` or `edsr`.
        preset: source of the adversarial stage's defaults; for `srgan` also of its layers and value ranges.
        scale: upscaling factor: 2, 4 or 8; 1, 2 or 4 for `rrdb`; 2, 3 or 4 for `msrresnet` and `edsr`; 1, 2, 3, 4 or 8
            for `compact`.
        channels: width.
        blocks: number of residual blocks; 16 by default, 23 for `rrdb`. Not for `compact`.
        convolutions: for `compact`, number of convolutions between the first and the last; 16 by default.
        activation: for `compact`, activation; `prelu` by default.
        growth: for `rrdb`, channels that each convolution of a dense block adds; 32 by default.
        res_scale: for `edsr`, factor of a block's residual branch; 1 by default.
        init: name or file of a model to start from; empty for new weights. Files of other projects are read directly,
            except for `srgan`, where they must be converted first.
        start: initialisation of new weights: `random`, or `upscaler`, with which the untrained network repeats and
            smooths pixels. `auto` is `upscaler` for networks that support it (an `srgan` that reads 0..1, has no
            BatchNorm in its upsamplers, and has at least three channels), otherwise `random`.
        checkpointing: whether each block is recomputed in the backward pass instead of storing its activations.
    """

    architecture: str = SRGAN
    preset: str = "paper"
    scale: Positive = 4
    channels: Positive = 64
    blocks: Count | None = None
    convolutions: Positive | None = None
    activation: Literal["prelu", "relu", "leakyrelu"] | None = None
    growth: Positive | None = None
    res_scale: Weight | None = None
    init: str = ""
    start: Literal["auto", "upscaler", "random"] = "auto"
    checkpointing: bool = False

    @model_validator(mode="before")
    @classmethod
    def _with_sizes(cls, values: Any) -> Any:
        """Adds the architecture's default for each size that is not given."""
        if not isinstance(values, dict):
            return values
        given = {key: value for key, value in values.items() if value is not None}
        architecture = given.get("architecture", SRGAN)
        return {**(_SIZES.get(architecture, {}) if isinstance(architecture, str) else {}), **given}

    @field_validator("architecture")
    @classmethod
    def _known_architecture(cls, value: str) -> str:
        if value not in _SIZES:
            raise ValueError(f"must be one of {', '.join(_SIZES)}, not {value!r}")
        return value

    @field_validator("preset")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in PRESETS:
            raise ValueError(f"must be one of {', '.join(sorted(PRESETS))}")
        return value

    @field_validator("scale")
    @classmethod
    def _has_scale(cls, value: int, info: ValidationInfo) -> int:
        architecture = info.data.get("architecture")
        if architecture is not None and value not in (scales := _scales(architecture)):
            *first, last = map(str, scales)
            raise ValueError(f"{architecture} upscales by {', '.join(first)} or {last}, not by {value}")
        return value

    @field_validator("blocks", "convolutions", "activation", "growth", "res_scale")
    @classmethod
    def _has_size(cls, value: Any, info: ValidationInfo) -> Any:
        architecture = info.data.get("architecture")
        if architecture is not None and info.field_name not in _SIZES[architecture]:
            sizes = ", ".join((*_COMMON, *_SIZES[architecture]))
            raise ValueError(f"{architecture} has no such size; leave it out. Its sizes are {sizes}")
        if info.field_name == "blocks" and value < 1 and architecture in TRAINED_BY_LIST:
            raise ValueError(f"{architecture} has at least 1 block, not {value}")
        return value

    @field_validator("start")
    @classmethod
    def _can_start(cls, value: str, info: ValidationInfo) -> str:
        if value == "upscaler" and (architecture := info.data.get("architecture")) in TRAINED_BY_LIST:
            raise ValueError(
                f"upscaler sets the head, BatchNorms and tail of srgan, which {architecture} does not have; use random"
            )
        return value

    @field_validator("checkpointing")
    @classmethod
    def _can_recompute(cls, value: bool, info: ValidationInfo) -> bool:
        if value and "blocks" not in _SIZES.get(info.data.get("architecture", SRGAN), ()):
            raise ValueError(f"{info.data['architecture']} has no blocks to recompute; leave it out")
        return value

    def settings(self) -> Settings | None:
        """Sizes of an architecture that is trained from its list of convolutions; None for `srgan`."""
        if self.architecture == SRGAN:
            return None
        make = TRAINED_BY_LIST[self.architecture].settings
        assert make is not None
        return make(**{name: getattr(self, name) for name in (*_COMMON, *_SIZES[self.architecture])})


def _scales(architecture: str) -> tuple[int, ...]:
    settings = TRAINED_BY_LIST[architecture].settings if architecture != SRGAN else None
    return _SRGAN_SCALES if settings is None else settings.SCALES
