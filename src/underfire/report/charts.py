"""Line plots as inline SVG: colours come from the page's style sheet, so they follow light and dark.

Written by hand rather than by a plotting library: a plot is some 5 kB whatever the number of photos, its text is text,
and the same numbers give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from underfire.metrics.estimate import Estimate
from underfire.metrics.smallest import LEVELS

W, H = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 46
COLOURS = 8
"""How many line styles the style sheet has (classes c0 … c7)."""
KNOTS = 201
"""An empirical distribution is drawn through at most this many quantiles."""

Point = tuple[float, float | None]


@dataclass(frozen=True)
class Axis:
    """One axis of a plot.

    Args:
        title: written along it.
        low: value at its start.
        high: value at its end.
        ticks: value and text of each tick.
        log: whether it is logarithmic. Values outside are drawn at the nearer end.
    """

    title: str
    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies: 0 at the start, 1 at the end."""
        low, high, v = self.low, self.high, min(max(value, self.low), self.high)
        if self.log:
            low, high, v = math.log10(low), math.log10(high), math.log10(v)
        return (v - low) / (high - low)


@dataclass(frozen=True)
class Curve:
    """One line; ``style`` is its colour and dash. A point without a y leaves a gap."""

    points: Sequence[Point]
    style: int
    dots: bool = False


PERCENT = tuple((v / 100, f"{v} %") for v in (0, 25, 50, 75, 100))


def distribution(l1: Sequence[NDArray[np.float64]], mark: float | None, key: str, about: str) -> Markup:
    """Draw the share of photos whose map moved no further than x, one line for each attack.

    Args:
        l1: ascending map distances, one array for each attack; empty ones are left out.
        mark: the untouched scale, drawn as a vertical line.
        key: unique to the plot on the page.
        about: what it shows, in words, for readers who do not see it.
    """
    shown = [values for values in l1 if values.size]
    smallest = min((float(v[v > 0].min()) for v in shown if (v > 0).any()), default=0.01)
    decades = range(max(-4, min(-2, math.floor(math.log10(smallest)))), 1)
    x = Axis(
        "L1 distance of the maps (log scale)",
        10.0 ** decades[0],
        1.0,
        tuple((10.0**d, f"{10.0**d:.{-d}f}") for d in decades),
        log=True,
    )
    y = Axis("share of photos", 0, 1, PERCENT)
    curves = [Curve(_steps(values), i % COLOURS) for i, values in enumerate(l1) if values.size]
    return _svg(curves, x, y, key=key, title="Map distance", about=about, mark=mark)


def _steps(values: NDArray[np.float64]) -> list[Point]:
    """Return the corners of the empirical distribution function; of many, quantiles."""
    if values.size > KNOTS:
        shares = np.linspace(0, 1, KNOTS)
        return [(float(v), float(s)) for v, s in zip(np.quantile(values, shares), shares, strict=True)]
    corners: list[Point] = [(0.0, 0.0)]
    for i, v in enumerate(values, 1):
        corners += [(float(v), (i - 1) / values.size), (float(v), i / values.size)]
    return [*corners, (1.0, 1.0)]


def overlap(curves: Sequence[Sequence[float | None]], thresholds: Sequence[float], key: str, about: str) -> Markup:
    """Draw the mean IoU of the maps' parts above a threshold, one line for each attack."""
    x = Axis("threshold t on both maps", 0.05, 0.95, tuple((t, f"{t:g}") for t in thresholds))
    y = Axis("overlap (IoU) of the parts above t", 0, 1, tuple((v / 4, f"{v / 4:g}") for v in range(5)))
    lines = [Curve(list(zip(thresholds, c, strict=True)), i % COLOURS, dots=True) for i, c in enumerate(curves) if c]
    return _svg(lines, x, y, key=key, title="Overlap of the maps", about=about)


def roc(curves: Sequence[tuple[Sequence[float], Sequence[float]]], key: str, about: str) -> Markup:
    """Draw the share of attacked images with an alarm over that of benign ones, one line for each attack."""
    quarters = tuple((v / 4, f"{25 * v} %") for v in range(5))
    x, y = Axis("benign images with an alarm", 0, 1, quarters), Axis("attacked images with an alarm", 0, 1, quarters)
    lines = [Curve(list(zip(*c, strict=True)), i % COLOURS) for i, c in enumerate(curves)]
    return _svg(lines, x, y, key=key, title="ROC", about=about)


def within(curves: Sequence[tuple[Sequence[tuple[float, Estimate]], int]], unit: str, key: str, about: str) -> Markup:
    """Draw the share of photos forged within a budget, with its 95 % band: for each attack its curve, and its style."""
    most = max((budget for curve, _ in curves for budget, _ in curve), default=1.0)
    least = 1.0 if unit == LEVELS else 0.1
    stride = least * math.ceil(most / least / 6)
    ticks = tuple((stride * i, f"{stride * i:g}") for i in range(int(most / stride + 1e-6) + 1))
    lines, bands = [], []
    for curve, style in curves:
        low, middle, high = (
            _held([(at, getattr(e, part) or 0.0) for at, e in curve], most) for part in ("low", "value", "high")
        )
        lines.append(Curve(middle, style))
        bands.append((low, high, style))
    x, y = Axis(f"budget, {unit}", 0, most, ticks), Axis("photos forged within the budget", 0, 1, PERCENT)
    return _svg(lines, x, y, key=key, title="Smallest budget", about=about, bands=bands)


def _held(points: Sequence[tuple[float, float]], most: float) -> list[tuple[float, float]]:
    """Give the corners of a step function that holds its value up to the next point."""
    corners, last = [(0.0, 0.0)], 0.0
    for at, value in points:
        corners += [(at, last), (at, value)]
        last = value
    return [*corners, (most, last)]


def _svg(
    curves: Sequence[Curve],
    x: Axis,
    y: Axis,
    *,
    key: str,
    title: str,
    about: str,
    mark: float | None = None,
    bands: Sequence[tuple[Sequence[tuple[float, float]], Sequence[tuple[float, float]], int]] = (),
) -> Markup:
    def px(value: float) -> float:
        return LEFT + x.at(value) * (W - LEFT - RIGHT)

    def py(value: float) -> float:
        return H - BOTTOM - y.at(value) * (H - TOP - BOTTOM)

    parts = [
        f'<svg class="plot" viewBox="0 0 {W} {H}" role="img" aria-labelledby="{key}-t {key}-d">',
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(about)}</desc>',
        *_frame(x, y, px, py),
        *(_mark(px(mark)) if mark is not None else ()),
        *(_band(low, high, style, px, py) for low, high, style in bands),
        *(_curve(curve, px, py) for curve in curves),
        "</svg>",
    ]
    # Everything but the escaped title and text above is made of our own numbers and words.
    return Markup("".join(parts))


def _frame(x: Axis, y: Axis, px: Callable[[float], float], py: Callable[[float], float]) -> list[str]:
    right, bottom = W - RIGHT, H - BOTTOM
    parts = [f'<text class="unit" x="0" y="13">{escape(y.title)}</text>']
    for value, told in y.ticks:
        at = py(value)
        parts.append(f'<path class="grid" d="M{LEFT} {at:.1f}H{right}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{told}</text>')
    for value, told in x.ticks:
        anchor = "end" if value == x.high else "middle"
        at = right if value == x.high else px(value)
        parts.append(f'<path class="tick" d="M{px(value):.1f} {bottom}v5"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 19}" text-anchor="{anchor}">{told}</text>')
    parts.append(f'<text class="unit" x="{right}" y="{H - 6}" text-anchor="end">{escape(x.title)}</text>')
    return parts


def _mark(at: float) -> list[str]:
    anchor, shift = ("end", -6) if at > W * 0.62 else ("start", 6)
    return [
        f'<path class="mark" d="M{at:.1f} {TOP - 6}V{H - BOTTOM}"/>',
        f'<text class="mark-text" x="{at + shift:.1f}" y="{TOP - 8}" text-anchor="{anchor}">untouched scale</text>',
    ]


def _band(
    low: Sequence[tuple[float, float]],
    high: Sequence[tuple[float, float]],
    style: int,
    px: Callable[[float], float],
    py: Callable[[float], float],
) -> str:
    corners = " ".join(f"{px(x):.1f} {py(y):.1f}" for x, y in (*low, *reversed(high)))
    return f'<polygon class="band d{style}" points="{corners}"/>'


def _curve(curve: Curve, px: Callable[[float], float], py: Callable[[float], float]) -> str:
    path, pen, dots = "", "M", ""
    for x, y in curve.points:
        if y is None:
            pen = "M"
            continue
        path += f"{pen}{px(x):.1f} {py(y):.1f}"
        pen = "L"
        if curve.dots:
            dots += f'<circle class="d{curve.style}" cx="{px(x):.1f}" cy="{py(y):.1f}" r="3"/>'
    return f'<path class="line c{curve.style}" d="{path}"/>{dots}'
