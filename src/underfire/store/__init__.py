"""The store of an audit's results: finished Parquet parts, their PNGs and maps beside them, one driver at a time."""

from __future__ import annotations

from underfire.store.parquet import decode, encode, schema, sound
from underfire.store.plan import read_plan
from underfire.store.results import Results, judged, open_results
from underfire.store.store import FAILED, STAGES, Store

__all__ = [
    "FAILED",
    "STAGES",
    "Results",
    "Store",
    "decode",
    "encode",
    "judged",
    "open_results",
    "read_plan",
    "schema",
    "sound",
]
