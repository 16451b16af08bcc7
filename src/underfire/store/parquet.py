"""Parquet parts: one fixed Arrow schema a kind of row, and a seal, the SHA-256 of the part in its own footer."""

from __future__ import annotations

import hashlib
import io
import re
import types
import typing
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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
    """The fixed Arrow schema of a row type: never a null-typed column, whatever the values."""
    columns = []
    for name, hint in typing.get_type_hints(row).items():
        plain = [t for t in typing.get_args(hint) if t is not types.NoneType] if _optional(hint) else [hint]
        columns.append(pa.field(name, _ARROW[plain[0]], nullable=_optional(hint)))
    return pa.schema(columns)


def _optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


def encode(table: pa.Table) -> bytes:
    """A Parquet file that carries the SHA-256 of itself, taken with zeros in the digest's place."""
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({"underfire.seal": _NO_SEAL.decode()})
    content = buffer.getvalue()
    at = content.rindex(_NO_SEAL)  # the footer is last, and its key-value pairs come after all that a row can say
    seal = b"sha256=" + hashlib.sha256(content).hexdigest().encode()
    return content[:at] + seal + content[at + len(seal) :]


def decode(content: bytes) -> pa.Table | None:
    """The table of a sealed Parquet file; None where a byte of it is not as it was written."""
    return pq.ParquetFile(io.BytesIO(content)).read() if sound(content) else None


def sound(content: bytes) -> bool:
    """Whether a sealed Parquet file is as it was written, to the last bit."""
    found = list(_SEAL.finditer(content))
    if not found:
        return False
    start, end = found[-1].span()
    unsealed = content[:start] + _NO_SEAL + content[end:]
    return hashlib.sha256(unsealed).hexdigest().encode() == found[-1][1]
