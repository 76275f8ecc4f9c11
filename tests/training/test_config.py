"""A configuration is checked as a whole, and an error names the key, what is wrong with it, and what is allowed."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from srgan_fast.architectures import Settings
from srgan_fast.architectures.compact import CompactSettings
from srgan_fast.architectures.edsr import EDSRSettings, MSRResNetSettings
from srgan_fast.architectures.rrdb import RRDBSettings
from srgan_fast.errors import TrainingError
from srgan_fast.training import TrainConfig, read_config

Write = Callable[[str], Path]
CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.toml"))
SMALL = '[data]\ntrain = "photos"\n[pretrain]\nsteps = 10\n'


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def make(text: str) -> Path:
        path = tmp_path / "run.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return make


@pytest.fixture
def small(write: Write) -> Path:
    return write(SMALL)


def test_there_are_configurations() -> None:
    assert len(CONFIGS) >= 3


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    config = read_config(path, ["data.train=photos"])
    assert config.data.train == Path("photos")
    assert config.run.output == Path("runs") / path.stem
    scale = re.search(r"-x(\d)(-|$)", path.stem)
    assert scale is not None
    assert config.generator.scale == int(scale[1])


def test_only_data_and_steps_must_be_given(small: Path) -> None:
    config = read_config(small)
    assert config == TrainConfig.model_validate({"data": {"train": "photos"}, "pretrain": {"steps": 10}})
    assert (config.generator.preset, config.generator.scale, config.data.batch) == ("paper", 4, 16)


def test_configuration_survives_json(small: Path) -> None:
    config = read_config(small, ["gan.schedule={kind='steps', milestones=[3, 5]}", "run.metadata.licence='CC0: a, b'"])
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("override", "place", "expected"),
    [
        ("pretrain.steps=7", "pretrain.steps", 7),
        ("pretrain.learning_rate=2e-3", "pretrain.learning_rate", 2e-3),
        (" run.seed = 3 ", "run.seed", 3),
        ("run.precision=bf16", "run.precision", "bf16"),
        ("run.precision='bf16'", "run.precision", "bf16"),
        ("data.train=a folder/with = signs", "data.train", Path("a folder/with = signs")),
        ("data.validation=held out", "data.validation", Path("held out")),
        ("data.validation=", "data.validation", None),
        (
            "data.validation={Set5='a', Set14='b c'}",
            "data.validation",
            {"Set5": Path("a"), "Set14": Path("b c")},
        ),
        ("data.validation.Set5=a", "data.validation", {"Set5": Path("a")}),
        ("data.targets=a teacher's", "data.targets", Path("a teacher's")),
        ("data.targets=", "data.targets", None),
        ("data.lr=", "data.lr", None),
        ("pretrain.betas=[0.9, 0.99]", "pretrain.betas", (0.9, 0.99)),
        ("generator.checkpointing=true", "generator.checkpointing", True),
        ("data.degradations.blur=[0.2, 1.5]", "data.degradations.blur", (0.2, 1.5)),
        ("data.degradations.second_order={}", "data.degradations.second_order.first.jpeg", (30, 95)),
        ("data.degradations.second_order={}", "data.degradations.second_order.second.blur", (0.2, 1.5)),
        (
            "data.degradations.second_order.second.jpeg=[50, 60]",
            "data.degradations.second_order.second.jpeg",
            (50, 60),
        ),
        ("gan.schedule.milestones=[1, 2]", "gan.schedule.milestones", (1, 2)),
        ("gan.schedule={kind='cosine', floor=0.5}", "gan.schedule.floor", 0.5),
        (
            "pretrain.features.layers={conv1_2=0.1, relu3_3=1}",
            "pretrain.features.layers",
            {"conv1_2": 0.1, "relu3_3": 1},
        ),
        ("gan.features.weights=/weights/vgg19.pth", "gan.features.weights", "/weights/vgg19.pth"),
        ("run.metadata.licence=CC0", "run.metadata", {"licence": "CC0"}),
        ("run.output=läufe/neu", "run.output", Path("läufe/neu")),
    ],
)
def test_overrides_set_one_value(small: Path, override: str, place: str, expected: Any) -> None:
    value: Any = read_config(small, [override])
    for name in place.split("."):
        value = getattr(value, name)
    assert value == expected


def test_the_last_override_wins_and_others_stay(write: Write) -> None:
    path = write(SMALL + "[data.degradations]\nnoise = [1, 2]\njpeg = [50, 60]\n")
    config = read_config(path, ["data.degradations.noise=[3, 4]", "pretrain.steps=1", "pretrain.steps=2"])
    assert (config.data.degradations.noise, config.data.degradations.jpeg) == ((3.0, 4.0), (50, 60))
    assert config.pretrain.steps == 2


@pytest.mark.parametrize("override", ["", "steps", "=3", " = 3", "gan.steps", "--steps 3"])
def test_what_is_no_override_is_refused(small: Path, override: str) -> None:
    with pytest.raises(TrainingError, match="is not an override; write key=value") as error:
        read_config(small, [override])
    assert repr(override) in str(error.value)


def test_override_below_a_value_is_refused(small: Path) -> None:
    with pytest.raises(TrainingError, match=r"'data\.train\.x=1': train is a value, not a section"):
        read_config(small, ["data.train.x=1"])


def message(path: Path, *overrides: str) -> str:
    with pytest.raises(TrainingError) as error:
        read_config(path, list(overrides))
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith(f"{path}: ")
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("override", "near", "listed"),
    [
        ("gan.stpes=3", "steps", "learning_rate"),
        ("run.ouput=x", "output", "precision"),
        ("dta.train=x", "data", "pretrain"),
        ("gan.schedule.warmpu=3", "warmup", "milestones"),
        ("data.degradations.blurr=[0, 1]", "blur", "jpeg"),
        ("gan.features.weight=x", "weights", "vgg"),
        ("pretrain.features.layer=x", "layers", "cut"),
        ("data.degradations.second_order.first.jpg=[1, 2]", "jpeg", "blur"),
    ],
)
def test_unknown_keys_are_named_with_the_nearest_and_all_that_there_are(
    small: Path, override: str, near: str, listed: str
) -> None:
    text = message(small, override)
    key = "dta" if override.startswith("dta") else override.partition("=")[0]
    assert text.startswith(f"{key} is unknown; did you mean {near}? valid keys: ")
    assert {near, listed} <= set(text.rpartition("valid keys: ")[2].split(", "))


@pytest.mark.parametrize("override", ["zzz=1", "gan.=1", "gan.0=1", ".=1", "gan..steps=1"])
def test_keys_near_to_nothing_still_list_what_there_is(small: Path, override: str) -> None:
    text = message(small, override)
    assert " is unknown; valid keys: " in text
    assert "did you mean" not in text


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("generator.preset=papier", ["generator.preset", "paper, pytorch-gan"]),
        ("generator.scale=3", ["generator.scale", "3", "2, 4 or 8"]),
        ("generator.channels=0", ["generator.channels", "0", "greater than or equal to 1"]),
        ("generator.start=bicubic", ["generator.start", "'bicubic'", "'auto', 'upscaler' or 'random'"]),
        ("pretrain.steps=-1", ["pretrain.steps", "-1", "greater than or equal to 0"]),
        ("pretrain.steps=many", ["pretrain.steps", "'many'", "must be a whole number"]),
        ("pretrain.steps=1.5", ["pretrain.steps", "1.5", "must be a whole number"]),
        ("pretrain.freeze_batchnorm_after=-1", ["pretrain.freeze_batchnorm_after", "-1", "greater than or equal to 0"]),
        ("pretrain.loss=l2", ["pretrain.loss", "'l2'", "'l1' or 'mse'"]),
        ("pretrain.learning_rate=0", ["pretrain.learning_rate", "0", "greater than 0"]),
        ("pretrain.learning_rate=1", ["pretrain.learning_rate", "1", "less than 1"]),
        ("pretrain.learning_rate=nan", ["pretrain.learning_rate", "nan"]),
        ("pretrain.schedule.kind=linear", ["pretrain.schedule.kind", "'constant', 'cosine' or 'steps'"]),
        ("pretrain.schedule.floor=nan", ["pretrain.schedule.floor", "nan"]),
        ("gan.schedule.milestones=[10, 0]", ["gan.schedule.milestones.1", "0", "greater than or equal to 1"]),
        ("gan.adversarial=wgan", ["gan.adversarial", "'wgan'", "'lsgan', 'bce' or 'ragan'"]),
        ("gan.adversarial_weight=-1", ["gan.adversarial_weight", "-1", "greater than or equal to 0"]),
        ("gan.content_weight=inf", ["gan.content_weight", "inf", "finite"]),
        ("gan.discriminator=patches", ["gan.discriminator", "'paper', 'patch', 'patch-sn' or 'unet-sn'"]),
        ("gan.features.vgg=vgg11", ["gan.features.vgg", "'vgg19', 'vgg16' or 'keras-vgg16'"]),
        ("run.device=tpu", ["run.device", "'auto', 'cpu' or 'cuda'"]),
        ("run.precision=fp16", ["run.precision", "'fp32' or 'bf16'"]),
        ("run.ema=1", ["run.ema", "1", "less than 1"]),
        ("run.keep=0", ["run.keep", "0", "greater than or equal to 1"]),
        ("run.metadata.year=2020", ["run.metadata.year", "2020", "must be a string"]),
        ("data.targets_weight=1.1", ["data.targets_weight", "1.1", "less than or equal to 1"]),
        ("data.targets_weight=-0.1", ["data.targets_weight", "-0.1", "greater than or equal to 0"]),
        ("data.targets_weight=nan", ["data.targets_weight", "nan"]),
        ("pretrain.betas=[0.9, 1]", ["pretrain.betas.1", "1", "less than 1"]),
        ("data.degradations.blur=[2, 1]", ["data.degradations", "blur must be [lowest, highest]", "[2.0, 1.0]"]),
        (
            "data.degradations={blur=[0, 1], second_order={}}",
            ["data.degradations", "second_order replaces blur, noise and jpeg"],
        ),
        (
            "data.degradations.second_order.first.resize=[1.1, 2]",
            ["data.degradations.second_order.first", "lowest <= 1 <= highest"],
        ),
        ("data.degradations.second_order.first.resize=[0, 2]", ["data.degradations.second_order.first", "0 < lowest"]),
        (
            "data.degradations.second_order.second.noise_probability=0.6",
            ["data.degradations.second_order.second", "noise_probability and poisson_probability", "1.1"],
        ),
        ("data.degradations.second_order.first.jpeg=[0, 9]", ["data.degradations.second_order.first.jpeg.0", "0"]),
        (
            "data.degradations.second_order.first.noise=[9, 3]",
            ["data.degradations.second_order.first", "noise must be"],
        ),
        ("data.degradations.blur=[0, inf]", ["data.degradations.blur.1", "inf", "finite"]),
        ("data.degradations.noise=[nan, 1]", ["data.degradations.noise.0", "nan"]),
        ("data.degradations.noise=3", ["data.degradations.noise", "3", "must be a list"]),
        ("data.degradations.jpeg=[0, 90]", ["data.degradations", "jpeg", "1..100"]),
        ("data.degradations.jpeg=[50, 101]", ["data.degradations.jpeg.1", "101", "less than or equal to 100"]),
        ("data.validation=3", ["data.validation", "a folder, or a table of names and folders, not 3"]),
        ("data.validation={a=3}", ["data.validation", "a must be a folder, not 3"]),
        ("data.validation={'a/b'='c'}", ["data.validation", "'a/b'", "leave out slashes and spaces"]),
        ("data=3", ["data", "3"]),
        ("gan=true", ["gan", "true", "must be a section with steps, "]),
    ],
)
def test_wrong_values_are_named_with_what_is_allowed(small: Path, override: str, parts: list[str]) -> None:
    text = message(small, override)
    assert text.startswith(parts[0])
    assert [part for part in parts if part not in text] == []


WHOLE, NUMBER, TEXT, LIST, PAIR = (
    f"must be {what}" for what in ("a whole number", "a number", "a string", "a list", "a list of 2 numbers")
)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("run.seed=9223372036854775808", "9223372036854775808: must be less than or equal to 9223372036854775807"),
        ("run.seed=1000000000000000000000000000000", f"{10**30}: must be less than or equal to 9223372036854775807"),
        ("run.seed=1e30", f"1e+30: {WHOLE}"),
        ("run.seed=inf", "inf: must be a finite number"),
        ("run.seed='3'", f"'3': {WHOLE}"),
        ("run.seed=[1, 2]", f"[1, 2]: {WHOLE}"),
        ("run.threads=1.5", f"1.5: {WHOLE}"),
        ("run.threads=[1]", f"[1]: {WHOLE}"),
        ("run.threads={most = 2}", f"a section: {WHOLE}"),
        ("run.threads=true", f"true: {WHOLE}"),
        ("run.threads=100000000000", "100000000000: must be less than or equal to 1024"),
        ("pretrain.learning_rate=[0.1]", f"[0.1]: {NUMBER}"),
        ("pretrain.learning_rate=fast", f"'fast': {NUMBER}"),
        ("pretrain.learning_rate={high = 1}", f"a section: {NUMBER}"),
        ("pretrain.learning_rate=2026-11-30", f"2026-11-30: {NUMBER}"),
        ("pretrain.learning_rate=false", f"false: {NUMBER}"),
        ("pretrain.betas=0.9", f"0.9: {LIST}"),
        ("pretrain.betas=[]", f"[]: {PAIR}"),
        ("pretrain.betas=[0.9]", f"[0.9]: {PAIR}"),
        ("pretrain.betas=[0.9, 0.9, 0.9]", f"[0.9, 0.9, 0.9]: {PAIR}"),
        ("pretrain.schedule=cosine", "'cosine': must be a section with kind, warmup, floor, milestones, factor"),
        ("pretrain.schedule.kind=['cosine']", "['cosine']: must be 'constant', 'cosine' or 'steps'"),
        ("pretrain.schedule.milestones=3", f"3: {LIST}"),
        ("pretrain.schedule.milestones={first = 1}", f"a section: {LIST}"),
        ("data.train=3", f"3: {TEXT}"),
        ("data.train=['a', 'b']", f"['a', 'b']: {TEXT}"),
        ("data.degradations.jpeg=50", f"50: {LIST}"),
        ("generator.blocks=[]", f"[]: {WHOLE}"),
        ("generator.architecture=3", f"3: {TEXT}"),
        ("generator.checkpointing=maybe", "'maybe': must be true or false"),
        ("run.graphs=1.5", "1.5: must be true or false"),
        ("run.output=3", f"3: {TEXT}"),
        ("run.metadata=[1]", "[1]: must be a section"),
        ("run.metadata=" + str(["a" * 9] * 20), str(["a" * 9] * 20)[:80] + "...: must be a section"),
    ],
    ids=lambda value: value[:40],
)
def test_values_of_another_type_are_told_in_the_words_of_the_file(small: Path, override: str, expected: str) -> None:
    assert message(small, override) == f"{override.partition('=')[0]} is {expected}"


@pytest.mark.parametrize("override", ["run.metadata.year=[1]", "pretrain.betas=['a', 0.9]", "gan.features=3", "data=3"])
def test_no_message_speaks_of_the_library_that_checks(small: Path, override: str) -> None:
    text = message(small, override)
    jargon = ("input", "Input", "instance", "tuple", "dictionary", "pathlib", "parse", "Section")
    assert [word for word in jargon if word in text] == []


def test_numbers_of_thousands_of_digits_are_no_traceback(write: Write) -> None:
    assert message(write(f"[data]\ntrain = 'a'\n[run]\nseed = {'9' * 5000}\n")).startswith("not a TOML file (")


def test_the_largest_seed_is_one_that_torch_takes(small: Path) -> None:
    seed = read_config(small, ["run.seed=9223372036854775807"]).run.seed
    torch.manual_seed(seed)
    torch.manual_seed(seed + 1)  # the discriminator's


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.crop=90"], "data.crop is 90; it must be a multiple of the scale 4"),
        (["generator.scale=8", "data.crop=36"], "data.crop is 36; it must be a multiple of the scale 8"),
        (["gan.steps=1", "data.crop=40"], "data.crop is 40; the paper's discriminator needs a multiple of 16"),
        (
            ["gan.steps=1", "gan.discriminator=unet-sn", "data.crop=92"],
            "data.crop is 92; the U-Net discriminator needs a multiple of 8",
        ),
        (["run.accumulate=3"], "data.batch is 16; it must be a multiple of run.accumulate"),
        (
            ["data.targets=better", "pretrain.steps=0", "gan.steps=1", "gan.content_weight=0"],
            "only pixel and content losses use data.targets; set pretrain.steps, gan.pixel_weight or "
            "gan.content_weight",
        ),
        (
            ["data.lr=small", "data.degradations.noise=[0, 1]"],
            "data: degradations apply only when originals are downscaled; leave out degradations or lr",
        ),
        (
            ["pretrain.pixel_weight=0"],
            "pretrain: pixel_weight and content_weight are 0; the generator would learn nothing",
        ),
        (
            ["pretrain.features={cut='vgg54', layers={conv5_4=1}}"],
            "pretrain.features: cut names one layer and layers name several; leave out one of them",
        ),
        (
            ["gan.features.layers={conv5_4=0}"],
            "gan.features: all weights of layers are 0; for no content loss set content_weight to 0",
        ),
        (["pretrain.steps=0"], "nothing to do: set pretrain.steps or gan.steps"),
    ],
)
def test_values_that_do_not_fit_each_other(small: Path, overrides: list[str], expected: str) -> None:
    assert message(small, *overrides) == expected


@pytest.mark.parametrize(
    "overrides",
    [
        ["data.crop=40"],
        ["data.crop=40", "gan.steps=1", "gan.discriminator=patch"],
        ["data.crop=40", "gan.steps=1", "generator.preset=pytorch-gan"],
        ["data.crop=40", "gan.steps=1", "gan.discriminator=unet-sn"],
        ["data.crop=44", "gan.steps=1", "gan.discriminator=patch-sn"],
        ["generator.scale=2", "data.crop=90"],
        ["run.accumulate=16"],
        ["data.targets=better", "data.targets_weight=0", "data.degradations.noise=[0, 1]"],
        ["data.targets=better", "data.targets_weight=1", "data.lr=small"],
        ["data.targets=better", "pretrain.steps=0", "gan.steps=1", "gan.content_weight=0", "gan.pixel_weight=0.1"],
        ["data.targets=better", "pretrain.steps=0", "gan.steps=1"],
        ["pretrain.pixel_weight=0", "pretrain.content_weight=1"],
    ],
    ids=str,
)
def test_values_that_do_fit(small: Path, overrides: list[str]) -> None:
    read_config(small, overrides)


def test_discriminator_is_the_presets_unless_given(small: Path) -> None:
    assert read_config(small).discriminator == "paper"
    assert read_config(small, ["generator.preset=pytorch-gan"]).discriminator == "patch"
    assert read_config(small, ["gan.discriminator=patch"]).discriminator == "patch"


def test_naming_features_asks_for_the_content_loss(small: Path) -> None:
    def weight(*overrides: str) -> float:
        return read_config(small, list(overrides)).pretrain.content_weight

    assert weight() == 0
    assert weight("pretrain.features.vgg=keras-vgg16") == 1
    assert weight("pretrain.features.vgg=vgg16", "pretrain.content_weight=0") == 0


def test_what_is_not_said_is_the_srgan_that_it_always_was(small: Path) -> None:
    generator = read_config(small).generator
    assert (generator.architecture, generator.scale, generator.channels, generator.blocks) == ("srgan", 4, 64, 16)
    assert generator.settings() is None


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("compact", CompactSettings(4, 64, 16, "prelu")),
        ("rrdb", RRDBSettings(4, 64, 23, 32)),
        ("msrresnet", MSRResNetSettings(4, 64, 16)),
        ("edsr", EDSRSettings(4, 64, 16, 1.0)),
    ],
)
def test_sizes_that_are_not_given_are_the_architectures(small: Path, architecture: str, settings: Settings) -> None:
    config = read_config(small, [f"generator.architecture={architecture}"])
    assert config.generator.settings() == settings
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["architecture=swinir"],
            "generator.architecture: must be one of srgan, rrdb, compact, edsr, msrresnet, not 'swinir'",
        ),
        (
            ["growth=16"],
            "generator.growth: srgan has no such size; leave it out. Its sizes are scale, channels, blocks",
        ),
        (
            ["architecture=compact", "blocks=3"],
            "generator.blocks: compact has no such size; leave it out. "
            "Its sizes are scale, channels, convolutions, activation",
        ),
        (["scale=3"], "generator.scale: srgan upscales by 2, 4 or 8, not by 3"),
        (["architecture=rrdb", "scale=3"], "generator.scale: rrdb upscales by 1, 2 or 4, not by 3"),
        (["architecture=edsr", "blocks=0"], "generator.blocks: edsr has at least 1 block, not 0"),
        (
            ["architecture=compact", "activation=gelu"],
            "generator.activation is 'gelu': must be 'prelu', 'relu' or 'leakyrelu'",
        ),
        (
            ["architecture=compact", "start=upscaler"],
            "generator.start: upscaler sets the head, BatchNorms and tail of srgan, which compact does not have; "
            "use random",
        ),
        (
            ["architecture=compact", "checkpointing=true"],
            "generator.checkpointing: compact has no blocks to recompute; leave it out",
        ),
    ],
    ids=str,
)
def test_settings_of_other_architectures_are_refused(small: Path, overrides: list[str], expected: str) -> None:
    assert message(small, *(f"generator.{override}" for override in overrides)) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["generator.architecture=rrdb", "generator.scale=2", "data.crop=94"],
            "data.crop is 94; rrdb of scale 2 unshuffles its images and needs a multiple of 4",
        ),
        (
            ["generator.architecture=edsr", "pretrain.freeze_batchnorm_after=3"],
            "pretrain.freeze_batchnorm_after: edsr has no BatchNorms; leave it out",
        ),
    ],
)
def test_values_that_do_not_fit_the_architecture(small: Path, overrides: list[str], expected: str) -> None:
    assert message(small, *overrides) == expected


def test_missing_sections_and_keys_are_named(write: Write) -> None:
    assert message(write("[pretrain]\nsteps = 1\n")) == "data is missing"
    assert message(write("[data]\ncrop = 96\n[pretrain]\nsteps = 1\n")) == "data.train is missing"


def test_all_problems_are_told_at_once(write: Write) -> None:
    text = message(write("[data]\ncorp = 96\n[run]\nseed = -1\nkeep = 0\n"))
    assert text.count("; ") >= 3
    for part in ("data.train is missing", "data.corp is unknown", "run.seed is -1", "run.keep is 0"):
        assert part in text


@pytest.mark.parametrize("text", ["[data", "train = ", "a = 1\na = 2", "train = 'x' 'y'", "\0"], ids=repr)
def test_bad_toml_is_no_traceback(write: Write, text: str) -> None:
    assert message(write(text)).startswith("not a TOML file (")


def test_files_that_cannot_be_read(tmp_path: Path, write: Write) -> None:
    assert message(tmp_path / "none.toml") == "cannot be read (No such file or directory)"
    assert message(tmp_path) == "cannot be read (Is a directory)"
    path = write("")
    path.write_bytes(b"[data]\ntrain = '\xff'\n")
    assert message(path).startswith("not a TOML file (")


def test_a_configuration_does_not_change(small: Path) -> None:
    config = read_config(small)
    with pytest.raises(ValidationError, match="frozen"):
        config.run.seed = 5
