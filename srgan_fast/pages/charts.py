"""Charts as inline SVG, drawn by matplotlib: plain data in, text out.

Text and axes use the colour of the surrounding page, so that charts adapt to dark mode and printing.
"""

import io
import math
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

_MOST_DOTS = 240  # per series; more would overlap and bloat the file
_LOG_FROM = 8.0  # ratio of the largest to the smallest value from which a scale is logarithmic
_LARGEST = 1e100  # largest value that axis scaling can handle
_INK = "#010203"  # placeholder for the page's text colour
_BAD = "#d03040"
_COLOURS = {
    **{"native": "#3b78f0", "torch": "#dd6b10", "openvino": "#8a56e8", "onnxruntime": "#0c9c90", "mnn": "#cf2f86"},
    **{"ncnn": "#6f9c10", "tensorrt": "#0f9f4f", "opencv": "#b0801a", "iree": "#4a90a4", "zentorch": "#a04a4a"},
}
_OTHER = "#7b8798"
_PARTS = (*_COLOURS.values(), _OTHER)
_MARKERS = {"fp32": "o", "bf16": "s", "fp16": "s", "int8": "D"}
_DASHES = {"fp32": "-", "bf16": "--", "fp16": "--", "int8": ":"}

Draw = Callable[[str], str]


@dataclass(frozen=True, slots=True)
class Series:
    """Figures of one row: x and y, or only x for charts with one axis.

    Runtime and precision determine colour, marker and dashes; a mark such as "wrong" is shown in red.
    """

    name: str
    points: Sequence[tuple[float, float]]
    runtime: str = ""
    precision: str = "fp32"
    mark: str = ""

    @property
    def label(self) -> str:
        """Name and mark."""
        return f"{self.name} ({self.mark})" if self.mark else self.name

    @property
    def colour(self) -> str:
        """Colour of its runtime, the same on every page."""
        if self.mark:
            return _BAD
        known = (colour for name, colour in _COLOURS.items() if self.runtime.startswith(name))
        return next(known, _OTHER)


@dataclass(frozen=True, slots=True)
class StackedBar:
    """A row as a bar of stacked parts."""

    name: str
    parts: Mapping[str, float] = field(default_factory=dict)
    mark: str = ""


def strips(series: Iterable[Series], unit: str) -> Draw:
    """Each row's values as dots along one scale, with quartile box and median."""
    shown = [(row, [x for x, _ in row.points if _is_positive(x)]) for row in series]
    shown = [(row, values) for row, values in shown if values]

    def plot(axes: Any) -> None:
        for place, (row, values) in enumerate(reversed(shown)):
            every = math.ceil(len(values) / _MOST_DOTS)
            # Vertical offsets by the golden ratio, so that consecutive values do not overlap.
            dots = [(values[i], place + (i * 0.618034 % 1 - 0.5) * 0.4) for i in range(0, len(values), every)]
            axes.scatter(*zip(*dots, strict=True), s=7, color=row.colour, alpha=0.6, linewidths=0)
            line = {"color": row.colour}
            axes.boxplot(
                [values], positions=[place], orientation="horizontal", widths=0.5, whis=(0, 100), showcaps=False,
                boxprops=line, whiskerprops=line, medianprops={"color": row.colour, "linewidth": 2.5},
                manage_ticks=False,
            )  # fmt: skip
        axes.set_yticks(range(len(shown)), [row.label for row, _ in reversed(shown)])
        every_value = [value for _, values in shown for value in values]
        if max(every_value) / min(every_value) > _LOG_FROM:
            _log(axes, "x")
        axes.set_xlabel(unit)

    return _drawing(plot, 0.7 + 0.36 * len(shown), f"{unit} of every run") if shown else _nothing


def lines(series: Iterable[Series], x_label: str, y_label: str, ticks: Mapping[float, str]) -> Draw:
    """Rows as lines, both scales logarithmic; `ticks` labels positions on the horizontal axis."""
    shown = _with_points(series)

    def plot(axes: Any) -> None:
        for row, points in shown:
            dash, marker = _DASHES.get(row.precision, "-"), _MARKERS.get(row.precision, "o")
            axes.plot(*zip(*points, strict=True), dash, marker=marker, color=row.colour, label=row.label, markersize=5)
        _log(axes, "x")
        _log(axes, "y")
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_xticks([], minor=True)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(axes)

    return _drawing(plot, 4.2, f"{y_label} against {x_label}") if shown else _nothing


def scatter(series: Iterable[Series], x_label: str, y_label: str) -> Draw:
    """Rows as points."""
    shown = _with_points(series)

    def plot(axes: Any) -> None:
        for row, points in shown:
            marker = "X" if row.mark else _MARKERS.get(row.precision, "o")
            axes.scatter(*zip(*points, strict=True), marker=marker, s=55, color=row.colour, label=row.label)
        heights = [y for _, points in shown for _, y in points]
        if max(heights) / min(heights) > _LOG_FROM:
            _log(axes, "y")
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        _legend(axes)

    return _drawing(plot, 4.0, f"{y_label} against {x_label}") if shown else _nothing


def stacks(bars: Iterable[StackedBar], unit: str) -> Draw:
    """Rows as stacked bars."""
    shown = [(bar, {name: value for name, value in bar.parts.items() if _is_positive(value)}) for bar in bars]
    shown = [(bar, parts) for bar, parts in shown if parts]

    def plot(axes: Any) -> None:
        labels = [f"{bar.name} ({bar.mark})" if bar.mark else bar.name for bar, _ in reversed(shown)]
        left = [0.0] * len(shown)
        for index, name in enumerate(dict.fromkeys(name for _, parts in shown for name in parts)):
            widths = [parts.get(name, 0.0) for _, parts in reversed(shown)]
            hatch = "//" if index >= len(_PARTS) else None
            axes.barh(range(len(shown)), widths, 0.6, left, color=_PARTS[index % len(_PARTS)], label=name, hatch=hatch)
            left = [a + b for a, b in zip(left, widths, strict=True)]
        axes.set_yticks(range(len(shown)), labels)
        axes.set_xlabel(unit)
        _legend(axes)

    return _drawing(plot, 0.9 + 0.4 * len(shown), f"{unit} in parts") if shown else _nothing


def _nothing(key: str) -> str:
    return ""


def _is_positive(value: float) -> bool:
    """Positive and within the range that can be drawn."""
    return 1 / _LARGEST < value < _LARGEST


def _with_points(series: Iterable[Series]) -> list[tuple[Series, list[tuple[float, float]]]]:
    shown = [(row, [(x, y) for x, y in row.points if _is_positive(x) and _is_positive(y)]) for row in series]
    return [(row, points) for row, points in shown if points]


def _log(axes: Any, axis: str) -> None:
    from matplotlib import ticker  # noqa: PLC0415 (only pages need it)

    (axes.set_xscale if axis == "x" else axes.set_yscale)("log")
    chosen = axes.xaxis if axis == "x" else axes.yaxis
    chosen.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    chosen.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    chosen.set_minor_formatter(ticker.NullFormatter())


def _legend(axes: Any) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelcolor=_INK)


def _drawing(plot: Callable[[Any], None], height: float, title: str) -> Draw:
    """Draws on first use; where matplotlib is not installed, a line says so."""

    def draw(key: str) -> str:
        try:
            import matplotlib as mpl  # noqa: PLC0415 (an extra)
            from matplotlib.figure import Figure  # noqa: PLC0415
        except ImportError:
            return "<p>The chart needs matplotlib: pip install 'srgan_fast[bench]'</p>"
        settings: Any = {"svg.fonttype": "none", "svg.hashsalt": key, "text.parse_math": False, "font.size": 9.5}
        settings |= dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor"), _INK)
        settings |= dict.fromkeys(("xtick.color", "ytick.color"), _INK)
        file = io.StringIO()
        with mpl.rc_context(settings), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of letters that its fonts lack: the reader's fonts are used
            figure = Figure(figsize=(9, height), layout="constrained")
            axes = figure.add_subplot()
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(alpha=0.25)
            axes.set_axisbelow(True)
            plot(axes)
            figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
        return _inline(file.getvalue(), key, title)

    return draw


def _inline(text: str, key: str, title: str) -> str:
    """The drawing as an element of a page: ids that are unique there, colours of the page, a title."""
    svg = text[text.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{key}-", svg).replace(_INK, "currentColor")
    return svg.replace("<svg", f'<svg role="img" aria-label="{escape(title)}"', 1)
