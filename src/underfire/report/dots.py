"""Values with their intervals on one axis, as inline SVG, in the colours of the page's style sheet.

A dot is read on its axis and in numbers in the column at the right; a bar with a whisker was read at the whisker's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from underfire.metrics.estimate import Estimate
from underfire.report.charts import COLOURS, Axis
from underfire.report.text import MISSING, number

W, LEFT, RIGHT = 460, 92, 108
"""Width of the drawing; room for names at the left, for numbers at the right."""
TOP, STEP, GROUP = 30, 11, 25
"""First line; distance of two series of a group, and of two groups."""
BOTTOM = 26
"""Room for the axis."""
SHARE = tuple((v / 4, f"{v / 4:g}") for v in range(5))
LOG_L1 = Axis("", 1e-4, 1.0, tuple((10.0**d, f"{10.0**d:.{-d}f}") for d in range(-4, 1)), log=True)
"""From a map that nobody could tell apart to one that is inverted."""
UNIT = Axis("", 0.0, 1.0, SHARE)
Group = tuple[str, Sequence[Estimate]]


def dots(groups: Sequence[Group], title: str, key: str, about: str, axis: Axis = UNIT) -> Markup:
    """Draw a line for each group, and on it a dot with its interval for each series.

    Args:
        groups: a name, and a value for each series; one without a value leaves its place empty.
        title: what is measured.
        key: unique to the plot on the page.
        about: what it shows, in words, for readers who do not see it.
        axis: where values lie. An interval that leaves it ends in an arrow.
    """
    parts, y = [f'<text class="unit" x="0" y="13">{escape(title)}</text>'], float(TOP)
    for name, series in groups:
        middle = y + (len(series) - 1) * STEP / 2
        told = " → ".join(MISSING if e.value is None else number(e.value) for e in series)
        parts.append(f'<path class="grid" d="M{LEFT} {middle:.1f}H{W - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        parts.append(f'<text class="unit" x="{W}" y="{middle + 4:.1f}" text-anchor="end">{told}</text>')
        for i, estimate in enumerate(series):
            parts += _dot(estimate, i % COLOURS, y + i * STEP, axis)
        y += (len(series) - 1) * STEP + GROUP
    parts += _ticks(axis, y - GROUP / 2 + 4)
    head = (
        f'<svg class="plot" viewBox="0 0 {W} {y + BOTTOM:.0f}" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(about)}</desc>'
    )
    # Everything but the escaped texts is made of our own numbers.
    return Markup(head + "".join(parts) + "</svg>")


def _at(axis: Axis, value: float) -> float:
    return LEFT + axis.at(value) * (W - LEFT - RIGHT)


def _ticks(axis: Axis, y: float) -> list[str]:
    parts = []
    for value, told in axis.ticks:
        at = _at(axis, value)
        parts.append(f'<path class="tick" d="M{at:.1f} {TOP - 8}V{y:.1f}"/>')
        parts.append(f'<text x="{at:.1f}" y="{y + 16:.1f}" text-anchor="middle">{told}</text>')
    return parts


def _dot(estimate: Estimate, style: int, y: float, axis: Axis) -> list[str]:
    if estimate.value is None:
        return []
    parts = []
    if estimate.low is not None and estimate.high is not None:
        low, high = _at(axis, estimate.low), _at(axis, estimate.high)
        parts.append(f'<path class="whisker w{style}" d="M{low:.1f} {y:.1f}H{high:.1f}"/>')
        parts += _arrows(estimate.low < axis.low, estimate.high > axis.high, style, y)
    return [*parts, f'<circle class="d{style}" cx="{_at(axis, estimate.value):.1f}" cy="{y:.1f}" r="4.5"/>']


def _arrows(below: bool, above: bool, style: int, y: float) -> list[str]:
    """Mark where an interval is cut."""
    ends = [(LEFT - 5, 6)] * below + [(W - RIGHT + 5, -6)] * above
    return [f'<path class="d{style}" d="M{x} {y:.1f}l{dx} -4v8z"/>' for x, dx in ends]
