"""The page of a comparison: a table with the difference of each measure as a dot on its interval."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import groupby
from pathlib import PurePosixPath
from typing import Any

from markupsafe import Markup

from underfire.gating.compare import Change, Comparison
from underfire.gating.ruling import figure
from underfire.report.html import fill

WIDTH, HEIGHT, EDGE = 220, 22, 8
"""Size of the drawing of an interval, and the room at its ends, px."""


def page(comparison: Comparison) -> str:
    """Return the page as text; it loads nothing and runs no scripts."""
    groups = [
        {"title": place, "rows": [_row(change) for change in changes]}
        for place, changes in groupby(comparison.changes, key=lambda change: change.place)
    ]
    names = [PurePosixPath(folder.replace("\\", "/")).name for folder in (comparison.before, comparison.now)]
    return fill("compare.html.j2", found=comparison, groups=groups, names=names, lead=_lead(comparison))


def _lead(comparison: Comparison) -> Mapping[str, Any] | None:
    """Pick the change of the forged rate that says most; None where no forged rate is compared."""
    forged = [change for change in comparison.changes if change.measure == "forged"]
    return _row(max(forged, key=lambda change: (change.clear, abs(change.difference)))) if forged else None


def _row(change: Change) -> dict[str, Any]:
    values = {name: figure(getattr(change, name), change.n, change.rate) for name in ("before", "now")}
    ends = [figure(end, change.n, change.rate, signed=True) for end in (change.low, change.high)]
    return {
        "change": change,
        **values,
        "difference": points(change),
        "interval": " to ".join(ends) if change.low is not None else "",
        "drawing": _drawing(change),
        "p": "" if change.p is None else f"{change.p:.2g}" if change.p >= 0.001 else "< 0.001",
    }


def points(change: Change) -> str:
    """Write the difference with its sign."""
    return figure(change.difference, change.n, change.rate, signed=True)


def _drawing(change: Change) -> Markup:
    """Draw the interval of the difference around zero, on a scale of its own kind; nothing where there is none."""
    if change.low is None or change.high is None:
        return Markup()
    reach = 1.0 if change.rate else max(abs(change.low), abs(change.high), 1e-12)
    low, middle, high = (
        WIDTH / 2 + (WIDTH / 2 - EDGE) * value / reach for value in (change.low, change.difference, change.high)
    )
    y = HEIGHT / 2
    colour = "var(--accent)" if change.clear else "var(--quiet)"
    return Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img" aria-label="{about}">'
        '<path class="grid" d="M{zero} 1V{bottom}"/>'
        '<path d="M{low:.1f} {y}H{high:.1f}" stroke="{colour}" stroke-width="2.5"/>'
        '<circle cx="{middle:.1f}" cy="{y}" r="4.5" fill="{colour}"/></svg>'
    ).format(
        w=WIDTH,
        h=HEIGHT,
        about=f"difference {points(change)}",
        zero=WIDTH // 2,
        bottom=HEIGHT - 1,
        low=low,
        high=high,
        middle=middle,
        y=y,
        colour=colour,
    )
