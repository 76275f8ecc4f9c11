"""Catalogue of well-known free models: purpose, source and SHA-256 of each.

The list is data (`catalogue.toml`). Nothing here accesses the network; `download.py` does, on the user's request.
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from srgan_fast.errors import FileError, ModelError
from srgan_fast.files import cache_folder, shown

_LIST = Path(__file__).with_name("catalogue.toml")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")  # no path separators; a valid file name on every system
_SUM = re.compile(r"[0-9a-f]{64}")
_SUFFIXES = frozenset({".pth", ".safetensors"})  # formats that are read without executing code
_LARGEST = 1 << 30  # bytes; far above any model of these architectures
_SCALES = frozenset({1, 2, 3, 4, 8, 16})
_SHOWN_DIGITS = 12  # digits of a SHA-256 in messages


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model that can be downloaded.

    Attributes:
        name: name on the command line, and the file's name without suffix.
        purpose: kind of images that it is made for.
        architecture: architecture and sizes, in words.
        scale: upscaling factor.
        author: author of the model.
        licence: SPDX identifier of its licence.
        homepage: website of the project that published it, which states the licence.
        size: file size in bytes.
        sha256: SHA-256 of the file, in hexadecimal.
        addresses: download URLs, all HTTPS; tried in this order.
        sources: repositories that state the checksum.
        verified: whether this project has downloaded it and upscaled images with it.
    """

    name: str
    purpose: str
    architecture: str
    scale: int
    author: str
    licence: str
    homepage: str
    size: int
    sha256: str
    addresses: tuple[str, ...]
    sources: tuple[str, ...]
    verified: bool

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        return self.name + _suffix(self.addresses[0])


@cache
def catalogue() -> Mapping[str, CatalogueEntry]:
    """All entries by name, in the order of the file."""
    return parse_catalogue(_LIST.read_text(encoding="utf-8"))


def parse_catalogue(text: str) -> dict[str, CatalogueEntry]:
    """Parses and checks a catalogue.

    Args:
        text: TOML with a table per model.

    Raises:
        ModelError: invalid TOML, or an entry with a missing, unknown or malformed field; the message names it.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"the catalogue of models is damaged ({error}); install srgan_fast again") from None
    entries = {name: _entry(name, table) for name, table in tables.items()}
    if len({name.casefold() for name in entries}) < len(
        entries
    ):  # their files would collide on case-insensitive file systems
        raise ModelError("the catalogue of models has names that differ in case only")
    return entries


def find_entry(name: object) -> CatalogueEntry | None:
    """The entry of that name, or None."""
    return catalogue().get(name) if isinstance(name, str) else None


def get_entry(name: str) -> CatalogueEntry:
    """The entry of that name.

    Raises:
        ModelError: there is none; the message suggests a similar name.
    """
    entry = find_entry(name)
    if entry is None:
        meant = similar_name(name)
        hint = f"did you mean {meant}? " if meant else ""
        raise ModelError(f"{name}: is not a model of the catalogue; {hint}srgan-fast models --available lists them")
    return entry


def similar_name(name: str) -> str | None:
    """The catalogue's name for a name in other case or with a file suffix; None if there is none."""
    said = name.casefold()
    return next((e.name for e in catalogue().values() if said in (e.name.casefold(), e.file_name.casefold())), None)


def model_path(entry: CatalogueEntry) -> Path:
    """Path of its file after download, in the cache folder's `models`.

    Raises:
        FileError: there is no cache folder; see `cache_folder`.
    """
    return cache_folder() / "models" / entry.file_name


def is_downloaded(entry: CatalogueEntry) -> bool:
    """Whether a file of the right size exists. Its checksum is verified when it is used."""
    try:
        return model_path(entry).stat().st_size == entry.size
    except (OSError, FileError):
        return False


def downloaded_file(entry: CatalogueEntry) -> Path:
    """The downloaded file of an entry, after verifying its checksum.

    Raises:
        ModelError: it was not downloaded, or its checksum differs; the message gives the command that helps.
    """
    try:
        path = model_path(entry)
        if path.is_file():
            found = sha256_of(path)
            if found == entry.sha256:
                return path
            raise ModelError(
                f"{shown(path)}: is not {entry.name} any more (SHA-256 {found[:_SHOWN_DIGITS]}... instead of "
                f"{entry.sha256[:_SHOWN_DIGITS]}...); run: srgan-fast models get {entry.name}"
            )
    except FileError as error:
        raise ModelError(f"{entry.name}: {error}") from None
    except OSError as error:
        raise ModelError(f"{shown(path)}: cannot be read ({error.strerror or error})") from None
    raise ModelError(
        f"{entry.name}: has not been downloaded ({entry.size / 1e6:.1f} MB, {entry.licence}); "
        f"run: srgan-fast models get {entry.name}"
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _suffix(address: str) -> str:
    return PurePosixPath(urlsplit(address).path).suffix.lower()


def _entry(name: str, table: Any) -> CatalogueEntry:
    known = {field.name for field in fields(CatalogueEntry)} - {"name"}
    if not isinstance(table, dict) or table.keys() != known:
        odd = sorted(known.symmetric_difference(table)) if isinstance(table, dict) else ["no table"]
        raise ModelError(f"the catalogue's entry {name!r}: missing or unknown: {', '.join(odd)}")
    for key, is_right in _CHECKS.items():
        if not is_right(table[key]):
            raise ModelError(f"the catalogue's entry {name!r}: {key} may not be {table[key]!r:.100}")
    if not _PLAIN.fullmatch(name) or name.endswith("."):
        raise ModelError(f"the catalogue's entry {name!r}: names are letters, digits, dots, dashes and underscores")
    facts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in table.items()}
    return CatalogueEntry(name=name, **facts)


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and value.isprintable()


def _is_https(value: Any) -> bool:
    return _is_text(value) and urlsplit(value).scheme == "https" and bool(urlsplit(value).hostname)


def _is_file_address(value: Any) -> bool:
    return _is_https(value) and _suffix(value) in _SUFFIXES


_CHECKS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("purpose", "architecture", "author", "licence"), _is_text),
    "homepage": _is_https,
    "scale": lambda value: type(value) is int and value in _SCALES,
    "size": lambda value: type(value) is int and 0 < value <= _LARGEST,
    "sha256": lambda value: isinstance(value, str) and _SUM.fullmatch(value) is not None,
    "addresses": lambda value: isinstance(value, list) and bool(value) and all(map(_is_file_address, value)),
    "sources": lambda value: isinstance(value, list) and bool(value) and all(map(_is_text, value)),
    "verified": lambda value: isinstance(value, bool),
}

__all__ = [
    "CatalogueEntry",
    "catalogue",
    "downloaded_file",
    "find_entry",
    "get_entry",
    "is_downloaded",
    "model_path",
    "parse_catalogue",
    "sha256_of",
    "similar_name",
]
