"""What charts are drawn with: scales, grids, legends and texts as SVG; nothing beside the standard library."""

import math
from collections.abc import Callable, Iterable
from html import escape

WIDE, NARROW = 860, 360  # units of the drawings, about pixels on a screen
TONES = 8  # colours that the style knows
_LETTER = 6.7  # average width at the size that the style sets
_LARGEST = 1e100  # that scales can divide and square

SHAPES = ("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z", "M-4.6 -4.6H4.6V4.6H-4.6Z", "M0 -6.4L6.4 0L0 6.4L-6.4 0Z")
CROSS = "M-5 -5L5 5M5 -5L-5 5"


def number(value: float) -> str:
    """Three digits that matter, without an exponent where people would not write one."""
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


class Scale:
    """From values to places."""

    def __init__(self, least: float, most: float, begin: float, end: float, log: bool) -> None:
        self.log = log
        self.kind = "log scale" if log else "linear scale"
        if log:
            least, most = least / 1.06, most * 1.06
        elif least > 0 or most <= least:
            margin = (most - least) * 0.06 or abs(most) * 0.1 or 1.0
            least, most = least - margin, most + margin
        self.least, self.most, self.begin, self.end = least, most, begin, end

    def at(self, value: float) -> float:
        """The place of a value."""
        low, high, value = (
            (math.log(v) for v in (self.least, self.most, value)) if self.log else (self.least, self.most, value)
        )
        return self.begin + (value - low) / (high - low) * (self.end - self.begin)

    def ticks(self, most: int) -> list[float]:
        """Round numbers within, at most about that many."""
        if self.log:
            decades = range(math.floor(math.log10(self.least)), math.ceil(math.log10(self.most)) + 1)
            for steps in ((1, 2, 3, 4, 5, 6, 8), (1, 2, 3, 5), (1, 2, 5), (1, 3), (1,)):
                found = [s * 10.0**d for d in decades for s in steps if self.least <= s * 10.0**d <= self.most]
                if len(found) <= most:
                    break
            if len(found) >= 2:
                return found
        step = _round_step((self.most - self.least) / max(most, 2))
        first = math.ceil(self.least / step - 1e-9)
        return [step * i for i in range(first, math.floor(self.most / step + 1e-9) + 1)]


def _round_step(rough: float) -> float:
    power = 10.0 ** math.floor(math.log10(rough))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)


def vertical_grid(scale: Scale, top: float, bottom: float, label: str, ticks: dict[float, str] | None = None) -> str:
    """Lines at round numbers, or at those ticks, named below, and what the scale is of below that."""
    begin, end = scale.begin, scale.end
    most = max(2, int((end - begin) / 58))
    places = ticks or {value: f"{value:.6g}" for value in scale.ticks(most)}
    parts, last = [], -math.inf
    for value, name in sorted(places.items()):
        x = scale.at(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        if x - last > text_width(name) + 8:
            parts.append(text(x, bottom + 16, name, "axis middle"))
            last = x
    parts.append(text(end, bottom + 34, label, "axis end"))
    return "".join(parts)


def horizontal_grid(scale: Scale, left: float, right: float) -> str:
    """Lines at round numbers, named on the left."""
    parts = []
    for value in scale.ticks(7):
        y = scale.at(value)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(left - 6, y + 4, f"{value:.6g}", "axis end"))
    return "".join(parts)


def axis_name(x: float, y: float, name: str) -> str:
    """What the vertical scale is of, above its numbers."""
    return text(x - 38, y, name, "axis")


def legend(entries: list[tuple[str, str, int, str]], width: int, top: float) -> tuple[str, float]:
    """Names with their signs, in as many rows as they need; and where they end.

    Of each entry the name, the class of its sign, a line's dash or from -1 down a shape, and its mark.
    """
    parts, x, y = [], 8.0, top
    for name, kind_of, sign, mark in entries:
        wide = 34 + text_width(label(name, mark))
        if x > 8 and x + wide > width:
            x, y = 8.0, y + 20
        if sign >= 0:
            drawn = f'<line class="line d{sign % 3}" x1="{x:.1f}" x2="{x + 20:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        else:
            shape = CROSS if mark else SHAPES[(-1 - sign) % 3]
            kind = "cross" if mark else "point"
            drawn = f'<path class="{kind}" d="{shape}" transform="translate({x + 10:.1f} {y:.1f})"/>'
        parts.append(f'<g class="{kind_of}">{drawn}</g>{text(x + 26, y + 4, name, "name", mark=mark)}')
        x += wide + 10
    return "".join(parts), y + 20


def svg(width: float, height: float, title: str, description: str, key: str, parts: Iterable[str]) -> str:
    """A drawing of that many units, with a title and a description for those who do not see it."""
    name = escape(key)
    return (
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def twice(draw: Callable[[int], str]) -> str:
    """Draws for both widths; the style shows one."""
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def text(x: float, y: float, text: str, kind: str, mark: str = "") -> str:
    """A text, and after it the word that warns of it."""
    marked = f' <tspan class="mark">{escape(mark)}</tspan>' if mark else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}{marked}</text>'


def label(name: str, mark: str) -> str:
    """The same as plain text."""
    return f"{name} {mark}" if mark else name


def text_width(text: str) -> float:
    """About how wide it is drawn."""
    return len(text) * _LETTER


def tone_class(tone: int, mark: str) -> str:
    """The class of a colour: that of warnings for what is marked."""
    return "t-bad" if mark else f"t{tone % TONES}"


def is_positive(value: float) -> bool:
    """Above 0, and neither larger nor smaller than anything that is measured."""
    return 1 / _LARGEST < value < _LARGEST
