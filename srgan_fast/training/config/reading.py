"""Reads a configuration from a TOML file; errors name the key, its value, and the allowed values."""

import difflib
import tomllib
from datetime import date, time
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from srgan_fast.errors import TrainingError
from srgan_fast.training.config.whole import TrainConfig


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
        raise TrainingError(f"{text!r} is not an override; write key=value, e.g. gan.steps=1000")
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
        return f"{key} is unknown; {hint}valid keys: {', '.join(keys)}"
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
    **dict.fromkeys(("string_type", "path_type"), "must be a string"),
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
