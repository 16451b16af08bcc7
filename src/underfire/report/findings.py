"""A folder of results -> what there is to say: named lines of numbers, grouped by who judged. No torch, no HTML.

Columns are read through Arrow and only one line's numbers are turned into Python objects at a time, so 50,000 images
under every interpreter fit a laptop.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from underfire.core import UnderfireError
from underfire.core.place import Place
from underfire.metrics.estimate import Estimate
from underfire.metrics.summary import CELL, Summary, summarise
from underfire.report.text import pretty
from underfire.store import Store, read_plan

_MEASURED = (
    *("error", "success", "forged", "confidence", "map_l1", "map_iou", "map_rank", "untouched_l1"),
    *("goal_passes", "passes", "judge_passes", "seconds", "iou_curve", "alarm"),
)


@dataclass(frozen=True, eq=False)
class Line:
    """One attack under one judge.

    Args:
        label: what it is called beside the other lines of its panel.
        key: a short name unique to it on the page, fit for an HTML id.
        summary: its numbers.
        l1: map_l1 of every good row, ascending.
    """

    label: str
    key: str
    summary: Summary
    l1: NDArray[np.float64]

    @property
    def cell(self) -> dict[str, Any]:
        """The columns that tell it from all others."""
        return self.summary.cell

    @property
    def joint(self) -> bool:
        """True where the attack was made against the interpreter that judges it."""
        return bool(self.cell["against"] == self.cell["interpreter"])


@dataclass(frozen=True)
class Panel:
    """Every attack that one judge (classifier, interpreter, defense) looked at.

    Args:
        title: what the judge is called beside the others.
        interpreter: the judging interpreter's pretty name.
        lines: the attacks, the plain ones first.
        scale_n: clean photos behind the untouched scale.
    """

    title: str
    interpreter: str
    lines: tuple[Line, ...]
    scale_n: int

    @property
    def key(self) -> str:
        """Fit for an HTML id."""
        return self.lines[0].key.rpartition("-")[0]

    @property
    def untouched_l1(self) -> float | None:
        """The audit's scale for this judge; None where it was not measured."""
        return next((s for line in self.lines if (s := line.summary.untouched_l1) is not None), None)

    @property
    def strongest(self) -> Line:
        """What the headline is about: the highest forged rate of those made against this interpreter, if any."""
        joint = [line for line in self.lines if line.joint]
        aimed = joint or [line for line in self.lines if line.cell["against"] is not None] or list(self.lines)
        return max(aimed, key=lambda line: (_value(line.summary.forged), _value(line.summary.success)))

    @property
    def stealthiest(self) -> Line | None:
        """The highest rate forged without an alarm; None where no alarm looks on."""
        watched = [line for line in self.lines if line.summary.unnoticed.value is not None]
        return max(watched, key=lambda line: _value(line.summary.unnoticed), default=None)


@dataclass(frozen=True)
class Findings:
    """All a page needs to know.

    Args:
        out: the folder of results.
        plan: the settings as plan.yaml holds them.
        table: the audit's own rows.
        scale: what JPEG does to the clean maps.
        again: rows of the audit's pictures under judges that they were not made against; a study asks for them.
        panels: the judges, in the plan's order of interpreters.
    """

    out: Place
    plan: Mapping[str, Any]
    table: pa.Table
    scale: pa.Table
    again: pa.Table
    panels: tuple[Panel, ...]

    def distinct(self, column: str) -> list[Any]:
        """The values of a column, ascending, without null."""
        return sorted(value for value in pc.unique(self.table[column]).to_pylist() if value is not None)

    @property
    def photos(self) -> int:
        """Photos with at least one row."""
        return int(pc.count_distinct(self.table["image"]).as_py())

    @cached_property
    def with_results(self) -> tuple[str, ...]:
        """Photos with at least one good row, ascending."""
        return tuple(sorted(pc.unique(good(self.table)["image"]).to_pylist()))


def load(out: Place) -> Findings:
    """Read a folder of results.

    Raises:
        UnderfireError: not such a folder, or nothing in it yet.
    """
    plan = read_plan(out)
    store = Store(out)
    table, failed = _own(store.table("records"))
    if not table.num_rows:
        raise UnderfireError(f"'{out}' has no finished records yet: let the audit finish a unit, then ask again.")
    scale, again = store.table("scale"), pa.concat_tables([store.table("transfer"), failed])
    return Findings(out, plan, table, scale, again, _panels(plan, table, scale))


def _own(table: pa.Table) -> tuple[pa.Table, pa.Table]:
    """The rows of an audit's own stage, and the failed ones of pictures that were judged again.

    All stages share one folder of failed parts. An audit judges a picture by its own classifier and by the interpreter
    that it was made against, so a failed row of another judge is no row of the audit.
    """
    other = pc.or_(
        pc.not_equal(table["judge_classifier"], table["classifier"]),
        pc.fill_null(pc.not_equal(table["against"], table["interpreter"]), False),
    )
    elsewhere = pc.and_(pc.is_valid(table["error"]), other)
    return table.filter(pc.invert(elsewhere)), table.filter(elsewhere)


def select(table: pa.Table, **equal: Any) -> pa.Table:
    """The rows whose columns have these values; None matches null."""
    masks = [pc.is_null(table[k]) if v is None else pc.equal(table[k], v) for k, v in equal.items()]
    return table.filter(reduce(pc.and_, (pc.fill_null(mask, False) for mask in masks)))


def good(table: pa.Table) -> pa.Table:
    """The rows that have a result."""
    return table.filter(pc.is_null(table["error"]))


def _value(estimate: Estimate) -> float:
    return -1.0 if estimate.value is None else estimate.value


def _panels(plan: Mapping[str, Any], table: pa.Table, scale: pa.Table) -> tuple[Panel, ...]:
    cells: list[dict[str, Any]] = table.select(list(CELL)).group_by(list(CELL)).aggregate([]).to_pylist()
    cells.sort(key=lambda cell: _order(plan, cell))
    judges: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        judges.setdefault((cell["interpreter"], cell["judge_classifier"], cell["defense"]), []).append(cell)
    return tuple(
        Panel(
            title=_title(group[0], cells),
            interpreter=pretty(group[0]["interpreter"]),
            lines=tuple(_line(table, cell, _label(cell, cells), f"p{i}-{j}") for j, cell in enumerate(group)),
            scale_n=select(scale, interpreter=group[0]["interpreter"], error=None).num_rows,
        )
        for i, group in enumerate(judges.values())
    )


def _order(plan: Mapping[str, Any], cell: dict[str, Any]) -> tuple[Any, ...]:
    """The plan's order, plain attacks first, those made against the judge itself next; then by name."""

    def place(setting: str, name: str) -> tuple[int, str]:
        named = plan.get(setting)
        names = named if isinstance(named, list) else [named]
        return (names.index(name) if name in names else len(names), name)

    aimed = 0 if cell["against"] is None else 1 if cell["against"] == cell["interpreter"] else 2
    rest = tuple(str(cell[name]) for name in CELL)
    return (*place("interpreter", cell["interpreter"]), aimed, *place("attack", cell["attack"]), rest)


def _line(table: pa.Table, cell: dict[str, Any], label: str, key: str) -> Line:
    rows = select(table, **cell)
    summary = summarise(rows.select([*CELL, *_MEASURED]).to_pylist())[0]
    l1 = good(rows)["map_l1"].drop_null().to_numpy()
    return Line(label, key, summary, np.sort(np.asarray(l1, np.float64)))


def _title(cell: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """The judge's name, with only what tells it from the other judges."""
    title = pretty(cell["interpreter"])
    if len({c["judge_classifier"] for c in cells}) > 1:
        title += f" on {cell['judge_classifier']}"
    if cell["defense"] != "none":
        title += f", defended by {cell['defense']}"
    return title


def _label(cell: dict[str, Any], cells: list[dict[str, Any]]) -> str:
    """The attack's name, with only what tells it from the others of its kind."""
    label = pretty(cell["attack"])
    if cell["against"] not in (None, cell["interpreter"]):
        label += f" against {pretty(cell['against'])}"
    same = [c for c in cells if c["attack"] == cell["attack"]]
    if len({c["classifier"] for c in cells}) > 1:
        label += f" made on {cell['classifier']}"
    if len({c["preset"] for c in same}) > 1:
        label += f" ({cell['preset']})"
    if len({c["eps"] for c in same}) > 1 and cell["eps"] is not None:
        label += f", ε {cell['eps']}/255"
    return label
