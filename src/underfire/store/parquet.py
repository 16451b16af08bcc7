"""Parquet parts: one fixed Arrow schema for each kind of row, and a seal: the part's SHA-256 in its own footer."""

from __future__ import annotations

import hashlib
import io
import re
import types
import typing
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from underfire.core import SCHEMA_VERSION, DamagedFileError, OtherVersionError

OLDEST = 3
"""The oldest version that can be read. Version 3 also stored the verdicts, which are now computed on reading."""
_DROPPED = frozenset({"untouched_l1", "untouched", "forged"})
_LATER: dict[str, Any] = {
    **dict.fromkeys(("head", "target", "copies", "impostors")),
    **{"at": "input", "door": None, "saved_as": None, "saved_instead": None, "through": None, "file_sha256": None},
    **{"file_width": None, "file_height": None, "decoded_linf": None, "decoded_mean": None, "seen": None},
    **dict.fromkeys(("rescue", "alarm_expected", "alarm_bound", "smallest_eps", "smallest_shift", "smallest_by")),
    "map_rank_shown": None,
}
"""Columns that came after version 4, and what earlier rows have there."""
_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[float | None]: pa.list_(pa.float64()),
}
FILES = frozenset({"clean", "adversarial", "clean_map", "wanted_map", "adversarial_map"})
"""Columns that name files."""
_FILE = re.compile(r"images/(?!\.\.?/)[^/\0]+/(?!\.\.?$)[^/\0]+")
MOST_ROWS = 1_000_000
"""Rows of one part; underfire writes some thousands."""
MOST_BYTES = 1 << 30
"""Bytes of a part as it unpacks."""
_DAMAGES = (pa.ArrowException, OSError, MemoryError, OverflowError, UnicodeDecodeError)
"""What Arrow raises on bytes that are no part."""
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
    if not sound(content):
        return None
    try:
        # No Python file and no threads: a thread of Arrow's that lets go of a Python object while the interpreter ends
        # takes the whole process down with it.
        file = pq.ParquetFile(pa.BufferReader(content))
        groups = (file.metadata.row_group(i) for i in range(file.metadata.num_row_groups))
        if file.metadata.num_rows > MOST_ROWS or sum(group.total_byte_size for group in groups) > MOST_BYTES:
            return None
        table = file.read(use_threads=False)
        table.validate(full=True)
    except _DAMAGES:
        return None  # not underfire has sealed it
    return table


def metadata(content: bytes) -> dict[str, str]:
    """Read the `meta` of a part; empty where the part is damaged."""
    try:
        found = pq.read_schema(pa.BufferReader(content)).metadata or {}
    except _DAMAGES:
        return {}
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in found.items()}


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
    said = (table.schema.metadata or {}).get(b"underfire", b"")
    version = int(said) if re.fullmatch(rb"[0-9]{1,9}", said) else 0
    if version > SCHEMA_VERSION:
        raise OtherVersionError(f"The part {where} was written by a newer version of underfire: install that version.")
    if version < OLDEST:
        raise OtherVersionError(
            f"The part {where} was written by an old version of underfire, whose parts cannot be read any more: run "
            "the audit again, with a new --out."
        )
    if version < SCHEMA_VERSION:
        table = table.drop_columns([name for name in table.column_names if name in _DROPPED])
    table = _renamed(table)
    for name in [name for name in fixed.names if name in _LATER and name not in table.column_names]:
        values = pa.array([_LATER[name]] * table.num_rows, fixed.field(name).type)
        table = table.append_column(fixed.field(name), values)
    if sorted(table.column_names) != sorted(fixed.names):
        odd = sorted(set(table.column_names) ^ set(fixed.names))
        raise OtherVersionError(f"The part {where} has other columns than underfire writes ({', '.join(odd)}).")
    try:
        same = table.schema.equals(fixed)
        table = table.replace_schema_metadata(fixed.metadata) if same else table.select(fixed.names).cast(fixed)
    except (pa.ArrowException, ValueError) as e:
        raise OtherVersionError(f"The part {where} has columns of other types than underfire writes.") from e
    _refuse_strange_names(table, where)
    return table


def _renamed(table: pa.Table) -> pa.Table:
    """Call a defense of before by its name of today: what was 'ensemble' then is squeezing."""
    if "defense" not in table.column_names or "alarm_bound" in table.column_names:
        return table
    at, values = table.column_names.index("defense"), table["defense"]
    now = pc.if_else(pc.equal(values, "ensemble"), "squeeze", values)
    return table.set_column(at, "defense", now)


def _refuse_strange_names(table: pa.Table, where: str) -> None:
    """Raise UnderfireError where a part names files that do not lie where underfire puts them: beside it."""
    for column in sorted(FILES.intersection(table.column_names)):
        names = pc.unique(table[column]).to_pylist()
        strange = next((name for name in names if name is not None and not _FILE.fullmatch(name)), None)
        if strange is not None:
            raise DamagedFileError(
                f"The part {where} names the file '{strange}', which does not belong to it: underfire did not write it."
            )
