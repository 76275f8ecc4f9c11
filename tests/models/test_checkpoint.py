"""A generator file gives back what was written, or says in one error what is wrong with it."""

import json
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import srgan_fast.models
from srgan_fast.architectures.srgan import expected_shapes, infer_config
from srgan_fast.errors import ModelError
from srgan_fast.models import (
    ColourMap,
    Conventions,
    Generator,
    GeneratorConfig,
    GeneratorFile,
    generator_config,
    load_generator,
    read_generator,
    save_generator,
    shipped_models,
    write_generator,
)
from srgan_fast.models import checkpoint as checkpoint_module
from srgan_fast.models.checkpoint import FORMAT

from .conftest import MakeGenerator

Weights = dict[str, Any]
CONFIG = GeneratorConfig(channels=4, blocks=1)

small_configs = st.builds(
    GeneratorConfig,
    scale=st.sampled_from([2, 4, 8]),
    channels=st.integers(2, 6),  # with one channel, a slope per channel and a shared one are the same
    blocks=st.integers(0, 12),
    block_bias=st.booleans(),
    upsample_bn=st.booleans(),
    prelu=st.sampled_from(["shared", "channel"]),
    conventions=st.builds(
        Conventions,
        block_eps=st.floats(1e-8, 1),
        upsample_eps=st.floats(1e-8, 1),
        output=st.sampled_from(["linear", "tanh"]),
        lr_map=st.builds(ColourMap, st.tuples(*[st.floats(0.1, 9)] * 3), st.tuples(*[st.floats(-9, 9)] * 3)),
    ),
)


def random_weights(config: GeneratorConfig) -> Weights:
    rng = np.random.default_rng(5)
    return {name: rng.uniform(0.1, 1, shape).astype(np.float32) for name, shape in expected_shapes(config).items()}


@pytest.fixture
def good(tmp_path: Path) -> GeneratorFile:
    return write_generator(random_weights(CONFIG), CONFIG.conventions, tmp_path / "good.safetensors")


@pytest.fixture
def rewritten(good: GeneratorFile, tmp_path: Path) -> Callable[..., Path]:
    """Writes the good file again past all checks, with other tensors or another record."""

    def write(weights: Weights | None = None, **metadata: str | None) -> Path:
        record = {**good.metadata, **metadata}
        kept = {name: text for name, text in record.items() if text is not None}
        path = tmp_path / "rewritten.safetensors"
        safetensors.numpy.save_file(good.weights if weights is None else weights, path, kept)
        return path

    return write


def refused(path: Path, message: str | None = None) -> str:
    """The text of the error that reading gives; one line, and it names the file."""
    with pytest.raises(ModelError, match=message) as error:
        read_generator(path)
    text = str(error.value)
    assert str(path) in text
    assert "\n" not in text
    return text


@pytest.mark.parametrize("preset", ["paper", "pytorch-gan"])
@pytest.mark.parametrize("prelu", ["shared", "channel"])
@pytest.mark.parametrize(("scale", "channels", "blocks"), [(4, 8, 2), (2, 1, 0), (8, 3, 1), (4, 2, 16), (2, 5, 11)])
def test_round_trip_keeps_function_sizes_and_conventions(
    make_generator: MakeGenerator, tmp_path: Path, preset: str, prelu: Any, scale: int, channels: int, blocks: int
) -> None:
    config = replace(generator_config(preset, scale=scale, channels=channels, blocks=blocks), prelu=prelu)
    generator = make_generator(config)
    path = tmp_path / "model.safetensors"
    written = save_generator(generator, path, preset)
    back = load_generator(path)
    assert back.config == (config if channels > 1 else replace(config, prelu="shared"))
    assert written.config == back.config
    assert not back.training
    lr = torch.rand(1, 3, 5, 4)
    with torch.no_grad():
        assert torch.equal(back(lr), generator(lr))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(config=small_configs)
def test_sizes_and_conventions_are_inferred(config: GeneratorConfig, tmp_path: Path) -> None:
    weights = random_weights(config)
    path = tmp_path / "any.safetensors"
    written = write_generator(weights, config.conventions, path)
    read = read_generator(path)
    assert read.config == written.config == config
    assert read.weights.keys() == weights.keys()
    assert all(np.array_equal(read.weights[name], array) for name, array in weights.items())
    assert read.metadata == written.metadata


def test_metadata_is_kept_beside_the_preset(make_generator: MakeGenerator, tmp_path: Path) -> None:
    path = tmp_path / "Näme with spaces.v2.safetensors"
    metadata = {"licence": "CC-BY-4.0", "trained_on": "Fotos — 800", "preset": "overruled"}
    save_generator(make_generator(CONFIG), path, "paper", metadata)
    file = read_generator(path)
    assert file.metadata.items() >= {"licence": "CC-BY-4.0", "trained_on": "Fotos — 800", "preset": "paper"}.items()
    assert file.metadata["format"] == FORMAT
    assert file.name == "Näme with spaces.v2"


def test_callers_cannot_overrule_format_and_conventions(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    write_generator(random_weights(CONFIG), CONFIG.conventions, path, {"format": "other", "conventions": "none"})
    assert read_generator(path).config == CONFIG


def test_a_file_that_was_read_is_loaded_without_reading_again(good: GeneratorFile, tmp_path: Path) -> None:
    (tmp_path / "good.safetensors").unlink()
    assert load_generator(good).config == CONFIG


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_generators_of_any_precision_are_saved_as_float32(
    make_generator: MakeGenerator, tmp_path: Path, dtype: torch.dtype
) -> None:
    generator = make_generator(CONFIG).to(dtype)
    file = save_generator(generator, tmp_path / "model.safetensors")
    assert {array.dtype for array in file.weights.values()} == {np.dtype(np.float32)}
    expected = generator.state_dict()["head.conv.weight"].float().numpy()
    assert np.array_equal(read_generator(tmp_path / "model.safetensors").weights["head.conv.weight"], expected)


def test_batchnorm_counters_are_left_out(make_generator: MakeGenerator, tmp_path: Path) -> None:
    save_generator(make_generator(CONFIG), tmp_path / "model.safetensors")
    stored = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    assert stored.keys() == expected_shapes(CONFIG).keys()


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_float_precisions_are_read_as_float32(
    good: GeneratorFile, rewritten: Callable[..., Path], dtype: type
) -> None:
    file = read_generator(rewritten({name: array.astype(dtype) for name, array in good.weights.items()}))
    assert {array.dtype for array in file.weights.values()} == {np.dtype(np.float32)}


def test_bfloat16_is_read_as_float32(good: GeneratorFile, tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(array).bfloat16() for name, array in good.weights.items()}
    safetensors.torch.save_file(tensors, tmp_path / "half.safetensors", good.metadata)
    weights = read_generator(tmp_path / "half.safetensors").weights
    assert all(np.array_equal(weights[name], tensor.float().numpy()) for name, tensor in tensors.items())


@pytest.mark.parametrize("dtype", [torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn, torch.complex64], ids=str)
def test_dtypes_that_are_no_weights_are_refused(good: GeneratorFile, tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {name: torch.from_numpy(array) for name, array in good.weights.items()}
    tensors["tail.bias"] = tensors["tail.bias"].to(dtype)
    path = tmp_path / "other.safetensors"
    safetensors.torch.save_file(tensors, path, good.metadata)
    refused(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300], ids=str)
@pytest.mark.parametrize("name", ["tail.bias", "blocks.0.bn1.running_var", "head.conv.weight"])
def test_weights_that_are_not_finite_are_refused(
    good: GeneratorFile, rewritten: Callable[..., Path], tmp_path: Path, name: str, value: float
) -> None:
    bad = good.weights[name].astype(np.float64)
    bad.flat[-1] = value
    weights = {**good.weights, name: bad}
    refused(rewritten(weights), f"{re.escape(name)} holds values that are not finite")
    with pytest.raises(ModelError, match=f"{re.escape(name)} holds values that are not finite"):
        write_generator(weights, CONFIG.conventions, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.parametrize("name", sorted(expected_shapes(GeneratorConfig(channels=4, blocks=2, upsample_bn=True))))
def test_every_missing_tensor_is_noticed(name: str) -> None:
    weights = random_weights(GeneratorConfig(channels=4, blocks=2, upsample_bn=True))
    del weights[name]
    with pytest.raises(ModelError, match=r"^somewhere: "):
        infer_config(weights, CONFIG.conventions, "somewhere")


@pytest.mark.parametrize("name", sorted(expected_shapes(CONFIG)))
@pytest.mark.parametrize("change", ["longer", "flat", "empty"])
def test_every_wrong_shape_is_noticed(name: str, change: str) -> None:
    weights = random_weights(CONFIG)
    old = weights[name]
    weights[name] = {
        "longer": lambda: np.concatenate([old, old[:1], old[:1]]),
        "flat": lambda: old.reshape(1, -1),
        "empty": lambda: old[:0],
    }[change]()
    with pytest.raises(ModelError, match=r"^somewhere: "):
        infer_config(weights, CONFIG.conventions, "somewhere")


@pytest.mark.parametrize(
    "name",
    [
        "extra",
        "head.bn.weight",
        "blocks.2.conv1.weight",
        "blocks.00.conv1.weight",
        "blocks.0.conv3.weight",
        "blocks.1000000000000.conv1.weight",
        f"blocks.{'9' * 5000}.conv1.weight",
        "upsample.2.conv.weight",
        "upsample.1000000000000.conv.weight",
        "tail.act.weight",
        "",
    ],
    ids=lambda name: name[:40] or "nameless",
)
def test_surplus_tensors_are_noticed(name: str) -> None:
    weights = random_weights(CONFIG)
    weights[name] = np.zeros((4, 4, 3, 3), np.float32)
    with pytest.raises(ModelError, match=r"^somewhere: "):
        infer_config(weights, CONFIG.conventions, "somewhere")


def test_errors_say_which_tensors_and_which_file(good: GeneratorFile, rewritten: Callable[..., Path]) -> None:
    weights = dict(good.weights)
    weights["surplus"] = weights.pop("blocks.0.bn2.bias")
    refused(rewritten(weights), r"it lacks blocks\.0\.bn2\.bias and has surplus")
    wrong = {**good.weights, "tail.bias": np.zeros(4, np.float32)}
    refused(rewritten(wrong), r"tail\.bias has shape \(4,\), expected \(3,\)")
    without = {name: array for name, array in good.weights.items() if not name.startswith("upsample")}
    refused(rewritten(without), "scale is 1")


@pytest.mark.parametrize(
    ("weights", "found"), [({}, "found nothing"), ({"conv_first.weight": np.zeros((4, 3, 3, 3))}, "conv_first")]
)
def test_other_networks_are_refused_with_what_was_found(
    rewritten: Callable[..., Path], weights: Weights, found: str
) -> None:
    refused(rewritten(weights), f"not an SRGAN generator .*{found}")


@pytest.mark.parametrize("found", [None, "pt", "srgan_fast.generator/2", ""])
def test_foreign_safetensors_are_refused_with_a_hint(rewritten: Callable[..., Path], found: str | None) -> None:
    refused(rewritten(format=found), "not a generator of srgan_fast .*srgan-fast convert")


def conventions_with(**changes: object) -> str:
    return json.dumps({**asdict(CONFIG.conventions), **changes})


def gain(*values: object) -> dict[str, object]:
    return {"gain": values, "offset": [0, 0, 0]}


@pytest.mark.parametrize(
    "record",
    [
        None,
        "",
        "{}",
        "[]",
        "null",
        "{",
        "1" * 5000,
        "[" * 100_000,
        '{"lr_map":' * 50_000,
        conventions_with(output="relu"),
        conventions_with(output=[]),
        conventions_with(surprise=1),
        conventions_with(block_eps="small"),
        conventions_with(block_eps=None),
        conventions_with(block_eps=-1e-5),
        conventions_with(block_eps=float("nan")),
        conventions_with(upsample_eps=float("inf")),
        conventions_with(upsample_eps=[1]),
        conventions_with(lr_map=[]),
        conventions_with(lr_map=None),
        conventions_with(hr_map={"gain": [1, 1, 1]}),
        conventions_with(hr_map=gain(1, 1)),
        conventions_with(hr_map=gain(1, 1, 1, 1)),
        conventions_with(hr_map=gain(0, 1, 1)),
        conventions_with(hr_map=gain(1, "0", 1)),
        conventions_with(hr_map=gain(1, 1e-320, 1)),
        conventions_with(hr_map=gain(1, 1, 10**400)),
        conventions_with(hr_map=gain(1, 1, float("nan"))),
        conventions_with(lr_map=gain(1, 1, {})),
        conventions_with(lr_map={"gain": [1, 1, 1], "offset": [0, 0, float("inf")]}),
    ],
    ids=lambda record: str(record)[:30] if len(str(record)) < 40 or record[0] != "{" else record[-45:],
)
def test_damaged_conventions_are_refused(rewritten: Callable[..., Path], record: str | None) -> None:
    assert len(refused(rewritten(conventions=record), "its metadata is damaged")) < 600


def loads_or_refuses(path: Path) -> bool:
    """Whether the file is a generator; then it must work, else the only error there may be is ours."""
    try:
        generator = load_generator(path)
    except ModelError:
        return False
    with torch.no_grad():
        out = generator(torch.rand(1, 3, 2, 3))
    assert out.shape == (1, 3, 2 * generator.scale, 3 * generator.scale)
    return True


def test_truncated_files_are_refused_at_every_length(good: GeneratorFile, tmp_path: Path) -> None:
    content = (tmp_path / "good.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    lengths = [*range(40), *range(40, header, 23), *range(header - 2, header + 9), *range(header, len(content), 997)]
    path = tmp_path / "cut.safetensors"
    for length in [*lengths, len(content) - 1]:
        path.write_bytes(content[:length])
        refused(path, "not a readable safetensors file")
    path.write_bytes(content + b"\0")
    refused(path)


@pytest.mark.parametrize("seed", range(4))
def test_random_flips_in_the_header_give_a_working_generator_or_our_error(
    good: GeneratorFile, tmp_path: Path, seed: int
) -> None:
    content = (tmp_path / "good.safetensors").read_bytes()
    header = 8 + struct.unpack("<Q", content[:8])[0]
    rng = random.Random(seed)
    path = tmp_path / "flipped.safetensors"
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(rng.choice([1, 1, 2, 8])):
            damaged[rng.randrange(header)] = rng.randrange(256)
        path.write_bytes(damaged)
        loads_or_refuses(path)


@pytest.mark.parametrize("seed", range(2))
def test_random_flips_in_the_record_of_conventions_give_a_working_generator_or_our_error(
    good: GeneratorFile, rewritten: Callable[..., Path], seed: int
) -> None:
    rng = random.Random(seed)
    text = good.metadata["conventions"]
    outcomes = set()
    for _ in range(200):
        position = rng.randrange(len(text))
        damaged = text[:position] + rng.choice('0123456789-+eE.,:"[]{} NaInfty') + text[position + 1 :]
        outcomes.add(loads_or_refuses(rewritten(conventions=damaged)))
    assert outcomes == {True, False}


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" * 9, b"\xff" * 64, bytes(64)])
def test_other_files_are_not_readable_safetensors(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(path, "not a readable safetensors file")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ".bin", ".PTH"])
def test_pytorch_files_are_answered_with_how_to_convert_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    torch.save({}, path)
    refused(path, f"srgan-fast convert {re.escape(str(path))}")


@pytest.mark.parametrize("name", ["no-such-model", "folder/none.safetensors", "a\0b", "x" * 300, "y" * 5000, "."])
def test_unknown_names_list_the_shipped_models(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoint_module, "WEIGHTS_FOLDER", tmp_path)
    for shipped in ("srresnet-x4", "srgan-x4"):
        write_generator(random_weights(CONFIG), CONFIG.conventions, tmp_path / f"{shipped}.safetensors")
    for asked in (name, Path(name)):
        with pytest.raises(
            ModelError, match=r"shipped models: srgan-x4, srresnet-x4; others by name: srgan-fast models --available$"
        ):
            read_generator(asked)


def test_a_package_without_models_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoint_module, "WEIGHTS_FOLDER", tmp_path / "missing")
    assert shipped_models() == []
    with pytest.raises(ModelError, match="shipped models: none"):
        read_generator()


def test_shipped_models_are_found_by_name_and_a_path_is_a_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shipped, here = tmp_path / "shipped", tmp_path / "here"
    monkeypatch.setattr(checkpoint_module, "WEIGHTS_FOLDER", shipped)
    two = replace(CONFIG, scale=2)
    write_generator(random_weights(CONFIG), CONFIG.conventions, shipped / "model.v1.safetensors")
    write_generator(random_weights(two), two.conventions, here / "model.v1.safetensors")
    assert shipped_models() == ["model.v1"]
    assert read_generator("model.v1").config.scale == 4
    assert read_generator(here / "model.v1.safetensors").config.scale == 2
    assert read_generator(str(here / "model.v1.safetensors")).config.scale == 2
    with pytest.raises(ModelError, match="is neither a file"):
        read_generator("../shipped/model.v1")


def test_folders_and_missing_files_are_told_apart(tmp_path: Path) -> None:
    refused(tmp_path, "is a folder")
    refused(tmp_path / "none.safetensors", "is neither a file nor a shipped model")


@contextmanager
def full_disk() -> Iterator[None]:
    """Lets no file grow beyond a kilobyte."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failing_write_keeps_the_old_file_and_leaves_nothing_else(good: GeneratorFile, tmp_path: Path) -> None:
    path = tmp_path / "good.safetensors"
    before = path.read_bytes()
    with pytest.raises(ModelError, match=r"good\.safetensors: cannot be written"), full_disk():
        write_generator(random_weights(replace(CONFIG, scale=2)), CONFIG.conventions, path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["good.safetensors"]


def test_targets_that_cannot_be_files_are_refused(good: GeneratorFile, tmp_path: Path) -> None:
    (tmp_path / "folder.safetensors").mkdir()
    for path in (tmp_path / "folder.safetensors", tmp_path / "good.safetensors" / "below.safetensors"):
        with pytest.raises(ModelError, match="cannot be written"):
            write_generator(good.weights, CONFIG.conventions, path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["folder.safetensors", "good.safetensors"]


@pytest.mark.parametrize("name", ["model", "model.pth", "model.safetensors.bak"])
def test_files_are_written_under_their_own_suffix_only(good: GeneratorFile, tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelError, match=r"model files end in \.safetensors"):
        write_generator(good.weights, CONFIG.conventions, tmp_path / name)
    assert not (tmp_path / name).exists()


def test_weights_that_are_no_generator_are_not_written(good: GeneratorFile, tmp_path: Path) -> None:
    weights = {name: array for name, array in good.weights.items() if name != "tail.bias"}
    with pytest.raises(ModelError, match=r"lacks tail\.bias"):
        write_generator(weights, CONFIG.conventions, tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


def test_unknown_presets_are_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="unknown preset 'esrgan'"):
        save_generator(Generator(CONFIG), tmp_path / "model.safetensors", "esrgan")
    assert list(tmp_path.iterdir()) == []


def in_new_python(code: str, *arguments: object) -> str:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_reading_and_folding_need_no_torch(good: GeneratorFile, tmp_path: Path) -> None:
    code = """
import sys
from srgan_fast.models import read_model
file = read_model(sys.argv[1])
assert "torch" not in sys.modules
print(file.scale, file.architecture)
"""
    assert in_new_python(code, tmp_path / "good.safetensors") == "4 SRGAN generator, 1 blocks of 4 channels"


def test_without_torch_loading_a_module_says_what_to_install(good: GeneratorFile, tmp_path: Path) -> None:
    code = """
import sys
sys.modules["torch"] = None
from srgan_fast.errors import ModelError
from srgan_fast.models import load_generator
try:
    load_generator(sys.argv[1])
except ModelError as error:
    print(error)
"""
    assert "torch: pip install 'srgan_fast[train]'" in in_new_python(code, tmp_path / "good.safetensors")


def test_the_packages_front_door_knows_its_names_only() -> None:
    assert all(hasattr(srgan_fast.models, name) for name in srgan_fast.models.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Discriminator'"):
        _ = srgan_fast.models.Discriminator
