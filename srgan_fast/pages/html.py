"""Renders a page as one self-contained HTML file, with dark mode, for screens of all sizes and for print."""

from collections.abc import Iterable
from html import escape
from pathlib import Path
from typing import Any

from srgan_fast.pages.document import Chart, Column, Facts, Page, Section, Table, read

_LONG = 40  # characters from which a text cell gets a minimum width
_BAD = {"wrong": "wrong", "errors": "wrong", "failed": "failed", "left out": "failed"}

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def render(page: Page) -> str:
    """Renders a page; all texts are escaped, charts are inserted as they are."""
    shown = [(section, _parts(section, f"s{index}")) for index, section in enumerate(page.sections)]
    sections = [(section, parts, f"s{index}") for index, (section, parts) in enumerate(shown) if parts]
    links = "".join(f'<a href="#{key}">{escape(section.title)}</a>' for section, _, key in sections)
    tiles = "".join(
        f'<div><dt class="soft">{escape(tile.label)}</dt><dd class="figure">{escape(tile.figure)}</dd>'
        f'<dd class="soft">{escape(tile.note)}</dd></div>'
        for tile in page.tiles
    )
    warnings = "".join(f"<li>{escape(line)}</li>" for line in page.warnings)
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(page.title)}</title>\n<style>{STYLE}</style></head>\n<body>",
            f'<header><p class="eyebrow">{escape(page.eyebrow)}</p><h1>{escape(page.title)}</h1>',
            f'<p class="soft">{escape(page.subtitle)}</p>',
            f'<dl class="tiles">{tiles}</dl><nav aria-label="Sections">{links}</nav></header>\n<main>',
            f"<aside><h2>These figures may not be worth quoting</h2><ul>{warnings}</ul></aside>" if warnings else "",
            *(
                f'<section id="{key}"><h2>{escape(section.title)}</h2>'
                f'<p class="soft">{escape(section.lead)}</p>\n{parts}</section>'
                for section, parts, key in sections
            ),
            f"</main>\n<footer>{escape(page.footer)}</footer>\n</body></html>\n",
        )
    )


def _parts(section: Section, key: str) -> str:
    return "\n".join(filter(None, (_part(part, f"{key}-{index}") for index, part in enumerate(section.parts))))


def _part(part: Table | Chart | Facts, key: str) -> str:
    """HTML of a part; empty if the part is empty."""
    if isinstance(part, Table):
        return _table(part) if part.rows else ""
    if isinstance(part, Chart):
        drawing = part.draw(key)
        note = f"<figcaption>{escape(part.note)}</figcaption>"
        return f"<figure><h3>{escape(part.title)}</h3>{note}{drawing}</figure>" if drawing else ""
    pairs = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in part.pairs)
    return f'<dl class="facts">{pairs}</dl>' if pairs else ""


def _table(table: Table) -> str:
    heads = "".join(
        f'<th scope="col" class="{"" if c.text else "num"}" title="{escape(c.hint)}">{escape(c.name)}</th>'
        for c in table.columns
    )
    most = max((read(row, table.bar) or 0.0 for row in table.rows), default=0.0) if table.bar else 0.0
    body = "".join(_row(table, row, most) for row in table.rows)
    title = f"<h3>{escape(table.title)}</h3>" if table.title else ""
    notes = "".join(f'<p class="soft">{escape(note)}</p>' for note in table.notes)
    return (
        f'{title}<div class="scroll" role="region" tabindex="0" aria-label="{escape(table.title or "table")}">'
        f"<table><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>{notes}"
    )


def _row(table: Table, row: Any, most: float) -> str:
    mark = _BAD.get(read(row, "status") or "", "")
    pill = f'<span class="pill">{mark}</span>' if mark else ""
    reason = read(row, "reason")
    told = f'<span class="reason">{escape(reason)}</span>' if reason else ""
    first, *others = table.columns
    share = (read(row, table.bar) or 0.0) / most if most else 0.0
    bar = f'<span class="bar" aria-hidden="true"><i style="width:{share:.1%}"></i></span>' if share else ""
    cells = [f'<th scope="row">{escape(first.cell(row))}{pill}{told}</th>', *_cells(others, row, bar)]
    kind = mark or ("best" if read(row, "rank") == 1 else "")
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _cells(columns: Iterable[Column], row: Any, bar: str) -> Iterable[str]:
    for column in columns:
        text = column.cell(row)
        kind = "num" if not column.text else "long" if len(text) > _LONG else ""
        yield f'<td class="{kind}">{escape(text)}{bar}</td>'
        bar = ""
