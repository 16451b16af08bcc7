"""Results as users read them: one flat table with each judgement's measured columns and its verdicts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from underfire.core import IOU_THRESHOLDS, ForgeUnit, UnderfireError
from underfire.core.place import Place, place
from underfire.metrics.verdict import MapVerdict, Ruler, verdict
from underfire.store.parquet import schema
from underfire.store.plan import read_plan
from underfire.store.store import Store
from underfire.store.yardsticks import rulers_of

SUFFIXES = (".parquet", ".csv")
"""Endings of a table's file."""


def open_results(out: str | Place) -> Results:
    """Open the folder of an audit, finished or not. It needs no torch.

    Example:
        ``open_results("underfire-out/demo-1a2b3c4d").table.to_pandas()``

    Args:
        out: the folder or URL that was given as ``--out``.

    Raises:
        UnderfireError: it is no folder of an audit.
    """
    where = place(out) if isinstance(out, str) else out
    return Results(where, read_plan(where))


@dataclass(frozen=True)
class Results:
    """The measurements of an audit, and the verdicts on them.

    Example:
        ``open_results("underfire-out/demo-1a2b3c4d").rows()[0]["map_l1"]``

    Args:
        out: folder of the audit.
        plan: content of its plan.yaml.
    """

    out: Place
    plan: Mapping[str, Any]

    @cached_property
    def rulers(self) -> dict[str, Ruler]:
        """What maps are judged with, by interpreter; those that are not calibrated are left out."""
        return rulers_of(Store(self.out), self.plan)

    @cached_property
    def table(self) -> pa.Table:
        """A table with one row for each judgement: the columns of `Record`, then those of `MapVerdict`.

        Reading it raises UnderfireError where a part is damaged or cannot be read.
        """
        return judged(Store(self.out).table(), self.rulers)

    @property
    def units(self) -> tuple[int, int] | None:
        """How many units have come to an end, good or bad, and how many there are; None where the plan does not say."""
        resolved = self.plan.get("resolved")
        planned = resolved.get("units") if isinstance(resolved, Mapping) else None
        if not isinstance(planned, int) or isinstance(planned, bool):
            return None
        store = Store(self.out)
        return len(store.done(ForgeUnit.stage) | store.failed(ForgeUnit.stage)), planned

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the table as dictionaries."""
        found: list[dict[str, Any]] = self.table.to_pylist()
        return found

    def write(self, file: Path) -> None:
        """Write the table, with one column for each threshold of the IoU curve.

        Args:
            file: path that ends in .parquet or .csv.

        Raises:
            UnderfireError: another ending, or the file cannot be written.
        """
        if file.suffix not in SUFFIXES:
            raise UnderfireError(f"--table {file}: the ending gives the format: {' or '.join(SUFFIXES)}.")
        table = flat(self.table)
        try:
            pq.write_table(table, file) if file.suffix == ".parquet" else csv.write_csv(table, file)
        except OSError as e:
            raise UnderfireError(f"Cannot write '{file}' ({e.strerror or e}): give another --table.") from e


def judged(table: pa.Table, rulers: Mapping[str, Ruler]) -> pa.Table:
    """Append the verdicts to a table of Records.

    Args:
        table: rows with the columns of `Record`.
        rulers: from `rulers_of`.
    """
    needed = ("interpreter", "success", "map_l1", "map_iou", "map_rank", "map_rank_shown", "target_map")
    rows = [dataclasses.asdict(verdict(row, rulers)) for row in table.select(needed).to_pylist()]
    verdicts = pa.Table.from_pylist(rows, schema(MapVerdict))
    for field in verdicts.schema:
        table = table.append_column(field, verdicts[field.name])
    return table


def flat(table: pa.Table) -> pa.Table:
    """Replace the columns of lists: ``iou_curve`` by ``iou_0.1`` to ``iou_0.9``, ``seen`` by its four sides."""
    table = _spread(table, "iou_curve", [f"iou_{threshold}" for threshold in IOU_THRESHOLDS])
    return _spread(table, "seen", [f"seen_{side}" for side in ("left", "top", "right", "bottom")])


def _spread(table: pa.Table, column: str, names: Sequence[str]) -> pa.Table:
    """Replace a column of lists by a column for each of their places."""
    lists = table[column].to_pylist()
    table = table.drop_columns([column])
    for i, name in enumerate(names):
        values = [None if one is None else one[i] for one in lists]
        table = table.append_column(name, pa.array(values, pa.float64()))
    return table
