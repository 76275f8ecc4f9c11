"""What a run is told: a TOML file, checked as a whole before anything starts."""

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
    """TOML has numbers: what pydantic would make of `"3"` or `true` is a mistake in a configuration."""

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
# A TOML integer has 64 bits, and torch takes that and, for the discriminator's seed, one more.
Seed = Annotated[_Int, Field(ge=0, le=2**63 - 1)]
Range = tuple[Weight, Weight]
_MOST_THREADS = 1024
StageName = Literal["pretrain", "gan"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


SRGAN = "srgan"
_SRGAN_SCALES = (2, 4, 8)
_COMMON = ("scale", "channels")
# Sizes that only some architectures have, with their defaults; SRGAN's are those of the paper.
_SIZES: dict[str, dict[str, Any]] = {
    SRGAN: {"blocks": 16},
    **{
        key: {f.name: f.default for f in fields(architecture.settings) if f.name not in _COMMON}
        for key, architecture in TRAINED_BY_LIST.items()
        if architecture.settings is not None
    },
}


class GeneratorSection(_Section):
    """The network.

    Attributes:
        architecture: `srgan`, `compact` (Real-ESRGAN's SRVGGNetCompact), `rrdb` (ESRGAN), `msrresnet` or `edsr`.
        preset: defaults of the adversarial stage; of `srgan` also its layers and value ranges.
        scale: 2, 4 or 8; `rrdb` has 1, 2 and 4, `msrresnet` and `edsr` 2, 3 and 4, `compact` 1, 2, 3, 4 and 8.
        channels: width.
        blocks: residual blocks; 16, of `rrdb` 23. `compact` has none.
        convolutions: of `compact`, between its first and its last; 16.
        activation: of `compact`; `prelu` if left out.
        growth: of `rrdb`, channels that each convolution of a dense block adds; 32.
        res_scale: of `edsr`, factor of what a block adds; 1.
        init: a model's name or file to start from; empty for fresh weights. Other people's files are taken as they are,
            except for `srgan`, which are converted first.
        start: fresh weights: `random`, or `upscaler`, which makes the network repeat pixels and smooth them before its
            first step; `auto` takes `upscaler` where the network can, which is an `srgan` that reads 0..1, has no
            BatchNorm in its upsamplers and three channels or more.
        checkpointing: recompute each block in backward instead of keeping its activations.
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
        """Fills in the sizes of the architecture that are not given."""
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
        """The sizes, for architectures that are trained by their list of convolutions; None for `srgan`."""
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

    The defaults are Real-ESRGAN's first round, as its published training options have it (Wang et al. 2021).
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
    """The second round, with Real-ESRGAN's defaults for it."""

    blur: Range = (0.2, 1.5)
    blur_probability: Share = 0.8
    resize: Range = (0.3, 1.2)
    shrink_probability: Share = 0.4
    enlarge_probability: Share = 0.3
    noise: Range = (1.0, 25.0)
    poisson: Range = (0.05, 2.5)


class SecondOrderSection(_Section):
    """Two rounds of degradations and a final sinc filter (Wang et al. 2021, "Real-ESRGAN"), whose ranges are defaults.

    Attributes:
        first: round, on the original's scale.
        second: round, near the low-resolution image's.
        final_sinc_probability: of a sinc filter on the low-resolution image, before or after the last JPEG.
    """

    first: RoundSection = RoundSection()
    second: SecondRoundSection = SecondRoundSection()
    final_sinc_probability: Share = 0.8


class DegradationSection(_Section):
    """What happens to low-resolution images besides shrinking, drawn anew for every crop; (0, 0) is nothing.

    Attributes:
        blur: range of the standard deviation of a Gaussian on the original, in its pixels.
        noise: range of the standard deviation of Gaussian noise, in 8-bit steps.
        jpeg: range of the JPEG quality, 1..100.
        second_order: two rounds of blur, resize, noise and JPEG instead of these; an empty table takes Real-ESRGAN's.
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
    """Images.

    Attributes:
        train: folder of pictures, searched in depth.
        targets: folder of a picture for each original, of its name and size, that a stronger network made of the
            low-resolution one; empty for none. Pixel and content losses are then taken against a mixture of both.
        targets_weight: share of the target in the mixture; the original has the rest. Stages may have one of their own.
        lr: folder of the low-resolution picture of each original, of its name and exactly 1/scale of its size; empty
            where originals are to be shrunk.
        validation: folder of originals, or a table of a name and a folder for each of several sets, of which the first
            chooses the best model; empty for no validation.
        crop: side of a high-resolution crop, a multiple of the scale.
        batch: crops in a step, over all processes and accumulated parts.
        degradations: for models that must bear real photographs.
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
                if not re.fullmatch(r"[^/\s]+", name):  # part of curves' names, in which a slash begins a group
                    raise ValueError(f"a set cannot be called {name!r}; leave out slashes and spaces")
            return value or None
        if value is not None and not isinstance(value, str | Path):
            raise ValueError(f"must be a folder, or a table of names and folders, not {value!r}")
        return value

    @property
    def first_validation(self) -> str:
        """Folder of the validation set that chooses the best model; empty if there is none."""
        folders = self.validation
        return str(next(iter(folders.values())) if isinstance(folders, dict) else folders or "")

    @model_validator(mode="after")
    def _one_source(self) -> "DataSection":
        if self.lr is not None and self.degradations != DegradationSection():
            raise ValueError("degradations are of originals that are shrunk here; leave out either them or lr")
        return self


class ScheduleSection(_Section):
    """Learning rate over a stage, a function of the step alone.

    Attributes:
        kind: `constant`, `cosine` (half a wave, down to `floor` times the rate) or `steps`.
        warmup: steps over which the rate rises linearly from 0.
        floor: of `cosine`, as a factor.
        milestones: of `steps`, in steps.
        factor: of `steps`, applied at each milestone.
    """

    kind: Literal["constant", "cosine", "steps"] = "constant"
    warmup: Count = 0
    floor: Share = 0.01
    milestones: tuple[Positive, ...] = ()
    factor: Annotated[float, Field(gt=0, le=1)] = 0.1


# Ledig et al. 2017, section 3.2: beta1 = 0.9; the second is Adam's own.
Betas = tuple[Decay, Decay]
_ADAM: Betas = (0.9, 0.999)


class FeaturesSection(_Section):
    """The content loss' network.

    Attributes:
        vgg: `vgg19`, `vgg16`, or `keras-vgg16` for Keras' weights under torchvision's names.
        weights: `torchvision` downloads them, `random` is for tests, else a file.
        cut: the one layer whose features are compared, after its ReLU: `vgg54`, `conv5_4` or `features[:n]`.
        layers: several layers by their own names, each with its weight: `conv3_3` is before its ReLU, `relu3_3` after
            it. If neither is given, `gan` takes the preset's cut, and `pretrain` the last convolution of each of the
            five groups, before its ReLU, with the weights 0.1, 0.1, 1, 1, 1.
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
    """The generator without a discriminator: a pixel loss (SRResNet), a VGG content loss, or both.

    `steps = 0` leaves the stage out. Both losses compare with `data.targets` where there are some.

    Attributes:
        steps: of the stage.
        targets_weight: `data.targets_weight` of this stage, where it is another.
        loss: of pixels.
        pixel_weight: factor of it.
        content: distance of VGG features.
        content_weight: factor of it; 1 if `features` are given, else 0.
        feature_scale: factor on the features before the distance is taken.
        features: network and layers of the content loss.
        variation_weight: factor of the total variation.
        learning_rate: at its highest.
        betas: of Adam.
        schedule: of the learning rate.
        freeze_batchnorm_after: steps after which the generator's BatchNorms use their running statistics, which no
            longer move; never if left out. What trains is then the network that is shipped.
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
        """Whoever names features wants the content loss."""
        if isinstance(values, dict) and values.get("features") and "content_weight" not in values:
            return {**values, "content_weight": 1.0}
        return values

    @model_validator(mode="after")
    def _learns(self) -> "PretrainSection":
        if self.steps and not self.pixel_weight and not self.content_weight:
            raise ValueError("pixel_weight and content_weight are 0; the generator would learn nothing")
        return self


class GanSection(_Section):
    """Generator against discriminator. What is left out comes from the preset. `steps = 0` leaves the stage out.

    Pixel and content losses compare with `data.targets` where there are some; the discriminator's real images are the
    originals. `betas` and `freeze_batchnorm_after` are as in `pretrain`; the discriminator's BatchNorms are never
    frozen.

    Attributes:
        steps: of the stage.
        targets_weight: `data.targets_weight` of this stage, where it is another; 0 compares with the originals alone.
        learning_rate: of both networks, at its highest.
        betas: of Adam.
        schedule: of the learning rate.
        freeze_batchnorm_after: of the generator's.
        discriminator: `paper` ends in dense layers, `patch` has a logit for each 16x16 pixels; both have BatchNorm.
            `patch-sn` has spectral norm instead, and so has `unet-sn`, Real-ESRGAN's U-Net with a logit for each pixel.
        content: distance of VGG features.
        content_weight: factor of it.
        feature_scale: factor on the features before the distance is taken.
        adversarial: kind of game.
        adversarial_weight: factor of the generator's part.
        pixel: distance of images in 0..1.
        pixel_weight: factor of it.
        variation_weight: factor of the total variation.
        discriminator_average: the discriminator minimises `(real + fake) / 2` if true, else their sum.
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
    """How the run is conducted.

    Attributes:
        output: folder of checkpoints, models and curves.
        seed: of weights and crops.
        device: `auto` is CUDA where there is a device.
        precision: `bf16` runs the networks under autocast; weights, statistics and losses stay in fp32.
        kernels: `fused` computes with this package's kernels, `reference` with PyTorch's; `auto` takes ours where they
            can be had, which it says where not, and are faster.
        graphs: on a CUDA device, and in a single process, whether steps are recorded as a CUDA graph and replayed.
        threads: of the CPU; all if 0.
        accumulate: parts that a batch is cut into; BatchNorm sees one part at a time.
        clip: largest norm of a network's gradient; 0 for no limit.
        ema: decay of the averaged generator that is validated and saved; 0 for no averaging.
        log_every: steps between entries in the curves.
        validate_every: steps between validations.
        save_every: steps between checkpoints.
        keep: how many checkpoints are kept.
        metadata: what else is recorded in model files, e.g. data and licence.
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
    """A whole run."""

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
        """The discriminator that the run or its preset names."""
        return self.gan.discriminator or PRESETS[self.generator.preset].discriminator


def read_config(path: Path, overrides: list[str] | None = None) -> TrainConfig:
    """Reads a configuration and applies `key=value` overrides, e.g. `gan.steps=100`.

    Values of overrides are read as TOML; what is no TOML value is taken as text.

    Raises:
        TrainingError: unreadable file, unknown key, or value out of range; the message names the key and what it may
            be.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # tomllib's own, other encodings, numbers of thousands of digits
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
    """One problem in words: the key, what is wrong, what is allowed."""
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


# What pydantic says of a value of another type, in TOML's words.
_MESSAGES = {
    **dict.fromkeys(("int_type", "int_from_float", "int_parsing", "int_parsing_size"), "must be a whole number"),
    **dict.fromkeys(("float_type", "float_parsing"), "must be a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "must be true or false"),
    **dict.fromkeys(("string_type", "path_type"), "must be text"),
    **dict.fromkeys(("tuple_type", "list_type"), "must be a list"),
}
_SECTION_TYPES = ("dict_type", "model_type", "model_attributes_type")
_MOST_SHOWN = 80
_PAIR = 2  # all lists of a fixed length


def _shown(value: object) -> str:
    """A value as in TOML, where that is other than in Python."""
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
        alternatives = get_args(annotation) or (annotation,)  # a section, or a section and None
        sections = [a for a in alternatives if isinstance(a, type) and issubclass(a, BaseModel)]
        if not sections:
            return []
        model = sections[0]
    return list(model.model_fields)
