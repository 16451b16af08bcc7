"""The folder of results: finished Parquet parts only, their pictures beside them, one driver at a time."""

from __future__ import annotations

from underfire.store.parquet import decode, encode, schema, sound
from underfire.store.store import FAILED, STAGES, Store, read_plan

__all__ = ["FAILED", "STAGES", "Store", "decode", "encode", "read_plan", "schema", "sound"]
