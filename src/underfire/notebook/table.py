"""Results as tables: Arrow always, pandas where it is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import pyarrow as pa

from underfire.core import Record, UnderfireError
from underfire.metrics.verdict import Ruler
from underfire.store.parquet import schema
from underfire.store.results import flat, judged


def of(records: Sequence[Record], rulers: Mapping[str, Ruler]) -> pa.Table:
    """Make the flat table of some records, with their verdicts, as ``underfire report --table`` writes it."""
    rows = pa.Table.from_pylist([asdict(record) for record in records], schema(Record))
    return flat(judged(rows, rulers))


def frame(table: pa.Table) -> Any:
    """Turn a table into a pandas DataFrame.

    Raises:
        UnderfireError: pandas is not installed.
    """
    if importlib.util.find_spec("pandas") is None:
        raise UnderfireError("to_frame() needs pandas: pip install pandas, or take to_table(), which needs nothing.")
    importlib.import_module("pandas")
    return table.to_pandas()
