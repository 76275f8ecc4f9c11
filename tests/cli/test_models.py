"""`srgan-fast models` tells what is shipped, what a file is and what can be downloaded, and downloads it."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from spandrel.architectures.Compact import Compact

from srgan_fast.models import GeneratorFile, catalogue, download, read_model, shipped_models, write_generator
from srgan_fast.models.catalogue import CatalogueEntry
from srgan_fast.network import parameter_count

from ..model_server import Server, empty_cache, entry_at, serving


def _rows(result: Any) -> list[dict[str, Any]]:
    assert (result.exit_code, result.stderr) == (0, "")
    return list(json.loads(result.stdout))


def test_every_shipped_model_is_listed_and_can_be_loaded(run: Any) -> None:
    rows = _rows(run("models", "--json"))
    assert [row["model"] for row in rows] == shipped_models()
    assert "srresnet-x4" in shipped_models()
    table = run("models").stdout.splitlines()
    for row in rows:
        (line,) = (line for line in table if row["model"] in line)
        assert all(row[key] in line for key in ("purpose", "architecture", "psnr_y", "st_lpips", "licence"))
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


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """See `empty_cache`."""
    return empty_cache(tmp_path, monkeypatch)


@pytest.fixture
def server(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """Gives a small network, which is the catalogue's only entry."""
    file = tmp_path / "made.pth"
    torch.manual_seed(0)
    torch.save({"params": Compact(num_feat=8, num_conv=2, upscale=2).state_dict()}, file)
    with serving() as state:
        state.content = file.read_bytes()
        entry = entry_at(state.address, content=state.content, scale=2, verified=False)
        monkeypatch.setattr(catalogue, "catalogue", lambda: {"tiny": entry})
        monkeypatch.setattr(download, "fetch", partial(download.fetch, plain_http={state.host}))
        yield state


def test_what_can_be_downloaded_is_listed(run: Any, cache: Path) -> None:
    rows = _rows(run("models", "--available", "--json"))
    assert [row["name"] for row in rows] == list(catalogue.catalogue())
    for row in rows:
        assert row.keys() == {*CatalogueEntry.__slots__, "downloaded"}
        assert row["downloaded"] is False
    table = run("models", "--available").stdout
    for row in rows:
        (line,) = [line for line in table.splitlines() if line.startswith(f"│ {row['name']} ")]
        for text in (row["purpose"], f"x{row['scale']}", row["licence"], "MB", "no"):
            assert text in line
    assert "srgan-fast models get NAME" in table
    assert "this project has not downloaded the file itself" in table
    assert not cache.exists()


def test_names_and_the_list_do_not_go_together(run: Any) -> None:
    result = run("models", "srresnet-x4", "--available")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error: --available lists all models")


def test_a_model_is_downloaded_and_then_used_by_its_name(
    run: Any, server: Server, cache: Path, picture: Any, folder: Path
) -> None:
    picture("a.png")
    ask = ("upscale", "a.png", "-o", "b.png", "--model", "tiny", "--backend", "onnxruntime")
    refused = run(*ask)
    assert refused.exit_code == 1
    assert refused.stderr.endswith("run: srgan-fast models get tiny\n")
    assert server.asked == [], "nothing is downloaded that was not asked for"

    got = run("models", "get", "tiny")
    assert (got.exit_code, got.stdout) == (0, f"{cache / 'tiny.pth'}\n")
    assert got.stderr == "tiny: 0.0 MB, by nobody, licence MIT (https://example.org/tiny)\n"

    assert run(*ask).exit_code == 0
    assert (folder / "b.png").is_file()
    (row,) = _rows(run("models", "tiny", "--json"))
    assert row.items() >= {"model": "tiny", "scale": 2, "licence": "MIT"}.items()
    (row,) = _rows(run("models", "--available", "--json"))
    assert row["downloaded"] is True


def test_what_is_there_is_downloaded_again_only_if_forced(run: Any, server: Server) -> None:
    for arguments, times in (([], 1), ([], 1), (["--force"], 2)):
        assert run("models", "get", "tiny", *arguments).exit_code == 0
        assert len(server.asked) == times


def test_a_download_that_fails_is_one_line(run: Any, server: Server, cache: Path) -> None:
    server.status = 404
    result = run("models", "get", "tiny")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines()[1].startswith(
        "error: tiny: not downloaded: 127.0.0.1 answers 404 (Not Found); run"
    )
    assert result.stderr.count("\n") == 2


@pytest.mark.parametrize("name", ["nope", "../tiny", "tiny.safetensors", "/etc/passwd"])
def test_no_name_that_is_not_listed_is_downloaded(run: Any, server: Server, name: str) -> None:
    result = run("models", "get", "tiny", name)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {name}: is not a model of the catalogue")
    assert server.asked == [], "all names are looked up before the first download"


def test_an_interrupted_download_says_how_to_go_on(run: Any, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: Any, **__: Any) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(download, "fetch", interrupt)
    result = run("models", "get", "tiny")
    assert result.exit_code == 130
    assert result.stderr.splitlines()[-1].startswith("interrupted; run srgan-fast models get tiny to resume")


def test_show_may_be_said(run: Any, tiny_model: Path) -> None:
    assert run("models", "show", tiny_model).stdout == run("models", tiny_model).stdout
    text = run("models", "--help").stdout
    assert "show" in text
    assert "get" in text
