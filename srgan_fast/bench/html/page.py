"""The page: figures in tiles, notices, charts and tables from plain data; every text in it is escaped.

Nothing beside the standard library and the style is imported. What `charts` draws is the one thing taken as it is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Literal

from srgan_fast.bench.html.style import STYLE

_LONG = 40  # characters from which a cell of text is given room

Mark = Literal["", "best", "wrong", "failed"]


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure to remember: what it is, the figure, and what it refers to."""

    label: str
    figure: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table.

    Attributes:
        name: at its head.
        numeric: whether it is aligned to the right.
        hint: told when the head is pointed at.
    """

    name: str
    numeric: bool = True
    hint: str = ""


@dataclass(frozen=True, slots=True)
class TableRow:
    """Of a table.

    Attributes:
        cells: a text for each column; the first one names the row.
        mark: `wrong` and `failed` rows are coloured and say so.
        reason: below the name.
        share: 0 to 1 drawn as a bar below the second cell.
        tone: colour of that bar.
    """

    cells: Sequence[str]
    mark: Mark = ""
    reason: str = ""
    share: float | None = None
    tone: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """Rows below their heads, which scroll sideways where they do not fit."""

    title: str
    columns: Sequence[Column]
    rows: Sequence[TableRow]


@dataclass(frozen=True, slots=True)
class Chart:
    """What `charts` drew, with what there is to know about it; it is left away if empty."""

    title: str
    drawing: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Facts:
    """Names and what they are."""

    pairs: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A card with a heading."""

    title: str
    parts: Sequence[Table | Chart | Facts]
    lead: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Lines that must not be missed."""

    title: str
    lines: Sequence[str]


@dataclass(frozen=True, slots=True)
class Page:
    """Everything from top to bottom."""

    title: str
    eyebrow: str
    subtitle: str
    tiles: Sequence[Tile] = ()
    notices: Sequence[Notice] = ()
    sections: Sequence[Section] = field(default=())
    footer: str = ""


def render(page: Page) -> str:
    """The page as one HTML file that loads nothing."""
    sections = [section for section in page.sections if any(map(_shows, section.parts)) or section.lead]
    links = "".join(f'<a href="#s{index}">{escape(section.title)}</a>' for index, section in enumerate(sections))
    return "\n".join(
        (
            "<!doctype html>",
            '<html lang="en">',
            '<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{escape(page.title)}</title>",
            f"<style>{STYLE}</style></head>",
            "<body>",
            f'<header><p class="eyebrow">{escape(page.eyebrow)}</p><h1>{escape(page.title)}</h1>',
            f'<p class="subtitle">{escape(page.subtitle)}</p>',
            _tiles(page.tiles),
            f'<nav aria-label="Sections">{links}</nav></header>' if len(sections) > 1 else "</header>",
            "<main>",
            *(_notice(notice) for notice in page.notices if notice.lines),
            *(_section(section, f"s{index}") for index, section in enumerate(sections)),
            "</main>",
            f"<footer>{escape(page.footer)}</footer>",
            "</body></html>",
            "",
        )
    )


def _shows(part: Table | Chart | Facts) -> bool:
    if isinstance(part, Table):
        return bool(part.rows)
    return bool(part.drawing) if isinstance(part, Chart) else bool(part.pairs)


def _tiles(tiles: Iterable[Tile]) -> str:
    items = "".join(
        f'<div class="tile"><dt>{escape(tile.label)}</dt><dd class="figure">{escape(tile.figure)}</dd>'
        f'<dd class="note">{escape(tile.note)}</dd></div>'
        for tile in tiles
    )
    return f'<dl class="tiles">{items}</dl>' if items else ""


def _notice(notice: Notice) -> str:
    lines = "".join(f"<li>{escape(line)}</li>" for line in notice.lines)
    return f'<aside class="notice"><h2>{escape(notice.title)}</h2><ul>{lines}</ul></aside>'


def _section(section: Section, key: str) -> str:
    lead = f'<p class="lead">{escape(section.lead)}</p>' if section.lead else ""
    parts = "\n".join(_part(part) for part in section.parts if _shows(part))
    return f'<section id="{key}"><h2>{escape(section.title)}</h2>{lead}\n{parts}</section>'


def _part(part: Table | Chart | Facts) -> str:
    if isinstance(part, Table):
        return _table(part)
    if isinstance(part, Chart):
        note = f'<figcaption class="lead under">{escape(part.note)}</figcaption>' if part.note else ""
        return f"<figure><h3>{escape(part.title)}</h3>{note}{part.drawing}</figure>"
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in part.pairs)
    return f'<dl class="facts">{pairs}</dl>'


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col"{_numeric(column)}{_hint(column)}>{escape(column.name)}</th>' for column in table.columns
    )
    body = "".join(_row(table.columns, row) for row in table.rows)
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    label = escape(table.title or table.columns[0].name)
    return (
        f'{title}<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _row(columns: Sequence[Column], row: TableRow) -> str:
    pill = f'<span class="pill">{row.mark}</span>' if row.mark in ("wrong", "failed") else ""
    reason = f'<span class="reason">{escape(row.reason)}</span>' if row.reason else ""
    cells = [f'<th scope="row">{escape(row.cells[0])}{pill}{reason}</th>']
    for index, (column, text) in enumerate(zip(columns[1:], row.cells[1:], strict=True)):
        bar = ""
        if index == 0 and row.share is not None:
            share = min(max(row.share, 0.0), 1.0)
            bar = f'<span class="bar t{row.tone % 8}" aria-hidden="true"><i style="width:{share:.1%}"></i></span>'
        kind = _numeric(column) or f' class="text{" long" if len(text) > _LONG else ""}"'
        cells.append(f"<td{kind}>{escape(text)}{bar}</td>")
    mark = f' class="{row.mark}"' if row.mark else ""
    return f"<tr{mark}>{''.join(cells)}</tr>"


def _numeric(column: Column) -> str:
    return ' class="num"' if column.numeric else ""


def _hint(column: Column) -> str:
    return f' title="{escape(column.hint)}"' if column.hint else ""
