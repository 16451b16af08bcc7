"""Parquet parts: one fixed Arrow schema for each kind of row, and a seal: the part's SHA-256 in its own footer."""

from __future__ import annotations

import hashlib
import io
import re
import types
import typing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from underfire.core import SCHEMA_VERSION, OtherVersionError

OLDEST = 3
"""The oldest version that can be read. Version 3 also stored the verdicts, which are now computed on reading."""
_DROPPED = frozenset({"untouched_l1", "untouched", "forged"})
_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[float | None]: pa.list_(pa.float64()),
}
_SEAL = re.compile(rb"sha256=([0-9a-f]{64})")
_NO_SEAL = b"sha256=" + b"0" * 64


def schema(row: type) -> pa.Schema:
    """Make the Arrow schema of a dataclass; its columns have these types even where all values are None."""
    columns = []
    for name, hint in typing.get_type_hints(row).items():
        plain = [t for t in typing.get_args(hint) if t is not types.NoneType] if _optional(hint) else [hint]
        columns.append(pa.field(name, _ARROW[plain[0]], nullable=_optional(hint)))
    return pa.schema(columns)


def _optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


def encode(table: pa.Table) -> bytes:
    """Write a table as a Parquet file with its own SHA-256, which is computed with zeros in place of the digest."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"underfire.seal": _NO_SEAL.decode()})
    content = buffer.getvalue()
    at = content.rindex(_NO_SEAL)  # the last one: the footer comes after all rows, whatever they say
    seal = b"sha256=" + hashlib.sha256(content).hexdigest().encode()
    return content[:at] + seal + content[at + len(seal) :]


def decode(content: bytes) -> pa.Table | None:
    """Read the table of a sealed Parquet file; None where a byte of the file has changed."""
    return pq.ParquetFile(io.BytesIO(content)).read() if sound(content) else None


def sound(content: bytes) -> bool:
    """Tell whether a sealed Parquet file is exactly as it was written."""
    found = list(_SEAL.finditer(content))
    if not found:
        return False
    start, end = found[-1].span()
    unsealed = content[:start] + _NO_SEAL + content[end:]
    return hashlib.sha256(unsealed).hexdigest().encode() == found[-1][1]


def fitted(table: pa.Table, fixed: pa.Schema, where: str) -> pa.Table:
    """Give the table of a part the columns of this version, whatever version wrote it.

    Args:
        table: the table as it was read.
        fixed: the columns of this version.
        where: name of the part in an error.

    Raises:
        UnderfireError: a version that cannot be read, or other columns than its version has.
    """
    said = (table.schema.metadata or {}).get(b"underfire", b"").decode()
    version = int(said) if said.isdigit() else 0
    if version > SCHEMA_VERSION:
        raise OtherVersionError(f"The part {where} was written by a newer version of underfire: install that version.")
    if version < OLDEST:
        raise OtherVersionError(
            f"The part {where} was written by an old version of underfire, whose parts cannot be read any more: run "
            "the audit again, with a new --out."
        )
    if version < SCHEMA_VERSION:
        table = table.drop_columns([name for name in table.column_names if name in _DROPPED])
    if set(table.column_names) != set(fixed.names):
        odd = sorted(set(table.column_names) ^ set(fixed.names))
        raise OtherVersionError(f"The part {where} has other columns than underfire writes ({', '.join(odd)}).")
    return table.select(fixed.names).cast(fixed)
