"""Names of judges and attacks on the page, and their order; a cell is the values of the columns `CELL`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from underfire.metrics.summary import CELL
from underfire.report.text import pretty


def order(plan: Mapping[str, Any], cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the sort key: the plan's interpreters; attacks on the prediction, on the judge, on others; names."""

    def place(setting: str, name: str) -> tuple[int, str]:
        named = plan.get(setting)
        names = named if isinstance(named, list) else [named]
        return (names.index(name) if name in names else len(names), name)

    aimed = 0 if cell["against"] is None else 1 if cell["against"] == cell["interpreter"] else 2
    rest = tuple(str(cell[name]) for name in CELL)
    return (*place("interpreter", cell["interpreter"]), aimed, *place("attack", cell["attack"]), rest)


def title(cell: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> str:
    """Name the judge, with only what tells it from the other judges."""
    name = pretty(cell["interpreter"])
    if len({c["judge_classifier"] for c in cells}) > 1:
        name += f" on {cell['judge_classifier']}"
    if cell["defense"] != "none":
        name += f", defended by {cell['defense']}"
    return name


def label(cell: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> str:
    """Name the attack, with only what tells it from the others of its name."""
    name = pretty(cell["attack"])
    if cell["against"] not in (None, cell["interpreter"]):
        name += f" against {pretty(cell['against'])}"
    same = [c for c in cells if c["attack"] == cell["attack"]]
    if len({c["classifier"] for c in cells}) > 1:
        name += f" made on {cell['classifier']}"
    if len({c["preset"] for c in same}) > 1:
        name += f" ({cell['preset']})"
    if len({c["eps"] for c in same}) > 1 and cell["eps"] is not None:
        name += f", ε {cell['eps']}/255"
    return name
