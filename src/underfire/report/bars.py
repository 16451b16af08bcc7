"""Horizontal bars with intervals as inline SVG, in the colours of the page's style sheet."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from markupsafe import Markup

from underfire.metrics.estimate import Estimate
from underfire.report.charts import COLOURS
from underfire.report.text import MISSING, number

W, LEFT, RIGHT = 460, 92, 62
"""Width of the drawing; room for names at the left, for numbers at the right."""
BAR, GAP, GROUP = 15, 3, 14
"""Height of a bar, between two bars, and between groups."""
ROOM = 1.25
"""The drawing reaches so many times as far as the longest bar; a longer interval, as that of two photos, is cut."""
Group = tuple[str, Sequence[Estimate]]


def bars(groups: Sequence[Group], title: str, key: str, about: str, top: float | None = None) -> Markup:
    """Draw groups of horizontal bars, one colour for each place in a group.

    Args:
        groups: a name, and a bar for each series; one without a value leaves its place empty.
        title: what is measured.
        key: unique to the plot on the page.
        about: what it shows, in words, for readers who do not see it.
        top: value at the right end; by default the largest one shown.
    """
    shown = [e for _, series in groups for e in series if e.value is not None]
    reach = top or ROOM * max((e.value or 0.0 for e in shown), default=1.0) or 1.0
    parts, y = [f'<text class="unit" x="0" y="13">{escape(title)}</text>'], 24.0
    for name, series in groups:
        height = len(series) * (BAR + GAP) - GAP
        parts.append(f'<text x="{LEFT - 8}" y="{y + height / 2 + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        for i, estimate in enumerate(series):
            parts += _bar(estimate, i % COLOURS, y + i * (BAR + GAP), reach)
        y += height + GROUP
    parts.append(f'<path class="tick" d="M{LEFT} 20V{y - GROUP + 4:.1f}"/>')
    head = (
        f'<svg class="plot" viewBox="0 0 {W} {y:.0f}" role="img" aria-labelledby="{key}-t {key}-d">'
        f'<title id="{key}-t">{escape(title)}</title><desc id="{key}-d">{escape(about)}</desc>'
    )
    # Everything but the escaped texts is made of our own numbers.
    return Markup(head + "".join(parts) + "</svg>")


def _bar(estimate: Estimate, style: int, y: float, reach: float) -> list[str]:
    def x(value: float) -> float:
        return LEFT + min(max(value / reach, 0.0), 1.0) * (W - LEFT - RIGHT)

    if estimate.value is None:
        return [f'<text x="{LEFT + 6}" y="{y + BAR - 3:.1f}">{MISSING}</text>']
    end = x(estimate.value)
    parts = [f'<rect class="d{style}" x="{LEFT}" y="{y:.1f}" width="{end - LEFT:.1f}" height="{BAR}"/>']
    if estimate.low is not None and estimate.high is not None:
        middle = y + BAR / 2
        low, end = x(estimate.low), max(end, x(estimate.high))
        parts.append(f'<path class="whisker" d="M{low:.1f} {middle:.1f}H{x(estimate.high):.1f}"/>')
    return [*parts, f'<text x="{end + 6:.1f}" y="{y + BAR - 3:.1f}">{number(estimate.value)}</text>']
