"""Models by name: the list is well formed, and a name is a file whose sum is right, or a line that says what to do."""

import re
from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import torch
from spandrel.architectures.Compact import Compact

from srgan_fast.errors import ModelError
from srgan_fast.models import catalogue as module
from srgan_fast.models import read_model, shipped_models
from srgan_fast.models.catalogue import CatalogueEntry, catalogue, find_entry, get_entry, is_downloaded, parse_catalogue

from ..model_server import entry_at

ENTRIES = list(catalogue().values())
NAMES = [entry.name for entry in ENTRIES]

GOOD = """
[{name}]
purpose = "tests"
architecture = "none"
scale = 4
author = "nobody"
licence = "MIT"
homepage = "https://example.org/a"
size = 10
sha256 = "{sum}"
addresses = ["https://example.org/a.pth"]
sources = ["example/a"]
verified = false
"""


def good(name: str = "a") -> str:
    return GOOD.format(name=name, sum="0" * 64)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder."""
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path) -> CatalogueEntry:
    """A small network that is in the catalogue and was downloaded."""
    file = tmp_path / "made.pth"
    torch.manual_seed(0)
    torch.save({"params": Compact(num_feat=8, num_conv=2, upscale=2).state_dict()}, file)
    entry = entry_at("https://example.org/tiny.pth", content=file.read_bytes(), name="tiny", scale=2)
    monkeypatch.setattr(module, "catalogue", lambda: {"tiny": entry})
    (cache / "models").mkdir(parents=True)
    file.rename(cache / "models" / "tiny.pth")
    return entry


def test_the_published_models_of_real_esrgan_and_esrgan_are_listed() -> None:
    assert {
        "RealESRGAN_x4plus",
        "RealESRGAN_x2plus",
        "RealESRGAN_x4plus_anime_6B",
        "RealESRNet_x4plus",
        "realesr-animevideov3",
        "realesr-general-x4v3",
        "realesr-general-wdn-x4v3",
        "RRDB_ESRGAN_x4",
    } <= set(NAMES)
    licences = {entry.licence for entry in ENTRIES if "Real-ESRGAN" in entry.homepage}
    assert licences == {"BSD-3-Clause"}
    assert catalogue()["RRDB_ESRGAN_x4"].licence == "Apache-2.0"


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_entry_is_well_formed(entry: CatalogueEntry) -> None:
    for address in (*entry.addresses, entry.homepage):
        assert address.startswith("https://")
        assert urlsplit(address).hostname in ("github.com", "huggingface.co")
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert 100_000 < entry.size < 100_000_000
    assert entry.licence in ("BSD-3-Clause", "Apache-2.0", "CC-BY-4.0")
    assert entry.scale in (2, 4)
    assert Path(entry.file_name).name == entry.file_name
    assert entry.name not in shipped_models()
    assert (
        f"x{entry.scale}" in entry.name
        or f"{entry.scale}x" in entry.name
        or entry.name
        in (
            "BSRGAN",
            "realesr-animevideov3",
        )
    )


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_every_sum_is_stated_by_two_sources_or_a_pointer(entry: CatalogueEntry) -> None:
    assert len(set(entry.sources)) == len(entry.sources)
    assert len(entry.sources) >= 2 or entry.sources[0].endswith("(LFS)")


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_addresses_on_hugging_face_name_a_commit(entry: CatalogueEntry) -> None:
    for address in entry.addresses:
        if urlsplit(address).hostname == "huggingface.co":
            assert re.search(r"/resolve/[0-9a-f]{40}/", address)


def test_no_two_entries_are_the_same() -> None:
    for of in (lambda e: e.name.casefold(), lambda e: e.sha256, lambda e: e.addresses[0], lambda e: e.file_name):
        assert max(Counter(map(of, ENTRIES)).values()) == 1


def test_a_well_formed_list_is_read() -> None:
    (entry,) = parse_catalogue(good()).values()
    assert (entry.name, entry.file_name, entry.size) == ("a", "a.pth", 10)
    assert entry.addresses == ("https://example.org/a.pth",)


@pytest.mark.parametrize(
    "name", ['"../a"', '"a/b"', r'"a\\b"', '".a"', '"a."', '""', '"a b"', '"C:a"', '"ä"', '"-a"', f'"{"a" * 65}"']
)
def test_names_that_are_no_plain_file_names_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match="names are letters, digits"):
        parse_catalogue(good(name))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("https://example.org/a.pth", "http://example.org/a.pth"),
        ("https://example.org/a.pth", "file:///etc/a.pth"),
        ("https://example.org/a.pth", "https:///a.pth"),
        ("https://example.org/a.pth", "https://example.org/a.exe"),
        ('["https://example.org/a.pth"]', "[]"),
        ("size = 10", "size = 0"),
        ("size = 10", "size = -1"),
        ("size = 10", "size = 1.5"),
        ("size = 10", "size = true"),
        ("size = 10", "size = 9_000_000_000"),
        ("scale = 4", "scale = 5"),
        ("0" * 64, "0" * 63),
        ("0" * 64, "F" * 64),
        ('"MIT"', '""'),
        ('"MIT"', r'"M\u001bIT"'),
        ("verified = false", "verified = 0"),
        ('["example/a"]', "[]"),
        ('"https://example.org/a"', '"http://example.org/a"'),
    ],
)
def test_fields_that_are_not_well_formed_are_refused(old: str, new: str) -> None:
    text = good()
    assert old in text
    with pytest.raises(ModelError, match=r"^the catalogue's entry 'a': \w+ may not be "):
        parse_catalogue(text.replace(old, new))


def test_fields_that_are_missing_or_unknown_are_named() -> None:
    with pytest.raises(ModelError, match=r"missing or unknown: licence$"):
        parse_catalogue(good().replace('licence = "MIT"', ""))
    with pytest.raises(ModelError, match=r"missing or unknown: colour$"):
        parse_catalogue(good() + "colour = 1\n")
    with pytest.raises(ModelError, match="no table"):
        parse_catalogue("a = 1")


def test_what_is_no_toml_and_names_that_differ_in_case_only_are_refused() -> None:
    with pytest.raises(ModelError, match="is damaged"):
        parse_catalogue("[a")
    with pytest.raises(ModelError, match="differ in case only"):
        parse_catalogue(good("a") + good("A"))


@pytest.mark.parametrize("name", NAMES)
def test_a_model_that_was_not_downloaded_says_how_to_get_it(name: str, cache: Path) -> None:
    with pytest.raises(ModelError, match=rf"^{name}: has not been downloaded .*run: srgan-fast models get {name}$"):
        read_model(name)
    assert not cache.exists(), "asking makes nothing"


def test_a_downloaded_model_is_read_by_its_name(listed: CatalogueEntry) -> None:
    assert is_downloaded(listed)
    file = read_model("tiny")
    assert (file.name, file.scale) == ("tiny", 2)
    assert file.metadata == {"licence": "MIT", "author": "nobody", "homepage": "https://example.org/tiny"}


def test_a_file_that_was_changed_since_is_refused(listed: CatalogueEntry, cache: Path) -> None:
    path = cache / "models" / "tiny.pth"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert is_downloaded(listed), "the size is right, and listing compares no more"
    with pytest.raises(ModelError, match=r"tiny\.pth: is not tiny any more .*run: srgan-fast models get tiny$"):
        read_model("tiny")


def test_a_name_comes_before_a_file_and_a_path_is_a_path(
    listed: CatalogueEntry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny").write_bytes(b"something else")
    assert read_model("tiny").scale == 2
    with pytest.raises(ModelError, match="not a readable safetensors file"):
        read_model(Path("tiny"))


def test_an_unreadable_cache_is_a_line(listed: CatalogueEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SRGAN_FAST_CACHE", str(tmp_path / "file"))
    assert not is_downloaded(listed)
    with pytest.raises(ModelError, match="has not been downloaded"):
        read_model("tiny")

    def homeless() -> Any:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("SRGAN_FAST_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", homeless)
    assert not is_downloaded(listed)
    with pytest.raises(ModelError, match=r"^tiny: there is no home folder"):
        read_model("tiny")


@pytest.mark.parametrize("said", ["realesrgan_X4plus", "RealESRGAN_x4plus.pth", "REALESRGAN_X4PLUS.PTH"])
def test_names_that_are_nearly_right_are_told(said: str) -> None:
    assert find_entry(said) is None
    for ask in (get_entry, read_model):
        with pytest.raises(ModelError, match=r"did you mean RealESRGAN_x4plus\?"):
            ask(said)


@pytest.mark.parametrize("name", ["nope", "../RealESRGAN_x4plus", "/etc/passwd", "a\0b", "", "x" * 5000])
def test_names_that_are_not_listed_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=r"is not a model of the catalogue; srgan-fast models --available"):
        get_entry(name)
