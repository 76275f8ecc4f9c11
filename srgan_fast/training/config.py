"""Configuration of a run: a TOML file, checked completely before the run starts."""

import difflib
import re
import tomllib
from dataclasses import fields
from datetime import date, time
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from srgan_fast.architectures import TRAINED_BY_LIST, Settings
from srgan_fast.errors import TrainingError
from srgan_fast.models import PRESETS
from srgan_fast.models.presets import Adversarial, DiscriminatorName, Distance


def _no_text(what: str) -> BeforeValidator:
    """Rejects text and booleans, which pydantic would convert: TOML has numbers, so `"3"` or `true` is a mistake."""

    def check(value: object) -> object:
        if isinstance(value, str | bool):
            raise PydanticCustomError("text", "must be {what}", {"what": what})
        return value

    return BeforeValidator(check)


_Int = Annotated[int, _no_text("a whole number")]
_Float = Annotated[float, _no_text("a number")]
Positive = Annotated[_Int, Field(ge=1)]
Count = Annotated[_Int, Field(ge=0)]
Weight = Annotated[_Float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[_Float, Field(gt=0, lt=1)]
Share = Annotated[_Float, Field(ge=0, le=1)]
Decay = Annotated[_Float, Field(ge=0, lt=1)]
# The largest TOML integer, of 64 bits; torch accepts it and also the discriminator's seed, which is one higher.
Seed = Annotated[_Int, Field(ge=0, le=2**63 - 1)]
Range = tuple[Weight, Weight]
_MOST_THREADS = 1024
StageName = Literal["pretrain", "gan"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


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


class GeneratorSection(_Section):
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
            raise ValueError(f"{info.data['architecture']} has no blocks to compute again; leave it out")
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


Quality = tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=1, le=100)]]


class RoundSection(_Section):
    """One round of second-order degradations; see `srgan_fast.data.second_order.Round`.

    The defaults are those of the first round in Real-ESRGAN's published training options (Wang et al. 2021).
    """

    blur: Range = (0.2, 3.0)
    blur_probability: Share = 1.0
    sinc_probability: Share = 0.1
    resize: Range = (0.15, 1.5)
    shrink_probability: Share = 0.7
    enlarge_probability: Share = 0.2
    noise: Range = (1.0, 30.0)
    noise_probability: Share = 0.5
    poisson: Range = (0.05, 3.0)
    poisson_probability: Share = 0.5
    gray_probability: Share = 0.4
    jpeg: Quality = (30, 95)
    jpeg_probability: Share = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> "RoundSection":
        for name in ("blur", "resize", "noise", "poisson", "jpeg"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [lowest, highest], got [{low}, {high}]")
        if not 0 < self.resize[0] <= 1 <= self.resize[1]:
            raise ValueError(
                f"resize must reach from a factor above 0 up to 1, to one of at least 1, got {self.resize}"
            )
        for one, other in (("shrink", "enlarge"), ("noise", "poisson")):
            both = getattr(self, f"{one}_probability") + getattr(self, f"{other}_probability")
            if both > 1:
                raise ValueError(f"{one}_probability and {other}_probability exclude each other; they sum up to {both}")
        return self


class SecondRoundSection(RoundSection):
    """The second round, with Real-ESRGAN's second-round defaults."""

    blur: Range = (0.2, 1.5)
    blur_probability: Share = 0.8
    resize: Range = (0.3, 1.2)
    shrink_probability: Share = 0.4
    enlarge_probability: Share = 0.3
    noise: Range = (1.0, 25.0)
    poisson: Range = (0.05, 2.5)


class SecondOrderSection(_Section):
    """Two rounds of degradations and a final sinc filter, with Real-ESRGAN's ranges by default (Wang et al. 2021).

    Attributes:
        first: first round, at the original's scale.
        second: second round, near the scale of the low-resolution image.
        final_sinc_probability: probability of a sinc filter on the low-resolution image, before or after the last JPEG
            compression.
    """

    first: RoundSection = RoundSection()
    second: SecondRoundSection = SecondRoundSection()
    final_sinc_probability: Share = 0.8


class DegradationSection(_Section):
    """Degradations of low-resolution images besides downscaling, drawn for every crop; (0, 0) for none.

    Attributes:
        blur: range of the standard deviation of a Gaussian blur on the original, in the original's pixels.
        noise: range of the standard deviation of Gaussian noise, in 8-bit steps.
        jpeg: range of the JPEG quality, 1..100.
        second_order: two rounds of blur, resize, noise and JPEG instead of these; an empty table for Real-ESRGAN's.
    """

    blur: Range = (0.0, 0.0)
    noise: Range = (0.0, 0.0)
    jpeg: tuple[Annotated[int, Field(ge=0, le=100)], Annotated[int, Field(ge=0, le=100)]] = (0, 0)
    second_order: SecondOrderSection | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "DegradationSection":
        for name in ("blur", "noise", "jpeg"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} must be [lowest, highest], got [{low}, {high}]")
        if self.jpeg[1] and not self.jpeg[0]:
            raise ValueError("jpeg qualities must lie in 1..100, or be [0, 0] for no compression")
        if self.second_order is not None and any(high for _, high in (self.blur, self.noise, self.jpeg)):
            raise ValueError("second_order has blur, noise and jpeg of its own; leave out those beside it")
        return self


class DataSection(_Section):
    """Training and validation images.

    Attributes:
        train: folder of original images, searched recursively.
        targets: folder with an image for each original, of the same name and size, that a stronger network made from
            the low-resolution image; empty for none. Pixel and content losses then compare with a mixture of target
            and original.
        targets_weight: share of the target in the mixture; the original has the rest. Stages can override it.
        lr: folder with the low-resolution image of each original, of the same name and exactly 1/scale of its size;
            empty to downscale the originals.
        validation: folder of originals, or a table that maps names of validation sets to folders, the first of which
            selects the best model; empty for no validation.
        crop: side of a high-resolution crop, a multiple of the scale.
        batch: crops per step, over all processes and accumulated parts.
        degradations: degradations of low-resolution crops, for models that are applied to real photographs.
    """

    train: Path
    targets: Path | None = None
    targets_weight: Share = 1.0
    lr: Path | None = None
    validation: Path | dict[str, Path] | None = None
    crop: Positive = 96
    batch: Positive = 16
    degradations: DegradationSection = DegradationSection()

    @field_validator("validation", "targets", "lr", mode="before")
    @classmethod
    def _none_if_empty(cls, value: object) -> object:
        return None if value == "" else value

    @field_validator("validation", mode="before")
    @classmethod
    def _one_set_or_several(cls, value: object) -> object:
        if isinstance(value, dict):
            for name, folder in value.items():
                if not isinstance(folder, str | Path) or not folder:
                    raise ValueError(f"{name} must name a folder, not {folder!r}")
                if not re.fullmatch(r"[^/\s]+", name):  # used in names of curves, where a slash separates groups
                    raise ValueError(f"a set cannot be called {name!r}; leave out slashes and spaces")
            return value or None
        if value is not None and not isinstance(value, str | Path):
            raise ValueError(f"must be a folder, or a table of names and folders, not {value!r}")
        return value

    @property
    def first_validation(self) -> str:
        """Folder of the validation set that selects the best model; empty if there is none."""
        folders = self.validation
        return str(next(iter(folders.values())) if isinstance(folders, dict) else folders or "")

    @model_validator(mode="after")
    def _one_source(self) -> "DataSection":
        if self.lr is not None and self.degradations != DegradationSection():
            raise ValueError("degradations are of originals that are shrunk here; leave out either them or lr")
        return self


class ScheduleSection(_Section):
    """Learning rate schedule of a stage, a function of the step alone.

    Attributes:
        kind: `constant`, `cosine` (half a period, down to `floor` times the rate) or `steps`.
        warmup: number of steps over which the rate rises linearly from 0.
        floor: for `cosine`, last rate as a fraction of the highest.
        milestones: for `steps`, the steps at which the rate changes.
        factor: for `steps`, factor of the rate at each milestone.
    """

    kind: Literal["constant", "cosine", "steps"] = "constant"
    warmup: Count = 0
    floor: Share = 0.01
    milestones: tuple[Positive, ...] = ()
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1


# Ledig et al. 2017, section 3.2: beta1 = 0.9; beta2 is Adam's default.
Betas = tuple[Decay, Decay]
_ADAM: Betas = (0.9, 0.999)


class FeaturesSection(_Section):
    """Network and layers of the content loss.

    Attributes:
        vgg: `vgg19`, `vgg16`, or `keras-vgg16` for Keras' weights under torchvision's names.
        weights: `torchvision` to download them, `random` for tests, or a file.
        cut: single layer whose features are compared, after its ReLU: `vgg54`, `conv5_4` or `features[:n]`.
        layers: several layers with their weights; `conv3_3` is before its ReLU, `relu3_3` after it. If neither cut nor
            layers are given, `gan` uses the preset's cut, and `pretrain` the last convolution of each of the five
            groups, before its ReLU, with the weights 0.1, 0.1, 1, 1, 1.
    """

    vgg: Literal["vgg19", "vgg16", "keras-vgg16"] = "vgg19"
    weights: str = "torchvision"
    cut: str = ""
    layers: dict[str, Weight] = {}

    @model_validator(mode="after")
    def _cut_or_layers(self) -> "FeaturesSection":
        if self.cut and self.layers:
            raise ValueError("cut names one layer and layers name several; leave out one of them")
        if self.layers and not any(self.layers.values()):
            raise ValueError("all weights of layers are 0; for no content loss set content_weight to 0")
        return self


class PretrainSection(_Section):
    """Stage without a discriminator: a pixel loss (SRResNet), a VGG content loss, or both.

    `steps = 0` skips the stage. Both losses compare with `data.targets` if given.

    Attributes:
        steps: number of steps.
        targets_weight: value of `data.targets_weight` for this stage, if different.
        loss: distance of pixels in the pixel loss.
        pixel_weight: factor of the pixel loss.
        content: distance of VGG features in the content loss.
        content_weight: factor of the content loss; by default 1 if `features` are given, else 0.
        feature_scale: factor applied to the features before the distance is computed.
        features: network and layers of the content loss.
        variation_weight: factor of the total variation loss.
        learning_rate: highest learning rate.
        betas: Adam's betas.
        schedule: learning rate schedule.
        freeze_batchnorm_after: number of steps after which the generator's BatchNorms use their running statistics,
            which then stay constant, so that training and the saved model compute the same function; never by default.
    """

    steps: Count = 0
    targets_weight: Share | None = None
    loss: Distance = "mse"
    pixel_weight: Weight = 1.0
    content: Distance = "l1"
    content_weight: Weight = 0.0
    feature_scale: Weight = 1.0
    features: FeaturesSection = FeaturesSection()
    variation_weight: Weight = 0.0
    learning_rate: Rate = 1e-4
    betas: Betas = _ADAM
    schedule: ScheduleSection = ScheduleSection()
    freeze_batchnorm_after: Count | None = None

    @model_validator(mode="before")
    @classmethod
    def _features_count(cls, values: Any) -> Any:
        """Sets the default of `content_weight` to 1 if features are given."""
        if isinstance(values, dict) and values.get("features") and "content_weight" not in values:
            return {**values, "content_weight": 1.0}
        return values

    @model_validator(mode="after")
    def _learns(self) -> "PretrainSection":
        if self.steps and not self.pixel_weight and not self.content_weight:
            raise ValueError("pixel_weight and content_weight are 0; the generator would learn nothing")
        return self


class GanSection(_Section):
    """Adversarial stage; `steps = 0` skips it.

    By default, the discriminator, the adversarial loss, and distance, scale and layers of the content loss are those of
    the preset.

    Pixel and content losses compare with `data.targets` if given; the discriminator's real images are always the
    originals. `betas` and `freeze_batchnorm_after` are as in `pretrain`; the discriminator's BatchNorms are never
    frozen.

    Attributes:
        steps: number of steps.
        targets_weight: value of `data.targets_weight` for this stage, if different; 0 for the originals alone.
        learning_rate: highest learning rate, of both networks.
        betas: Adam's betas.
        schedule: learning rate schedule.
        freeze_batchnorm_after: number of steps after which the generator's BatchNorms are frozen.
        discriminator: `paper` ends in dense layers, `patch` has one logit per 16x16 pixels; both have BatchNorm.
            `patch-sn` is `patch` with spectral norm instead of BatchNorm. `unet-sn` is Real-ESRGAN's U-Net with
            spectral norm and one logit per pixel.
        content: distance of VGG features in the content loss.
        content_weight: factor of the content loss.
        feature_scale: factor applied to the features before the distance is computed.
        adversarial: kind of adversarial loss.
        adversarial_weight: factor of the generator's adversarial loss.
        pixel: distance of images in 0..1 in the pixel loss.
        pixel_weight: factor of the pixel loss.
        variation_weight: factor of the total variation loss.
        discriminator_average: whether the discriminator's loss is `(real + fake) / 2`; otherwise `real + fake`.
        features: network and layers of the content loss.
    """

    steps: Count = 0
    targets_weight: Share | None = None
    learning_rate: Rate = 1e-4
    betas: Betas = _ADAM
    schedule: ScheduleSection = ScheduleSection()
    freeze_batchnorm_after: Count | None = None
    discriminator: DiscriminatorName | None = None
    content: Distance | None = None
    content_weight: Weight = 1.0
    feature_scale: Weight | None = None
    adversarial: Adversarial | None = None
    adversarial_weight: Weight | None = None
    pixel: Distance = "l1"
    pixel_weight: Weight = 0.0
    variation_weight: Weight = 0.0
    discriminator_average: bool | None = None
    features: FeaturesSection = FeaturesSection()


class RunSection(_Section):
    """Output, device and execution of the run.

    Attributes:
        output: folder of checkpoints, models and curves.
        seed: random seed of weights and crops.
        device: `cpu`, `cuda`, or `auto` for CUDA if there is a CUDA device.
        precision: `fp32`, or `bf16` to run the networks under autocast; weights, statistics and losses stay in fp32.
        kernels: `fused` for this package's kernels, `reference` for PyTorch's, `auto` for this package's where they are
            available and faster. If they are not available, `auto` reports why.
        graphs: whether steps are recorded as a CUDA graph and replayed, on a CUDA device in a single process.
        threads: number of CPU threads; 0 for all.
        accumulate: number of parts that a batch is divided into; BatchNorm statistics are those of one part.
        clip: maximum norm of a network's gradient; 0 for no limit.
        ema: decay of the averaged generator, which is validated and saved; 0 for no averaging.
        log_every: steps between points of the curves.
        validate_every: steps between validations.
        save_every: steps between checkpoints.
        keep: number of checkpoints to keep.
        metadata: additional metadata of model files, e.g. data and licence.
    """

    output: Path = Path("runs/srgan")
    seed: Seed = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    kernels: Literal["auto", "fused", "reference"] = "auto"
    graphs: bool = True
    threads: Annotated[_Int, Field(ge=0, le=_MOST_THREADS)] = 0
    accumulate: Positive = 1
    clip: Weight = 0.0
    ema: Decay = 0.999
    log_every: Positive = 50
    validate_every: Positive = 1000
    save_every: Positive = 1000
    keep: Positive = 3
    metadata: dict[str, str] = {}


class TrainConfig(_Section):
    """Configuration of a whole run."""

    generator: GeneratorSection = GeneratorSection()
    data: DataSection
    pretrain: PretrainSection = PretrainSection()
    gan: GanSection = GanSection()
    run: RunSection = RunSection()

    @model_validator(mode="after")
    def _fits(self) -> "TrainConfig":
        if self.data.crop % self.generator.scale:
            raise ValueError(
                f"data.crop is {self.data.crop}; it must be a multiple of the scale {self.generator.scale}"
            )
        settings = self.generator.settings()
        if settings is not None:
            if self.data.crop % (multiple := settings.scale * settings.unshuffle):
                raise ValueError(
                    f"data.crop is {self.data.crop}; {self.generator.architecture} of scale {settings.scale} "
                    f"unshuffles its images and needs a multiple of {multiple}"
                )
            for name in ("pretrain", "gan"):
                if getattr(self, name).freeze_batchnorm_after is not None:
                    raise ValueError(
                        f"{name}.freeze_batchnorm_after: {self.generator.architecture} has no BatchNorms; leave it out"
                    )
        if self.gan.steps and self.discriminator == "paper" and self.data.crop % 16:
            raise ValueError(f"data.crop is {self.data.crop}; the paper's discriminator needs a multiple of 16")
        if self.gan.steps and self.discriminator == "unet-sn" and self.data.crop % 8:
            raise ValueError(f"data.crop is {self.data.crop}; the U-Net discriminator needs a multiple of 8")
        if self.data.batch % self.run.accumulate:
            raise ValueError(f"data.batch is {self.data.batch}; it must be a multiple of run.accumulate")
        without = not self.pretrain.steps and not self.gan.pixel_weight and not self.gan.content_weight
        if self.data.targets is not None and without:
            raise ValueError(
                "data.targets serve the pixel and content losses; give pretrain.steps, gan.pixel_weight or "
                "gan.content_weight"
            )
        if not self.pretrain.steps and not self.gan.steps:
            raise ValueError("nothing to do: give pretrain.steps or gan.steps")
        return self

    @property
    def discriminator(self) -> DiscriminatorName:
        """Name of the configured discriminator; the preset's by default."""
        return self.gan.discriminator or PRESETS[self.generator.preset].discriminator


def read_config(path: Path, overrides: list[str] | None = None) -> TrainConfig:
    """Reads a configuration and applies `key=value` overrides, e.g. `gan.steps=100`.

    Values of overrides are parsed as TOML; a value that is not valid TOML is used as text.

    Raises:
        TrainingError: unreadable file, unknown key, or value out of range; the message names the key and its allowed
            values.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # bad TOML or encoding, huge numbers, deep nesting
        raise TrainingError(f"{path}: not a TOML file ({error})") from None
    for override in overrides or []:
        _override(values, override)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as error:
        raise TrainingError(f"{path}: " + "; ".join(dict.fromkeys(map(_explain, error.errors())))) from None


def _override(values: dict[str, Any], text: str) -> None:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise TrainingError(f"{text!r} is no override; write key=value, e.g. gan.steps=1000")
    *sections, name = key.strip().split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            raise TrainingError(f"{text!r}: {section} is a value, not a section")
    try:
        values[name] = tomllib.loads(f"x = {value}")["x"]
    except (ValueError, RecursionError):
        values[name] = value.strip()


def _explain(problem: Any) -> str:
    """One validation error as text: the key, its value, and the allowed values."""
    parts = [str(part) for part in problem["loc"]]
    key = ".".join(parts) or "the configuration"
    if problem["type"] == "extra_forbidden":
        keys = _keys_of_section(parts[:-1])
        near = difflib.get_close_matches(parts[-1], keys, 1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"{key} is not known; {hint}there are {', '.join(keys)}"
    if problem["type"] in ("missing", "too_long") and isinstance(problem["input"], list | tuple):
        pair = ".".join(part for part in parts if not part.isdigit())
        return f"{pair} is {_shown(problem['input'])}: must be a list of {_PAIR} numbers"
    if problem["type"] == "missing":
        return f"{key} is missing"
    if problem["type"] == "value_error":
        return f"{key}: {problem['ctx']['error']}" if parts else str(problem["ctx"]["error"])
    if problem["type"] in _SECTION_TYPES:
        keys = _keys_of_section(parts)
        return f"{key} is {_shown(problem['input'])}: must be a section" + (f" with {', '.join(keys)}" if keys else "")
    message = _MESSAGES.get(problem["type"]) or problem["msg"].replace("Input should be", "must be")
    return f"{key} is {_shown(problem['input'])}: {message}"


# Messages for pydantic's type errors, with TOML's names of the types.
_MESSAGES = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("string_type", "path_type"), "must be text"),
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list"),
}
_SECTION_TYPES = ("dict_type", "model_type", "model_attributes_type")
_MOST_SHOWN = 80
_PAIR = 2  # length of all lists that have a fixed length


def _shown(value: object) -> str:
    """A value for a message, written as in TOML, and shortened."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "a section"
    text = value.isoformat() if isinstance(value, date | time) else repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


def _keys_of_section(path: list[str]) -> list[str]:
    model: type[BaseModel] = TrainConfig
    for name in path:
        if name not in model.model_fields:
            return []
        annotation = model.model_fields[name].annotation
        alternatives = get_args(annotation) or (annotation,)  # a section, or an optional section
        sections = [a for a in alternatives if isinstance(a, type) and issubclass(a, BaseModel)]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)
