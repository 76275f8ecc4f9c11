"""`srgan-fast models` tells what is shipped and what a file is."""

import json
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.models import GeneratorFile, read_model, shipped_models, write_generator
from srgan_fast.network import parameter_count


def _rows(result: Any) -> list[dict[str, Any]]:
    assert (result.exit_code, result.stderr) == (0, "")
    return list(json.loads(result.stdout))


def test_every_shipped_model_is_listed_and_can_be_loaded(run: Any) -> None:
    rows = _rows(run("models", "--json"))
    assert [row["model"] for row in rows] == shipped_models()
    assert "srresnet-x4" in shipped_models()
    table = run("models").stdout
    for row in rows:
        assert row["model"] in table
        assert row["scale"] == read_model(row["model"]).scale


def test_a_file_is_described(run: Any, tiny_model: Path) -> None:
    (row,) = _rows(run("models", tiny_model, "--json"))
    assert row == {
        "model": "tiny-x4",
        "architecture": "SRGAN generator, 2 blocks of 8 channels",
        "scale": 4,
        "parameters": parameter_count(read_model(tiny_model).network),
        "receptive_radius": 12,
        "preset": "paper",
    }
    table = run("models", tiny_model).stdout
    for text in ("tiny-x4", "receptive radius", f"{row['parameters']:,}", "paper"):
        assert text in table


def test_several_are_shown_in_the_order_they_are_named(run: Any, tiny_model: Path) -> None:
    rows = _rows(run("models", tiny_model, "srresnet-x4", tiny_model, "--json"))
    assert [row["model"] for row in rows] == ["tiny-x4", "srresnet-x4", "tiny-x4"]


def test_what_was_recorded_comes_out_as_it_is(run: Any, tiny_generator: GeneratorFile, folder: Path) -> None:
    recorded = {"licence": "MIT [bold]really[/bold] :smile:", "trained_on": "Bilder für alle"}
    write_generator(tiny_generator.weights, tiny_generator.config.conventions, folder / "m[1].safetensors", recorded)
    (row,) = _rows(run("models", "m[1].safetensors", "--json"))
    assert row.items() >= {"model": "m[1]", **recorded}.items()
    assert "conventions" not in row
    table = run("models", "m[1].safetensors").stdout
    for text in ("m[1]", "trained on", *recorded.values()):
        assert text in table


@pytest.mark.parametrize("as_json", [[], ["--json"]])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nope", "nope: is neither a file nor a shipped model; shipped models: "),
        ("a.safetensors", "a.safetensors: not a readable safetensors file"),
        ("a.pth", "a.pth: not a readable PyTorch file"),
        ("x" * 300, "cannot be looked up"),
    ],
)
def test_what_is_no_model_is_one_line(run: Any, folder: Path, name: str, message: str, as_json: list[str]) -> None:
    for file in ("a.safetensors", "a.pth"):
        (folder / file).write_bytes(b"no")
    result = run("models", "srresnet-x4", name, *as_json)
    assert (result.exit_code, result.stdout) == (1, ""), "nothing is shown before all were read"
    assert message in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_card_of_a_shipped_model_goes_with_it() -> None:
    for name in shipped_models():
        assert read_model(name).metadata.get("licence"), f"{name} does not say how it may be used"
