"""Reports that were kept as JSON: read again, whichever benchmark made them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from srgan_fast.bench.report import SCHEMA, InferenceReport
from srgan_fast.errors import UsageError

if TYPE_CHECKING:
    from srgan_fast.bench.training import TrainingReport

_TRAINING_SCHEMA = "srgan_fast.bench.training/2"


def read_report(path: Path) -> "InferenceReport | TrainingReport":
    """The report in a file that `--json` wrote.

    Raises:
        UsageError: the file cannot be read, or holds no report, or one of another version.
    """
    schema, text = _schema_and_text(path)
    if schema not in (SCHEMA, _TRAINING_SCHEMA):
        kind = schema.rpartition("/")[0]
        known = next((known for known in (SCHEMA, _TRAINING_SCHEMA) if known.rpartition("/")[0] == kind), None)
        if known is None:
            raise UsageError(f"{path}: is {schema!r}, no report of srgan-fast bench inference or training")
        raise UsageError(f"{path}: is of version {schema}, this program reads {known}; measure again")
    try:
        if schema == SCHEMA:
            return InferenceReport.from_json(text)
        from srgan_fast.bench.training.report import TrainingReport  # noqa: PLC0415 (torch)

        return TrainingReport.from_json(text)
    except ImportError as error:
        raise UsageError(f"{path}: a report of training needs {error.name}: pip install 'srgan_fast[train]'") from None
    except ValueError as error:
        raise UsageError(f"{path}: is {schema} by its own account, but {_first_complaint(error)}") from None


def _schema_and_text(path: Path) -> tuple[str, str]:
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; give a report that --json wrote")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: is no text; give a report that --json wrote") from None
    except (OSError, ValueError) as error:  # a name with a zero in it is a ValueError
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"{path}: cannot be read ({reason})") from None
    if not text.strip():
        raise UsageError(f"{path}: is empty; give a report that --json wrote")
    try:
        found: Any = json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError(f"{path}: is no JSON; give a report that --json wrote") from None
    schema = found.get("schema") if isinstance(found, dict) else None
    if not isinstance(schema, str):
        raise UsageError(f"{path}: is JSON, but no report; give one that --json wrote")
    return schema, text


def _first_complaint(error: ValueError) -> str:
    """What pydantic says first, with the place."""
    errors: Any = getattr(error, "errors", None)
    if errors is None:
        return str(error).splitlines()[0]
    first = errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg'][:1].lower()}{first['msg'][1:]}"
