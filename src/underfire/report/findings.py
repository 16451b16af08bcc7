"""Findings: a folder of results as lines of numbers, grouped by judge. No torch, no HTML.

Columns are read through Arrow, and only one line's numbers at a time become Python objects: 50,000 images under every
interpreter fit a laptop.
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
from underfire.metrics.verdict import Named, Ruler
from underfire.metrics.yardstick import Yardstick
from underfire.report import names
from underfire.report.text import pretty
from underfire.store import Store, open_results

_MEASURED = (
    *("error", "success", "forged", "confidence", "map_l1", "map_iou", "map_rank", "untouched_l1"),
    *("yardstick", "power"),
    *("goal_passes", "passes", "judge_passes", "seconds", "iou_curve", "alarm"),
    *("image_sha256", "linf_levels", "flow_max_px", "smallest_eps", "smallest_shift", "smallest_by"),
)


@dataclass(frozen=True, eq=False)
class Line:
    """One attack under one judge.

    Args:
        label: its name among the lines of its panel.
        key: a short name, unique on the page, fit for an HTML id.
        summary: its numbers.
        l1: map_l1 of every good row, ascending.
    """

    label: str
    key: str
    summary: Summary
    l1: NDArray[np.float64]

    @property
    def cell(self) -> dict[str, Any]:
        """The columns that identify it."""
        return self.summary.cell

    @property
    def joint(self) -> bool:
        """Whether the attack was made against the interpreter that judges it."""
        return bool(self.cell["against"] == self.cell["interpreter"])


@dataclass(frozen=True)
class Panel:
    """All attacks under one judge (classifier, interpreter, defense).

    Args:
        title: the judge's name among the others.
        interpreter: the judging interpreter, as the paper writes it.
        lines: the attacks, the plain ones first.
        ruler: what its maps are judged with; None where that is not calibrated.
    """

    title: str
    interpreter: str
    lines: tuple[Line, ...]
    ruler: Ruler | None

    @property
    def key(self) -> str:
        """A short name, unique on the page, fit for an HTML id."""
        return self.lines[0].key.rpartition("-")[0]

    @property
    def untouched_l1(self) -> float | None:
        """The largest L1 of an untouched map; None where that is not calibrated."""
        return next((s for line in self.lines if (s := line.summary.untouched_l1) is not None), None)

    @property
    def yardstick(self) -> Yardstick | None:
        """Its yardstick; None where it has none, and where it is judged by the rule of earlier versions."""
        return self.ruler.yardstick if isinstance(self.ruler, Named) else None

    @property
    def limits(self) -> tuple[float, float, float] | None:
        """L1 at most, IoU and rank at least of an untouched map."""
        if self.yardstick is None:
            return None
        l1, iou, rank = self.yardstick.limits.tolist()
        return l1, 1 - iou, 1 - rank

    @property
    def strongest(self) -> Line:
        """The attack with the highest forged rate, among those against this interpreter if there are any."""
        joint = [line for line in self.lines if line.joint]
        aimed = joint or [line for line in self.lines if line.cell["against"] is not None] or list(self.lines)
        return max(aimed, key=lambda line: (_value(line.summary.told), _value(line.summary.success)))

    @property
    def stealthiest(self) -> Line | None:
        """The attack with the highest rate of forgeries without an alarm; None where there is no alarm."""
        watched = [line for line in self.lines if line.summary.unnoticed.value is not None]
        return max(watched, key=lambda line: _value(line.summary.unnoticed), default=None)


@dataclass(frozen=True)
class Findings:
    """All that a page is made from.

    Args:
        out: the folder of results.
        plan: the settings as plan.yaml holds them.
        table: the audit's own rows.
        scale: how far natural copies and wrong maps lie from the clean maps.
        again: rows of the audit's pictures under judges that they were not made against, as a study asks for them.
        panels: the judges, in the plan's order of interpreters.
        units: how many units of work have come to an end, and how many there are; None where the plan does not say.
    """

    out: Place
    plan: Mapping[str, Any]
    table: pa.Table
    scale: pa.Table
    again: pa.Table
    panels: tuple[Panel, ...]
    units: tuple[int, int] | None = None

    def distinct(self, column: str) -> list[Any]:
        """List the values of a column, ascending, without null."""
        return sorted(value for value in pc.unique(self.table[column]).to_pylist() if value is not None)

    @property
    def photos(self) -> int:
        """How many photos have at least one row."""
        return int(pc.count_distinct(self.table["image"]).as_py())

    @cached_property
    def with_results(self) -> tuple[str, ...]:
        """The photos with at least one good row, ascending."""
        return tuple(sorted(pc.unique(good(self.table)["image"]).to_pylist()))


def load(out: Place) -> Findings:
    """Read a folder of results.

    Raises:
        UnderfireError: not such a folder, or nothing in it yet.
    """
    results = open_results(out)
    plan, table, store = results.plan, results.table, Store(out)
    if not table.num_rows:
        raise UnderfireError(
            f"'{out}' has no finished records yet: wait until the audit has finished a unit, then ask again."
        )
    scale, again = store.table("scale"), store.table("transfer")
    return Findings(out, plan, table, scale, again, panels(plan, table, results.rulers), results.units)


def select(table: pa.Table, **equal: Any) -> pa.Table:
    """Return the rows whose columns have these values; None matches null."""
    masks = [pc.is_null(table[k]) if v is None else pc.equal(table[k], v) for k, v in equal.items()]
    return table.filter(reduce(pc.and_, (pc.fill_null(mask, False) for mask in masks)))


def good(table: pa.Table) -> pa.Table:
    """Return the rows that have a result."""
    return table.filter(pc.is_null(table["error"]))


def _value(estimate: Estimate) -> float:
    return -1.0 if estimate.value is None else estimate.value


def panels(plan: Mapping[str, Any], table: pa.Table, rulers: Mapping[str, Ruler]) -> tuple[Panel, ...]:
    """Group the rows of an audit, with their verdicts, by judge."""
    cells: list[dict[str, Any]] = (
        table.select(list(CELL)).group_by(list(CELL), use_threads=False).aggregate([]).to_pylist()
    )
    cells.sort(key=lambda cell: names.order(plan, cell))
    judges: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for cell in cells:
        judges.setdefault((cell["interpreter"], cell["judge_classifier"], cell["defense"]), []).append(cell)
    return tuple(
        Panel(
            title=names.title(group[0], cells),
            interpreter=pretty(group[0]["interpreter"]),
            lines=tuple(_line(table, cell, names.label(cell, cells), f"p{i}-{j}") for j, cell in enumerate(group)),
            ruler=_ruler(rulers.get(group[0]["interpreter"]), table),
        )
        for i, group in enumerate(judges.values())
    )


def _ruler(ruler: Ruler | None, table: pa.Table) -> Ruler | None:
    """Narrow a ruler to what rows of before are judged with: they lack the rank of maps as shown."""
    if isinstance(ruler, Named) and ruler.exact and table["map_rank_shown"].null_count == len(table):
        return Named(ruler.exact, ruler.name)
    return ruler


def _line(table: pa.Table, cell: dict[str, Any], label: str, key: str) -> Line:
    rows = select(table, **cell)
    summary = summarise(rows.select([*CELL, *_MEASURED]).to_pylist())[0]
    l1 = good(rows)["map_l1"].drop_null().to_numpy()
    return Line(label, key, summary, np.sort(np.asarray(l1, np.float64)))
