"""`srgan-fast models` tells what is shipped and what a file is."""

import json
from pathlib import Path
from typing import Any

import pytest

from srgan_fast.models import GeneratorFile, load_generator, read_generator, shipped_models, write_generator


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
        assert row["scale"] == load_generator(row["model"]).config.scale


def test_a_file_is_described(run: Any, tiny_model: Path) -> None:
    (row,) = _rows(run("models", tiny_model, "--json"))
    generator = load_generator(tiny_model)
    assert row == {
        "model": "tiny-x4",
        "scale": 4,
        "blocks": 2,
        "channels": 8,
        "parameters": sum(parameter.numel() for parameter in generator.parameters()),
        "receptive_radius": generator.config.receptive_radius,
        "preset": "paper",
    }
    table = run("models", tiny_model).stdout
    for text in ("tiny-x4", "receptive radius", f"{row['parameters']:,}", "paper"):
        assert text in table


def test_several_are_shown_in_the_order_they_are_named(run: Any, tiny_model: Path) -> None:
    rows = _rows(run("models", tiny_model, "srresnet-x4", tiny_model, "--json"))
    assert [row["model"] for row in rows] == ["tiny-x4", "srresnet-x4", "tiny-x4"]


def test_what_was_recorded_comes_out_as_it_is(run: Any, tiny_file: GeneratorFile, folder: Path) -> None:
    recorded = {"licence": "MIT [bold]really[/bold] :smile:", "trained_on": "Bilder für alle"}
    write_generator(tiny_file.weights, tiny_file.config.conventions, folder / "m[1].safetensors", recorded)
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
        ("a.pth", "srgan-fast convert a.pth -o model.safetensors"),
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
        assert read_generator(name).metadata.get("licence"), f"{name} does not say how it may be used"
