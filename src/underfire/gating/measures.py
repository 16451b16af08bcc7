"""What a rule can bound, and the one place where the gate meets the store: an audit as values by photo.

A verdict that does not exist is no value: a rule on it is undecided, never passed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from underfire.audit.status import status
from underfire.core.place import Place
from underfire.metrics.summary import CELL
from underfire.metrics.yardstick import TELLS
from underfire.report.text import count
from underfire.store import open_results


@dataclass(frozen=True)
class Measure:
    """A column that rules can bound.

    Args:
        kind: 'rate' of a yes or no, or 'mean' of a number.
        most: the largest possible value; None where there is none. The smallest is 0.
        says: the column in words.
    """

    kind: Literal["rate", "mean"]
    most: float | None
    says: str


MEASURES: Mapping[str, Measure] = {
    "forged": Measure("rate", 1.0, "the attacker's class is reported and the map looks untouched"),
    "success": Measure("rate", 1.0, "the attacker's class is reported"),
    "untouched": Measure("rate", 1.0, "the map looks untouched"),
    "alarm": Measure("rate", 1.0, "the defense raises an alarm"),
    "map_l1": Measure("mean", 1.0, "L1 distance between the wanted map and the map"),
    "map_iou": Measure("mean", 1.0, "IoU of the top 20 % of the two maps"),
    "passes": Measure("mean", None, "forward-equivalents that the search spends on a photo"),
}
VERDICTS = ("forged", "untouched")
AT = "at"
"""A column that only records of some versions have: where the attack was judged."""
SELECT = ("classifier", "interpreter", "attack", "against", "preset", "eps", AT, "defense")
"""Columns that a rule can select cells by."""
POWER = "power"
"""A column that only results of some versions have: the share of wrong maps that a verdict rejects. Below
`TELLS` the explanation cannot tell, and there is no rate of verdicts."""
_READ = ("image", "image_sha256", "error", "adversarial", "linf_levels", *MEASURES)


@dataclass(frozen=True)
class MeasuredCell:
    """One cell of an audit: one attack under one judge.

    Args:
        cell: the columns that identify it.
        rows: its judgements.
    """

    cell: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]] = field(repr=False)

    def values(self, measure: str) -> dict[str, float]:
        """Return each photo's value by its digest: the mean where a photo has several rows; photos are clusters."""
        found: dict[str, list[float]] = {}
        for row in self.rows:
            if (value := self._value(row, measure)) is not None:
                found.setdefault(row["image_sha256"], []).append(value)
        return {photo: float(np.mean(values)) for photo, values in found.items()}

    def _value(self, row: Mapping[str, Any], measure: str) -> float | None:
        """Read one value; a picture that was forged but has no map is not forged, where others can be judged at all."""
        if measure in VERDICTS and row.get(POWER) is not None and row[POWER] < TELLS:
            return None
        if measure == "forged" and row[measure] is None and made(row):
            return 0.0 if any(other["forged"] is not None for other in self.rows) else None
        usable = row["error"] is None or (measure == "success" and made(row))
        return float(row[measure]) if usable and row[measure] is not None else None

    @property
    def photos(self) -> set[str]:
        """The digests of the photos that were tried."""
        return {row["image_sha256"] for row in self.rows}

    @property
    def errors(self) -> dict[str, str]:
        """The error of each photo that has no result, by its path."""
        return {row["image"]: row["error"] for row in self.rows if row["error"] is not None and not made(row)}


def made(row: Mapping[str, Any]) -> bool:
    """Tell whether a picture was forged although no judge has a map of it: it counts."""
    return row["error"] is not None and row["linf_levels"] is not None


def measured(out: Place) -> list[MeasuredCell]:
    """Read the cells of an audit, in the order of their names.

    Raises:
        UnderfireError: it is no folder of an audit, or a part of it is damaged.
    """
    table = open_results(out).table
    columns = [*CELL, *(name for name in (AT,) if name in table.column_names)]
    read = [*columns, *_READ, *(name for name in (POWER,) if name in table.column_names)]
    cells: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in table.select(read).to_pylist():
        cells.setdefault(tuple(row[name] for name in columns), []).append(row)
    order = sorted(cells, key=lambda key: tuple(map(str, key)))
    return [MeasuredCell(dict(zip(columns, key, strict=True)), cells[key]) for key in order]


def gaps(out: Place) -> Iterator[str]:
    """Yield a sentence for each reason why an audit is not complete."""
    now = status(out)
    go_on = "run it again to finish it"
    if now.done + now.failed < now.units:
        yield f"{now.done} of {count(now.units, 'unit')} of '{out.name}' are done: {go_on}"
    if now.failed:
        yield f"{count(now.failed, 'unit')} of '{out.name}' failed: {go_on}"
    if now.scale_done < now.scale_units:
        scale = f"{now.scale_done} of {count(now.scale_units, 'unit')} of the untouched scale"
        yield f"{scale} of '{out.name}' are done: {go_on}"
