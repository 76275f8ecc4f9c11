"""Charts as inline SVG: plain data in, text out, nothing beside the standard library.

Each chart is drawn twice, wide and for a telephone, and the page's style shows one of the two; colours come from there,
too, so that a chart follows a dark page and a printer. Everything that is drawn tells its figures when pointed at.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from srgan_fast.bench.html.svg import (
    CROSS,
    SHAPES,
    TONES,
    WIDE,
    Scale,
    axis_name,
    horizontal_grid,
    is_positive,
    label,
    legend,
    number,
    svg,
    text,
    text_width,
    tone_class,
    twice,
    vertical_grid,
)

MOST_DOTS = 240  # of one series; more would not be told apart, and would make the file heavy
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
        left = 8.0 if narrow else 24 + max(text_width(label(row.name, row.mark)) for row in shown)
        right = width - (16.0 if narrow else 92.0)
        band, top = (52 if narrow else 36), 10
        bottom = top + band * len(shown)
        scale = Scale(least, most, left + 8, right - 8, most / least > _LOG_FROM)
        parts = [vertical_grid(scale, top, bottom, f"{unit}, {scale.kind}")]
        for index, row in enumerate(shown):
            middle = top + band * index + (34 if narrow else band / 2)
            tone = tone_class(row.tone, row.mark)
            low, median, high = (scale.at(_quantile(row.values, q)) for q in (0.25, 0.5, 0.75))
            said = f"{number(_quantile(row.values, 0.5))} {unit}"
            if narrow:
                parts += [
                    text(8, middle - 17, row.name, "name", mark=row.mark),
                    text(right, middle - 17, said, "value end"),
                ]
            else:
                parts += [text(left - 10, middle + 4, row.name, "name end", mark=row.mark)]
                parts += [text(right + 10, middle + 4, said, "value")]
            tip = (
                f"{label(row.name, row.mark)}: median {said}, least {number(min(row.values))}, "
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
        return svg(width, bottom + 40, title, f"Medians: {medians}.", f"{key}-{width}", parts)

    return twice(draw)


def _dots(row: Series, scale: "Scale", middle: float, unit: str) -> Iterable[str]:
    step = math.ceil(len(row.values) / MOST_DOTS)
    for index in range(0, len(row.values), step):
        value = row.values[index]
        # Up and down by the golden ratio's fractions, so that neighbours in time do not cover each other.
        y = middle + ((index * 0.618034) % 1 - 0.5) * 13
        tip = f"{label(row.name, row.mark)}, run {index + 1}: {number(value)} {unit}"
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
        if (points := [(x, y) for x, y in row.points if is_positive(x) and is_positive(y)])
    ]
    if not shown:
        return ""
    xs = [x for row in shown for x, _ in row.points]
    ys = [y for row in shown for _, y in row.points]

    def draw(width: int) -> str:
        narrow = width < WIDE
        top, bottom = 26, (310 if narrow else 400)
        left = 46.0
        right = width - (14.0 if narrow else 26 + max(text_width(label(row.name, row.mark)) for row in shown))
        across = Scale(min(xs), max(xs), left + 14, right - 12, True)
        up = Scale(min(ys), max(ys), bottom - 12, top + 8, True)
        parts = [horizontal_grid(up, left, right), axis_name(left, top - 4, y_label)]
        parts.append(vertical_grid(across, top, bottom, x_label, ticks))
        ends = []
        for row in shown:
            path = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in row.points)
            dots = "".join(
                f'<circle class="knot" cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="4"><title>'
                f"{escape(f'{label(row.name, row.mark)}, {(ticks or {}).get(x, number(x))}: {number(y)} {y_label}')}"
                "</title></circle>"
                for x, y in row.points
            )
            parts.append(
                f'<g class="{tone_class(row.tone, row.mark)}"><polyline class="line d{row.dash % 3}" points="{path}"/>'
                f"{dots}</g>"
            )
            ends.append((up.at(row.points[-1][1]), across.at(row.points[-1][0]), row))
        height = bottom + 44.0
        if narrow:
            below, height = legend(
                [(row.name, tone_class(row.tone, row.mark), row.dash, row.mark) for row in shown], width, height + 6
            )
            parts.append(below)
        else:
            for (y, x, row), spread in zip(
                sorted(ends, key=lambda end: end[0]), _apart([e[0] for e in ends], 15), strict=True
            ):
                parts.append(
                    f'<line class="leader" x1="{x + 6:.1f}" y1="{y:.1f}" x2="{right + 6:.1f}" y2="{spread:.1f}"/>'
                )
                parts.append(
                    text(right + 10, spread + 4, row.name, f"name tone {tone_class(row.tone, row.mark)}", mark=row.mark)
                )
            height = max(height, max(_apart([e[0] for e in ends], 15)) + 20)
        said = "; ".join(f"{row.name} from {number(row.points[0][1])} to {number(row.points[-1][1])}" for row in shown)
        return svg(width, height, title, f"{y_label} by {x_label}: {said}.", f"{key}-{width}", parts)

    return twice(draw)


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
    shown = [point for point in points if (is_positive(abs(point.x)) or point.x == 0) and is_positive(point.y)]
    if not shown:
        return ""
    xs, ys = [point.x for point in shown], [point.y for point in shown]

    def draw(width: int) -> str:
        narrow = width < WIDE
        top, bottom, left, right = 28, (310 if narrow else 390), 46.0, width - 12.0
        across = Scale(min(xs), max(xs), left + 16, right - (28 if narrow else 90), False)
        up = Scale(min(ys), max(ys), bottom - 14, top + 16, max(ys) / min(ys) > _LOG_FROM)
        parts = [
            horizontal_grid(up, left, right),
            axis_name(left, top - 8, y_label + (", log scale" if up.log else "")),
        ]
        parts.append(vertical_grid(across, top, bottom, x_label))
        if better:
            parts.append(text(right, top - 8, f"{better} \u2197", "axis end"))
        taken: list[tuple[float, float, float, float]] = []
        places = [(across.at(point.x), up.at(point.y)) for point in shown]
        taken += [(x - 7, y - 7, x + 7, y + 7) for x, y in places]
        for point, (x, y) in sorted(zip(shown, places, strict=True), key=lambda both: both[1][1]):
            tip = f"{label(point.name, point.mark)}: {number(point.x)} {x_label}, {number(point.y)} {y_label}"
            shape = CROSS if point.mark else SHAPES[point.shape % 3]
            parts.append(
                f'<g class="{tone_class(point.tone, point.mark)}"><path class="{"cross" if point.mark else "point"}" '
                f'd="{shape}" transform="translate({x:.1f} {y:.1f})"><title>{escape(tip)}</title></path></g>'
            )
            parts.append("" if narrow else _place(point, x, y, taken, left, right))
        height = bottom + 44.0
        if narrow:
            below, height = legend(
                [(p.name, tone_class(p.tone, p.mark), -1 - p.shape, p.mark) for p in shown], width, height + 6
            )
            parts.append(below)
        said = "; ".join(f"{label(p.name, p.mark)} {number(p.x)}, {number(p.y)}" for p in shown)
        return svg(width, height, title, f"{x_label}, {y_label}: {said}.", f"{key}-{width}", parts)

    return twice(draw)


def _place(
    point: Point, x: float, y: float, taken: list[tuple[float, float, float, float]], left: float, right: float
) -> str:
    """The point's name where no other name is, beside it if that can be."""
    wide = text_width(label(point.name, point.mark))
    spots = [(dx, dy) for dy in (0, -14, 14, -28, 28, -42, 42) for dx in (11.0, -11.0 - wide)]
    boxes = [(x + dx, y + dy - 7, x + dx + wide, y + dy + 7) for dx, dy in spots]
    inside = [box for box in boxes if left < box[0] and box[2] < right] or boxes
    free = (box for box in inside if not any(_overlap(box, other) for other in taken))
    box = next(free, inside[0])
    taken.append(box)
    return text(box[0], box[1] + 11, point.name, f"name tone {tone_class(point.tone, point.mark)}", mark=point.mark)


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
    shown = [Bar(bar.name, {k: v for k, v in bar.parts.items() if is_positive(v)}, bar.mark) for bar in bars]
    shown = [bar for bar in shown if bar.parts]
    if not shown:
        return ""
    names = list(dict.fromkeys(name for bar in shown for name in bar.parts))
    most = max(sum(bar.parts.values()) for bar in shown)

    def draw(width: int) -> str:
        narrow = width < WIDE
        left = 8.0 if narrow else 24 + max(text_width(label(bar.name, bar.mark)) for bar in shown)
        right = width - (16.0 if narrow else 92.0)
        band, top = (48 if narrow else 36), 8
        bottom = top + band * len(shown)
        scale = Scale(0, most, left, right, False)
        parts = [vertical_grid(scale, top, bottom, unit)]
        for index, bar in enumerate(shown):
            middle = top + band * index + (32 if narrow else band / 2)
            total = sum(bar.parts.values())
            said = f"{number(total)} {unit}"
            if narrow:
                parts += [
                    text(8, middle - 14, bar.name, "name", mark=bar.mark),
                    text(right, middle - 14, said, "value end"),
                ]
            else:
                parts += [text(left - 10, middle + 4, bar.name, "name end", mark=bar.mark)]
                parts += [text(scale.at(total) + 8, middle + 4, said, "value")]
            before = 0.0
            for name, value in bar.parts.items():
                x, end = scale.at(before), scale.at(before + value)
                tip = f"{label(bar.name, bar.mark)}, {name}: {number(value)} {unit}, {value / total:.0%}"
                parts.append(
                    f'<rect class="part {_part_class(names.index(name), tones)}" x="{x:.1f}" y="{middle - 10:.1f}" '
                    f'width="{max(end - x, 0.5):.1f}" height="20"><title>{escape(tip)}</title></rect>'
                )
                before += value
        below, height = "", bottom + 40.0
        if len(names) > 1:
            signs = [(name, _part_class(i, tones), -2, "") for i, name in enumerate(names)]
            below, height = legend(signs, width, height + 8)
        said = "; ".join(f"{bar.name} {number(sum(bar.parts.values()))} {unit}" for bar in shown)
        return svg(width, height, title, f"Sums: {said}.", f"{key}-{width}", [*parts, below])

    return twice(draw)


def _part_class(index: int, tones: Sequence[int]) -> str:
    """Colours come again, paler, where there are more parts than colours."""
    return f"t{tones[index % len(tones)]}{' pale' if index >= len(tones) else ''}"


def _drawable(row: Series) -> Series:
    return Series(row.name, [value for value in row.values if is_positive(value)], row.tone, row.mark)


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
