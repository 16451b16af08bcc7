"""Results as users read them: every judgement's measured columns, and the verdicts on them, as one flat table."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import csv

from underfire.core import IOU_THRESHOLDS, ScaleUnit, UnderfireError
from underfire.core.place import Place, place
from underfire.metrics.verdict import MapVerdict, untouched_scale, verdict
from underfire.store.parquet import schema
from underfire.store.store import Store, read_plan

SUFFIXES = (".parquet", ".csv")


def open_results(out: str | Place) -> Results:
    """Read the folder of an audit, finished or not; it needs no torch.

    Args:
        out: the folder or URL that was given as ``--out``.

    Raises:
        UnderfireError: no such folder.

    Example:
        ``open_results("underfire-out/demo-1a2b3c4d").table.to_pandas()``
    """
    where = place(out) if isinstance(out, str) else out
    return Results(where, read_plan(where))


@dataclass(frozen=True)
class Results:
    """What an audit measured, and what it comes to.

    Args:
        out: its folder.
        plan: its plan.yaml.
    """

    out: Place
    plan: Mapping[str, Any]

    @cached_property
    def scale(self) -> dict[str, float]:
        """map_l1 up to which a map counts as untouched, by interpreter; empty until all of it is measured."""
        return scale_of(Store(self.out), self.plan)

    @cached_property
    def table(self) -> pa.Table:
        """One row for each judgement: the columns of `Record`, then those of `MapVerdict`."""
        return judged(Store(self.out).table(), self.scale)

    def rows(self) -> list[dict[str, Any]]:
        """The same as dictionaries."""
        found: list[dict[str, Any]] = self.table.to_pylist()
        return found

    def write(self, file: Path) -> None:
        """Write the table with a column for each threshold of the IoU curve.

        Args:
            file: ends in .parquet or .csv.

        Raises:
            UnderfireError: another ending, or it cannot be written.
        """
        if file.suffix not in SUFFIXES:
            raise UnderfireError(f"--table {file}: the ending says the format: {' or '.join(SUFFIXES)}.")
        table = flat(self.table)
        try:
            pq.write_table(table, file) if file.suffix == ".parquet" else csv.write_csv(table, file)
        except OSError as e:
            raise UnderfireError(f"Cannot write '{file}' ({e.strerror or e}): give another --table.") from e


def scale_of(store: Store, plan: Mapping[str, Any]) -> dict[str, float]:
    """The scale of an audit; empty while a planned part of it is missing or failed.

    What *untouched* means must not depend on how far a run has come, nor on which worker had a bad day.
    """
    resolved = plan.get("resolved")
    planned = resolved.get("scale_units", 0) if isinstance(resolved, Mapping) else 0
    if not isinstance(planned, int):
        raise UnderfireError(f"The plan.yaml of '{store.root}' does not say how many units there are.")
    if len(store.done(ScaleUnit.stage)) < planned:
        return {}
    return untouched_scale((row["interpreter"], row["jpeg_l1"]) for row in store.rows(ScaleUnit.stage))


def judged(table: pa.Table, scale: Mapping[str, float]) -> pa.Table:
    """A table of Records with the verdicts behind it."""
    columns = zip(*(table[name].to_pylist() for name in ("interpreter", "success", "map_l1")), strict=True)
    rows = [dataclasses.asdict(verdict(name, success, l1, scale)) for name, success, l1 in columns]
    verdicts = pa.Table.from_pylist(rows, schema(MapVerdict))
    for field in verdicts.schema:
        table = table.append_column(field, verdicts[field.name])
    return table


def flat(table: pa.Table) -> pa.Table:
    """The same without lists: ``iou_curve`` becomes ``iou_0.1`` to ``iou_0.9``."""
    curves = table["iou_curve"].to_pylist()
    table = table.drop_columns(["iou_curve"])
    for i, threshold in enumerate(IOU_THRESHOLDS):
        values = [None if curve is None else curve[i] for curve in curves]
        table = table.append_column(f"iou_{threshold}", pa.array(values, pa.float64()))
    return table
