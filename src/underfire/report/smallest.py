"""The section on the smallest budgets that forge, where these were searched."""

from __future__ import annotations

from dataclasses import dataclass

from underfire.metrics.smallest import Budgets
from underfire.report.charts import COLOURS, within
from underfire.report.findings import Line, Panel
from underfire.report.html import Context, Section
from underfire.report.text import budget


@dataclass(frozen=True)
class Searched:
    """An attack whose smallest budget was searched, and the number of its colour in the plot."""

    line: Line
    budgets: Budgets
    colour: int


def smallest(context: Context) -> Section | None:
    """Show how much the attacker needs, photo by photo; no section where nobody asked."""
    panels = [one for panel in context.found.panels if (one := _panel(panel))]
    return Section("smallest", "How little it takes", {"panels": panels}) if panels else None


def _panel(panel: Panel) -> dict[str, object] | None:
    lines = [
        Searched(one, one.summary.smallest, i % COLOURS)
        for i, one in enumerate(panel.lines)
        if one.summary.smallest and (one.summary.smallest.by == "success" or not one.summary.in_place)
    ]
    if not lines:
        return None
    plots = []
    for unit in dict.fromkeys(one.budgets.unit for one in lines):
        mine = [one for one in lines if one.budgets.unit == unit]
        told = "; ".join(f"{one.line.label}: median {budget(one.budgets.quartiles[1])}" for one in mine)
        curves = [(one.budgets.curve, one.colour) for one in mine]
        about = f"Share of photos forged within a budget in {unit} under {panel.title}. {told}"
        keys = [(one.line.label, one.colour) for one in mine]
        plots.append((within(curves, unit, f"{panel.lines[0].key}-smallest-{unit}", about), keys))
    return {"panel": panel, "lines": lines, "plots": plots}
