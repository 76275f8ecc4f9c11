"""Charts as inline SVG: plain data in, text out, nothing beside the standard library.

Each chart is drawn twice, wide and for a telephone, and the page's style shows one of the two; colours come from there,
too, so that a chart follows a dark page and a printer. Everything that is drawn tells its figures when pointed at.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

WIDE, NARROW = 860, 360  # units of the drawings, about pixels on a screen
TONES = 8  # colours that the style knows
MOST_DOTS = 240  # of one series; more would not be told apart, and would make the file heavy
_LETTER = 6.7  # average width at the size that the style sets
_LARGEST = 1e100
_LOG_FROM = 8.0  # ratio of the largest to the least value beyond which a scale is logarithmic


@dataclass(frozen=True, slots=True)
class Series:
    """Values of one row.

    Attributes:
        name: of the row.
        values: in the order they were taken.
        tone: colour, 0 to 7.
        mark: a word that warns of the row, as in "wrong"; it is drawn in the colour of warnings.
    """

    name: str
    values: Sequence[float]
    tone: int = 0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A row along an axis.

    Attributes:
        name: of the row.
        points: x and y, both above 0.
        tone: colour, 0 to 7.
        dash: 0 for a solid line, 1 for a dashed, 2 for a dotted one.
        mark: see `Series`.
    """

    name: str
    points: Sequence[tuple[float, float]]
    tone: int = 0
    dash: int = 0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A row as one point.

    Attributes:
        name: of the row.
        x: along the horizontal axis.
        y: along the vertical axis.
        tone: colour, 0 to 7.
        shape: 0 for a disc, 1 for a square, 2 for a diamond.
        mark: see `Series`; the point is a cross.
    """

    name: str
    x: float
    y: float
    tone: int = 0
    shape: int = 0
    mark: str = ""


@dataclass(frozen=True, slots=True)
class Bar:
    """A row as parts that add up.

    Attributes:
        name: of the row.
        parts: value of each segment by its name; a segment has the same colour in all bars.
        mark: see `Series`.
    """

    name: str
    parts: dict[str, float] = field(default_factory=dict)
    mark: str = ""


def strips(series: Iterable[Series], title: str, unit: str, key: str) -> str:
    """Each row's values as dots along one scale, with a box from the first to the third quartile and a median.

    Args:
        series: rows, drawn from top to bottom; those without a finite value above 0 are left away.
        title: says what is shown, for those who do not see it.
        unit: of the values.
        key: unique on the page.

    Returns:
        HTML; empty if there is nothing to draw.
    """
    shown = [row for row in map(_drawable, series) if row.values]
    if not shown:
        return ""
    least, most = min(min(row.values) for row in shown), max(max(row.values) for row in shown)
    medians = "; ".join(f"{row.name} {number(_quantile(row.values, 0.5))} {unit}" for row in shown)

    def draw(width: int) -> str:
        narrow = width < WIDE
        left = 8.0 if narrow else 24 + max(_text_width(_label(row.name, row.mark)) for row in shown)
        right = width - (16.0 if narrow else 92.0)
        band, top = (52 if narrow else 36), 10
        bottom = top + band * len(shown)
        scale = _Scale(least, most, left + 8, right - 8, most / least > _LOG_FROM)
        parts = [_vertical_grid(scale, top, bottom, f"{unit}, {scale.kind}")]
        for index, row in enumerate(shown):
            middle = top + band * index + (34 if narrow else band / 2)
            tone = _tone(row.tone, row.mark)
            low, median, high = (scale.at(_quantile(row.values, q)) for q in (0.25, 0.5, 0.75))
            said = f"{number(_quantile(row.values, 0.5))} {unit}"
            if narrow:
                parts += [
                    _text(8, middle - 17, row.name, "name", mark=row.mark),
                    _text(right, middle - 17, said, "value end"),
                ]
            else:
                parts += [_text(left - 10, middle + 4, row.name, "name end", mark=row.mark)]
                parts += [_text(right + 10, middle + 4, said, "value")]
            tip = (
                f"{_label(row.name, row.mark)}: median {said}, least {number(min(row.values))}, "
                f"most {number(max(row.values))}, {len(row.values)} runs"
            )
            parts.append(
                f'<g class="{tone}"><title>{escape(tip)}</title>'
                f'<line class="whisker" x1="{scale.at(min(row.values)):.1f}" x2="{scale.at(max(row.values)):.1f}" '
                f'y1="{middle:.1f}" y2="{middle:.1f}"/>'
                f'<rect class="box" x="{low:.1f}" y="{middle - 8:.1f}" width="{max(high - low, 1):.1f}" height="16" '
                f'rx="3"/><path class="median" d="M{median:.1f} {middle - 10:.1f}v20"/>'
                f"{''.join(_dots(row, scale, middle, unit))}</g>"
            )
        return _svg(width, bottom + 40, title, f"Medians: {medians}.", f"{key}-{width}", parts)

    return _twice(draw)


def _dots(row: Series, scale: "_Scale", middle: float, unit: str) -> Iterable[str]:
    step = math.ceil(len(row.values) / MOST_DOTS)
    for index in range(0, len(row.values), step):
        value = row.values[index]
        # Up and down by the golden ratio's fractions, so that neighbours in time do not cover each other.
        y = middle + ((index * 0.618034) % 1 - 0.5) * 13
        tip = f"{_label(row.name, row.mark)}, run {index + 1}: {number(value)} {unit}"
        place = f'cx="{scale.at(value):.1f}" cy="{y:.1f}"'
        yield f'<circle class="dot" {place} r="2.6"><title>{escape(tip)}</title></circle>'


def lines(
    rows: Iterable[Line], title: str, x_label: str, y_label: str, key: str, ticks: dict[float, str] | None = None
) -> str:
    """Rows along an axis, both scales logarithmic.

    Args:
        rows: one line each; points that are not finite and above 0 are left away.
        title: says what is shown.
        x_label: of the horizontal axis.
        y_label: of the vertical axis.
        key: unique on the page.
        ticks: names of places on the horizontal axis; round numbers if None.

    Returns:
        HTML; empty if there is nothing to draw.
    """
    shown = [
        Line(row.name, points, row.tone, row.dash, row.mark)
        for row in rows
        if (points := [(x, y) for x, y in row.points if _is_positive(x) and _is_positive(y)])
    ]
    if not shown:
        return ""
    xs = [x for row in shown for x, _ in row.points]
    ys = [y for row in shown for _, y in row.points]

    def draw(width: int) -> str:
        narrow = width < WIDE
        top, bottom = 26, (310 if narrow else 400)
        left = 46.0
        right = width - (14.0 if narrow else 26 + max(_text_width(_label(row.name, row.mark)) for row in shown))
        across = _Scale(min(xs), max(xs), left + 14, right - 12, True)
        up = _Scale(min(ys), max(ys), bottom - 12, top + 8, True)
        parts = [_grid(up, left, right), _axis_name(left, top - 4, y_label)]
        parts.append(_vertical_grid(across, top, bottom, x_label, ticks))
        ends = []
        for row in shown:
            path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in row.points)
            dots = "".join(
                f'<circle class="knot" cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="4"><title>'
                f"{escape(f'{_label(row.name, row.mark)}, {(ticks or {}).get(x, number(x))}: {number(y)} {y_label}')}"
                "</title></circle>"
                for x, y in row.points
            )
            parts.append(
                f'<g class="{_tone(row.tone, row.mark)}"><polyline class="line d{row.dash % 3}" points="{path}"/>'
                f"{dots}</g>"
            )
            ends.append((up.at(row.points[-1][1]), across.at(row.points[-1][0]), row))
        height = bottom + 44.0
        if narrow:
            legend, height = _legend(
                [(row.name, _tone(row.tone, row.mark), row.dash, row.mark) for row in shown], width, height + 6
            )
            parts.append(legend)
        else:
            for (y, x, row), spread in zip(
                sorted(ends, key=lambda end: end[0]), _apart([e[0] for e in ends], 15), strict=True
            ):
                parts.append(
                    f'<line class="leader" x1="{x + 6:.1f}" y1="{y:.1f}" x2="{right + 6:.1f}" y2="{spread:.1f}"/>'
                )
                parts.append(
                    _text(right + 10, spread + 4, row.name, f"name tone {_tone(row.tone, row.mark)}", mark=row.mark)
                )
            height = max(height, max(_apart([e[0] for e in ends], 15)) + 20)
        said = "; ".join(f"{row.name} from {number(row.points[0][1])} to {number(row.points[-1][1])}" for row in shown)
        return _svg(width, height, title, f"{y_label} by {x_label}: {said}.", f"{key}-{width}", parts)

    return _twice(draw)


def scatter(points: Iterable[Point], title: str, x_label: str, y_label: str, key: str, better: str = "") -> str:
    """Rows as points, with their names beside them.

    Args:
        points: those with values that are not finite, or not above 0 vertically, are left away.
        title: says what is shown.
        x_label: of the horizontal axis, which is linear.
        y_label: of the vertical axis.
        key: unique on the page.
        better: told in the corner where the best points lie, above on the right.

    Returns:
        HTML; empty if there is nothing to draw.
    """
    shown = [point for point in points if abs(point.x) < _LARGEST and _is_positive(point.y)]
    if not shown:
        return ""
    xs, ys = [point.x for point in shown], [point.y for point in shown]

    def draw(width: int) -> str:
        narrow = width < WIDE
        top, bottom, left, right = 28, (310 if narrow else 390), 46.0, width - 12.0
        across = _Scale(min(xs), max(xs), left + 16, right - (28 if narrow else 90), False)
        up = _Scale(min(ys), max(ys), bottom - 14, top + 16, max(ys) / min(ys) > _LOG_FROM)
        parts = [_grid(up, left, right), _axis_name(left, top - 8, y_label + (", log scale" if up.log else ""))]
        parts.append(_vertical_grid(across, top, bottom, x_label))
        if better:
            parts.append(_text(right, top - 8, f"{better} \u2197", "axis end"))
        taken: list[tuple[float, float, float, float]] = []
        places = [(across.at(point.x), up.at(point.y)) for point in shown]
        taken += [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
        for point, (x, y) in sorted(zip(shown, places, strict=True), key=lambda both: both[1][1]):
            tip = f"{_label(point.name, point.mark)}: {number(point.x)} {x_label}, {number(point.y)} {y_label}"
            shape = _CROSS if point.mark else _SHAPES[point.shape % 3]
            parts.append(
                f'<g class="{_tone(point.tone, point.mark)}"><path class="{"cross" if point.mark else "point"}" '
                f'd="{shape}" transform="translate({x:.1f} {y:.1f})"><title>{escape(tip)}</title></path></g>'
            )
            label = "" if narrow else _place(point, x, y, taken, left, right)
            parts.append(label)
        height = bottom + 44.0
        if narrow:
            legend, height = _legend(
                [(p.name, _tone(p.tone, p.mark), -1 - p.shape, p.mark) for p in shown], width, height + 6
            )
            parts.append(legend)
        said = "; ".join(f"{_label(p.name, p.mark)} {number(p.x)}, {number(p.y)}" for p in shown)
        return _svg(width, height, title, f"{x_label}, {y_label}: {said}.", f"{key}-{width}", parts)

    return _twice(draw)


_SHAPES = ("M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z", "M-4.6 -4.6H4.6V4.6H-4.6Z", "M0 -6.4L6.4 0L0 6.4L-6.4 0Z")
_CROSS = "M-5 -5L5 5M5 -5L-5 5"


def _place(
    point: Point, x: float, y: float, taken: list[tuple[float, float, float, float]], left: float, right: float
) -> str:
    """The point's name where no other name is, beside it if that can be."""
    wide = _text_width(_label(point.name, point.mark))
    spots = [(dx, dy) for dy in (0, -14, 14, -28, 28, -42, 42) for dx in (11.0, -11.0 - wide)]
    boxes = [(x + dx, y + dy - 7, x + dx + wide, y + dy + 7) for dx, dy in spots]
    inside = [box for box in boxes if left < box[0] and box[2] < right] or boxes
    free = (box for box in inside if not any(_overlap(box, other) for other in taken))
    box = next(free, inside[0])
    taken.append(box)
    return _text(box[0], box[1] + 11, point.name, f"name tone {_tone(point.tone, point.mark)}", mark=point.mark)


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def stacks(bars: Iterable[Bar], title: str, unit: str, key: str, tones: Sequence[int] = tuple(range(TONES))) -> str:
    """Rows as bars of parts, with the sum behind each.

    Args:
        bars: rows, drawn from top to bottom; parts that are not finite and above 0 are left away.
        title: says what is shown.
        unit: of the values.
        key: unique on the page.
        tones: colours of the parts, in the order in which they come up.

    Returns:
        HTML; empty if there is nothing to draw.
    """
    shown = [Bar(bar.name, {k: v for k, v in bar.parts.items() if _is_positive(v)}, bar.mark) for bar in bars]
    shown = [bar for bar in shown if bar.parts]
    if not shown:
        return ""
    names = list(dict.fromkeys(name for bar in shown for name in bar.parts))
    most = max(sum(bar.parts.values()) for bar in shown)

    def draw(width: int) -> str:
        narrow = width < WIDE
        left = 8.0 if narrow else 24 + max(_text_width(_label(bar.name, bar.mark)) for bar in shown)
        right = width - (16.0 if narrow else 92.0)
        band, top = (48 if narrow else 36), 8
        bottom = top + band * len(shown)
        scale = _Scale(0, most, left, right, False)
        parts = [_vertical_grid(scale, top, bottom, unit)]
        for index, bar in enumerate(shown):
            middle = top + band * index + (32 if narrow else band / 2)
            total = sum(bar.parts.values())
            said = f"{number(total)} {unit}"
            if narrow:
                parts += [
                    _text(8, middle - 14, bar.name, "name", mark=bar.mark),
                    _text(right, middle - 14, said, "value end"),
                ]
            else:
                parts += [_text(left - 10, middle + 4, bar.name, "name end", mark=bar.mark)]
                parts += [_text(scale.at(total) + 8, middle + 4, said, "value")]
            before = 0.0
            for name, value in bar.parts.items():
                x, end = scale.at(before), scale.at(before + value)
                tip = f"{_label(bar.name, bar.mark)}, {name}: {number(value)} {unit}, {value / total:.0%}"
                parts.append(
                    f'<rect class="part {_part_class(names.index(name), tones)}" x="{x:.1f}" y="{middle - 10:.1f}" '
                    f'width="{max(end - x, 0.5):.1f}" height="20"><title>{escape(tip)}</title></rect>'
                )
                before += value
        legend, height = "", bottom + 40.0
        if len(names) > 1:
            signs = [(name, _part_class(i, tones), -2, "") for i, name in enumerate(names)]
            legend, height = _legend(signs, width, height + 8)
        said = "; ".join(f"{bar.name} {number(sum(bar.parts.values()))} {unit}" for bar in shown)
        return _svg(width, height, title, f"Sums: {said}.", f"{key}-{width}", [*parts, legend])

    return _twice(draw)


def _part_class(index: int, tones: Sequence[int]) -> str:
    """Colours come again, paler, where there are more parts than colours."""
    return f"t{tones[index % len(tones)]}{' pale' if index >= len(tones) else ''}"


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


class _Scale:
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


def _vertical_grid(scale: _Scale, top: float, bottom: float, label: str, ticks: dict[float, str] | None = None) -> str:
    begin, end = scale.begin, scale.end
    most = max(2, int((end - begin) / 58))
    places = ticks or {value: f"{value:.6g}" for value in scale.ticks(most)}
    parts, last = [], -math.inf
    for value, name in sorted(places.items()):
        x = scale.at(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        if x - last > _text_width(name) + 8:
            parts.append(_text(x, bottom + 16, name, "axis middle"))
            last = x
    parts.append(_text(end, bottom + 34, label, "axis end"))
    return "".join(parts)


def _grid(scale: _Scale, left: float, right: float) -> str:
    parts = []
    for value in scale.ticks(7):
        y = scale.at(value)
        parts.append(f'<line class="grid" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(left - 6, y + 4, f"{value:.6g}", "axis end"))
    return "".join(parts)


def _axis_name(x: float, y: float, name: str) -> str:
    return _text(x - 38, y, name, "axis")


def _legend(entries: list[tuple[str, str, int, str]], width: int, top: float) -> tuple[str, float]:
    """Names with their signs, in as many rows as they need; and where they end.

    Of each entry the name, the class of its sign, a line's dash or from -1 down a shape, and its mark.
    """
    parts, x, y = [], 8.0, top
    for name, kind_of, sign, mark in entries:
        wide = 34 + _text_width(_label(name, mark))
        if x > 8 and x + wide > width:
            x, y = 8.0, y + 20
        if sign >= 0:
            drawn = f'<line class="line d{sign % 3}" x1="{x:.1f}" x2="{x + 20:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>'
        else:
            shape = _CROSS if mark else _SHAPES[(-1 - sign) % 3]
            kind = "cross" if mark else "point"
            drawn = f'<path class="{kind}" d="{shape}" transform="translate({x + 10:.1f} {y:.1f})"/>'
        parts.append(f'<g class="{kind_of}">{drawn}</g>{_text(x + 26, y + 4, name, "name", mark=mark)}')
        x += wide + 10
    return "".join(parts), y + 20


def _svg(width: float, height: float, title: str, description: str, key: str, parts: Iterable[str]) -> str:
    name = escape(key)
    return (
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d" '
        f'xmlns="http://www.w3.org/2000/svg"><title id="{name}-t">{escape(title)}</title>'
        f'<desc id="{name}-d">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


def _twice(draw: Callable[[int], str]) -> str:
    return f'<div class="wide">{draw(WIDE)}</div><div class="narrow">{draw(NARROW)}</div>'


def _text(x: float, y: float, text: str, kind: str, mark: str = "") -> str:
    marked = f' <tspan class="mark">{escape(mark)}</tspan>' if mark else ""
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}">{escape(text)}{marked}</text>'


def _label(name: str, mark: str) -> str:
    return f"{name} {mark}" if mark else name


def _text_width(text: str) -> float:
    return len(text) * _LETTER


def _tone(tone: int, mark: str) -> str:
    return "t-bad" if mark else f"t{tone % TONES}"


def _drawable(row: Series) -> Series:
    return Series(row.name, [value for value in row.values if _is_positive(value)], row.tone, row.mark)


def _is_positive(value: float) -> bool:
    """Above 0, and no larger or smaller than anything that is measured: scales divide and square."""
    return 1 / _LARGEST < value < _LARGEST


def _quantile(values: Sequence[float], q: float) -> float:
    """Linear between the two nearest values."""
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def _apart(places: Iterable[float], least: float) -> list[float]:
    """The places in order, moved down where they would lie closer than that."""
    moved: list[float] = []
    for place in sorted(places):
        moved.append(max(place, moved[-1] + least) if moved else place)
    return moved
