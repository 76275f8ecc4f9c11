"""What a report shows, as data: tables whose columns know how to read a row, charts, facts, and the page around them.

`html.render` makes a page of it, and the command line prints its tables.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DASH = "\u2013"
Value = str | float | None


def number(value: float) -> str:
    """Three significant digits, without an exponent where it is unusual."""
    size = abs(value)
    if not math.isfinite(value):
        return str(value)
    if size >= 1e6 or 0 < size < 1e-3:
        return f"{value:.2e}"
    if size >= 1000:
        return f"{value:,.0f}".replace(",", "\u202f")
    if size == 0:
        return "0"
    digits = 0 if size >= 100 else 1 if size >= 10 else 2
    return f"{value:.{digits}f}" if size >= 1 else f"{value:#.3g}"


def plural(count: int, what: str) -> str:
    """`1 row`, `2 rows`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def day(created: str) -> str:
    """An ISO 8601 date in readable form."""
    return created.replace("T", " ").replace("+00:00", " UTC")


def read(row: Any, path: str) -> Any:
    """A field of an object or dictionary, possibly nested, such as `latency.min_ms`; None if missing."""
    for name in path.split("."):
        row = row.get(name) if isinstance(row, dict) else getattr(row, name, None)
    return row


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    `value` is a field of a row (see `read`) or a function of it, multiplied by `factor` and formatted with `form` or
    three significant digits; `text`: left-aligned words; `hint`: tooltip of the heading; `page_only`: not shown on the
    console, which is narrow.
    """

    name: str
    value: str | Callable[[Any], Value]
    form: str = ""
    factor: float = 1.0
    text: bool = False
    hint: str = ""
    page_only: bool = False

    def cell(self, row: Any) -> str:
        """The value as text; a dash if it is unknown."""
        value = read(row, self.value) if isinstance(self.value, str) else self.value(row)
        if value is None:
            return DASH
        if isinstance(value, str):
            return value
        return format(value * self.factor, self.form) if self.form else number(value * self.factor)


def texts(fields: Mapping[str, str]) -> list[Column]:
    """Columns of words: the field of each heading."""
    return [Column(name, field, text=True) for name, field in fields.items()]


NAME = Column("Row", "name", text=True)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows with headings. The first column names the row; rows may have a `status` and a `reason`.

    `bar` is a field that is drawn as a bar below the second cell; `page_only` hides the table on the console.
    """

    columns: Sequence[Column]
    rows: Sequence[Any]
    title: str = ""
    bar: str = ""
    page_only: bool = False
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart and a caption; `draw` makes SVG from a key that is unique on the page, or an empty string."""

    title: str
    draw: Callable[[str], str]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and values."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Section:
    """Parts under a heading."""

    title: str
    parts: Sequence[Table | Chart | Facts]
    lead: str = ""


def facts(title: str, *parts: Iterable[tuple[str, Any]]) -> Section:
    """A section of names and values, without unknown ones."""
    pairs = [
        (name.replace("_", " "), _text(value)) for part in parts for name, value in part if value not in (None, "")
    ]
    return Section(title, [Facts([(name, value) for name, value in pairs if value])])


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {found}" for name, found in value.items())
    return (
        ", ".join(map(_text, value))
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A highlighted figure: label, figure, and note."""

    label: str
    figure: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Page:
    """A page from top to bottom."""

    title: str
    eyebrow: str = ""
    subtitle: str = ""
    tiles: Sequence[KeyFigure] = ()
    warnings: Sequence[str] = ()
    sections: Sequence[Section] = ()
    footer: str = "The file stands alone: it loads nothing and runs no script."
