"""Line charts as numbers: scales, ticks and paths, which a template draws as SVG."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 360, 226
LEFT, RIGHT, TOP, BOTTOM = 46, 350, 10, 186
FRAME = {"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": RIGHT, "top": TOP, "bottom": BOTTOM}
"""Of a drawing, for the template."""
_STEPS = (1, 2, 5)
_APART = 30
"""Least distance of two labels of radii."""

__all__ = ["Chart", "Line", "Series", "Tick", "line_chart"]


@dataclass(frozen=True)
class Series:
    """What is drawn as one line.

    Attributes:
        name: For people.
        points: (x, y) in the order of x; y None where there is none.
        ends: Lower and upper end of each point's interval; None where there is none.
        css_class: How the line looks.
        colour: As ``"#rrggbb"``.
        number: By which a legend knows it.
    """

    name: str
    points: Sequence[tuple[float, float | None]]
    ends: Sequence[tuple[float, float] | None]
    css_class: str
    colour: str
    number: int


@dataclass(frozen=True)
class Line:
    """A series in the coordinates of the drawing."""

    name: str
    css_class: str
    colour: str
    number: int
    path: str
    band: str
    dots: tuple[tuple[float, float, str], ...]


@dataclass(frozen=True)
class Tick:
    """A mark of an axis, and where it is."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A drawing of ``WIDTH`` × ``HEIGHT``."""

    title: str
    x_label: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...]


def line_chart(
    title: str,
    x_label: str,
    series: Sequence[Series],
    x_labels: Sequence[tuple[float, str]],
    *,
    logarithmic: bool,
    unit: str = "",
    reach: tuple[float, float] | None = None,
) -> Chart:
    """Lines over a common axis.

    Args:
        title: Over the drawing.
        x_label: Below the axis.
        series: At least one, with at least one point.
        x_labels: Places on the axis and what they are called; labels that would touch the one before are left out.
        logarithmic: Whether equal ratios are equally far apart; x is greater than 0 then.
        unit: Behind the values of the dots' titles.
        reach: Least and greatest y; None for those of the series and 0.
    """
    xs = [x for x, _ in x_labels]
    place = _scale([math.log(x) for x in xs] if logarithmic else xs, LEFT + 8, RIGHT - 8)
    across = (lambda x: place(math.log(x))) if logarithmic else place
    if reach is None:
        known = [y for one in series for _, y in one.points if y is not None]
        known += [end for one in series for ends in one.ends if ends is not None for end in ends]
        reach = min([0.0, *known]), max([0.0, *known])
    ticks = nice_ticks(*reach)
    up = _scale([ticks[0], ticks[-1]], BOTTOM, TOP)
    shown: list[Tick] = []
    for x, label in x_labels:
        tick = Tick(round(across(x), 1), label)
        if not shown or tick.at - shown[-1].at >= max(_APART, 3.2 * (len(label) + len(shown[-1].label))):
            shown.append(tick)
    digits = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    lines = []
    for one in series:
        dots = [(round(across(x), 1), round(up(y), 1), y) for x, y in one.points if y is not None]
        titled = tuple((x, y, f"{one.name}: {minus(f'{value:.{max(1, digits + 1)}f}')}{unit}") for x, y, value in dots)
        held = [(across(x), ends) for (x, _), ends in zip(one.points, one.ends, strict=True) if ends is not None]
        outline = [(x, up(high)) for x, (_, high) in held] + [(x, up(low)) for x, (low, _) in reversed(held)]
        band = _path(outline) if len(held) > 1 else ""
        lines.append(Line(one.name, one.css_class, one.colour, one.number, _path([d[:2] for d in dots]), band, titled))
    rows = tuple(Tick(round(up(value), 1), minus(f"{value:.{digits}f}")) for value in ticks)
    return Chart(title, x_label, tuple(shown), rows, tuple(lines))


def minus(text: str) -> str:
    """Numbers with a minus sign in place of the hyphen; words stay as they are.

    Examples:
        >>> minus("worst-task-2: [-1.5, 2]")
        'worst-task-2: [−1.5, 2]'
    """
    return re.sub(r"(?<![\w.])-(?=\d)", "−", text)


def nice_ticks(low: float, high: float) -> list[float]:
    """Four to seven round numbers that enclose a range.

    Examples:
        >>> nice_ticks(-83.0, 0.0)
        [-100.0, -80.0, -60.0, -40.0, -20.0, 0.0]
        >>> nice_ticks(0.0, 1.0)
        [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    width = high - low if high > low else 1.0
    power = 10.0 ** math.floor(math.log10(width / 5))
    step = next(step * power for step in (*_STEPS, 10) if width / (step * power) <= 5.5)
    first, last = math.floor(low / step + 1e-9), math.ceil((low + width) / step - 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


class _scale:
    """From values to places between two ends; the middle where all values are the same."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self.low, self.width = min(values), max(values) - min(values)
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        share = (value - self.low) / self.width if self.width else 0.5
        return self.start + share * (self.end - self.start)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) if points else ""
