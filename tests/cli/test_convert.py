"""`srgan-fast convert` makes another project's file ours without replacing anything unasked."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from srgan_fast.models import read_generator

LAYERS = {"conv1": "0", "bn1": "1", "act": "2", "conv2": "3", "bn2": "4"}


@pytest.fixture
def foreign(folder: Path, tiny_model: Path) -> Path:
    """The small model under the names of Lornatang/SRGAN-PyTorch, as torch.save writes it."""
    ours = read_generator(tiny_model)
    theirs = {}
    for name, array in ours.weights.items():
        part, *rest = name.split(".")
        if part == "head":
            new = ["conv_block1", {"conv": "0", "act": "1"}[rest[0]]]
        elif part == "blocks":
            new = ["trunk", rest[0], "rcb", LAYERS[rest[1]]]
        elif part == "fuse":
            new = ["conv_block2", {"conv": "0", "bn": "1"}[rest[0]]]
        elif part == "upsample":
            new = ["upsampling", rest[0], "upsample_block", {"conv": "0", "act": "2"}[rest[1]]]
        else:
            new = ["conv_block3"]
        theirs[".".join([*new, rest[-1]])] = torch.from_numpy(array)
    torch.save({"epoch": 3, "state_dict": theirs}, folder / "theirs.pth")
    return folder / "theirs.pth"


def test_a_checkpoint_becomes_a_model_that_upscales(
    run: Any, foreign: Path, folder: Path, tiny_model: Path, picture: Any
) -> None:
    result = run("convert", "theirs.pth", "-o", "new/ours.safetensors")
    assert (result.exit_code, result.stdout) == (0, "")
    assert (
        result.stderr == "new/ours.safetensors: x4 SRGAN generator, 2 blocks of 8 channels (Lornatang/SRGAN-PyTorch)\n"
    )
    found, expected = read_generator(folder / "new/ours.safetensors"), read_generator(tiny_model)
    assert found.weights.keys() == expected.weights.keys()
    for name, array in expected.weights.items():
        np.testing.assert_array_equal(found.weights[name], array)
    assert found.metadata["converted_from"] == "theirs.pth"
    picture("a.png")
    assert run("upscale", "a.png", "-o", "b.png", "-m", "new/ours.safetensors", "-b", "onnxruntime").exit_code == 0
    assert (folder / "b.png").exists()


def test_a_file_that_is_there_is_replaced_only_if_that_is_wanted(run: Any, foreign: Path, folder: Path) -> None:
    target = folder / "ours.safetensors"
    target.write_bytes(b"mine")
    result = run("convert", "theirs.pth", "-o", "ours.safetensors")
    assert (result.exit_code, result.stderr) == (1, "error: ours.safetensors: already exists; use --overwrite\n")
    assert target.read_bytes() == b"mine"
    assert run("convert", "theirs.pth", "-o", "ours.safetensors", "--overwrite").exit_code == 0
    assert read_generator(target).config.channels == 8


@pytest.mark.parametrize("overwrite", [[], ["--overwrite"]])
@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        ("missing.pth", "new.safetensors", "missing.pth: no such file"),
        ("text.pth", "new.safetensors", "text.pth: not a readable PyTorch file"),
        ("other.pth", "new.safetensors", "other.pth: unknown network"),
        ("list.pth", "new.safetensors", "list.pth: contains no state dict but a list"),
        ("theirs.pth", "new.pth", "new.pth: model files end in .safetensors"),
        ("theirs.pth", "text.pth/new.safetensors", "text.pth/new.safetensors: cannot be written"),
    ],
)
def test_what_cannot_be_converted_is_one_line_and_leaves_nothing(
    run: Any, foreign: Path, folder: Path, source: str, target: str, message: str, overwrite: list[str]
) -> None:
    (folder / "text.pth").write_text("no weights")
    torch.save({"features.weight": torch.zeros(3, 3)}, folder / "other.pth")
    torch.save([1, 2], folder / "list.pth")
    before = {path: path.read_bytes() for path in folder.iterdir()}
    result = run("convert", source, "-o", target, *overwrite)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {message}")
    assert result.stderr.count("\n") == 1
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_a_failed_replacement_keeps_what_was_there(run: Any, folder: Path) -> None:
    (folder / "theirs.pth").write_bytes(b"no")
    (folder / "ours.safetensors").write_bytes(b"mine")
    assert run("convert", "theirs.pth", "-o", "ours.safetensors", "--overwrite").exit_code == 1
    assert (folder / "ours.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize("arguments", [["theirs.pth"], ["-o", "a.safetensors"]], ids=["no output", "no input"])
def test_input_and_output_must_be_given(run: Any, arguments: list[str]) -> None:
    result = run("convert", *arguments)
    assert result.exit_code == 2
    assert "Missing" in result.stderr
