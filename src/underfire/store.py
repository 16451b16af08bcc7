"""A folder of results: one Parquet part per unit, its pictures beside it, nothing ever half-written.

    OUT/plan.yaml               the settings, filled in
    OUT/records/UNIT.parquet    finished parts only, one row per judgement
    OUT/scale/UNIT.parquet      what JPEG 90 does to the clean maps
    OUT/transfer/UNIT.parquet   the same PNGs under judges they were not made against, where a study asks for it
    OUT/images/UNIT/...         PNGs and maps, named by the records
    OUT/report.html

A part is written to a unique temporary name and then renamed, after the pictures that it names are in place: a reader
never sees a row without its files, and a kill at any point leaves only temporaries, which the next run sweeps.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import shutil
import types
import typing
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from underfire.core import UnderfireError
from underfire.record import SCHEMA_VERSION, Record, Scale

STAGES: dict[str, type] = {"scale": Scale, "records": Record, "transfer": Record}
_ARROW: dict[Any, pa.DataType] = {
    str: pa.string(),
    int: pa.int64(),
    float: pa.float64(),
    bool: pa.bool_(),
    list[float | None]: pa.list_(pa.float64()),
}


def schema(row: type) -> pa.Schema:
    """The fixed Arrow schema of a row type: never a null-typed column, whatever the values."""
    columns = []
    for name, hint in typing.get_type_hints(row).items():
        plain = [t for t in typing.get_args(hint) if t is not types.NoneType] if _optional(hint) else [hint]
        columns.append(pa.field(name, _ARROW[plain[0]], nullable=_optional(hint)))
    return pa.schema(columns)


def _optional(hint: Any) -> bool:
    return types.NoneType in typing.get_args(hint)


class Store:
    """The results of one plan in one folder.

    Args:
        root: the folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    @contextlib.contextmanager
    def open(self) -> Iterator[Store]:
        """Make the folder, keep a second driver out of it, and sweep what a killed one left behind.

        Raises:
            UnderfireError: not writable, or in use by another run.
        """
        with _told(self.root):
            for part in ("images", *STAGES):
                (self.root / part).mkdir(parents=True, exist_ok=True)
            lock = (self.root / ".lock").open("a")
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                raise UnderfireError(
                    f"Another run is writing into '{self.root}': wait for it, stop it, or give another --out."
                ) from e
            self._sweep()
            yield self

    def _sweep(self) -> None:
        for stale in self.root.glob("*/.tmp-*"):
            shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)

    def done(self, stage: str) -> set[str]:
        """Names of the finished units of a stage: one directory listing."""
        folder = self.root / stage
        if not folder.is_dir():
            return set()
        return {path.name.removesuffix(".parquet") for path in folder.iterdir() if _finished(path.name)}

    def put(
        self, stage: str, unit: str, rows: Sequence[Any], files: Mapping[str, bytes], meta: Mapping[str, str]
    ) -> None:
        """Write a finished unit: its files first, then its part.

        Args:
            stage: 'scale' or 'records'.
            unit: the unit's name.
            rows: Records or Scales.
            files: name -> bytes, to lie in images/UNIT/.
            meta: what belongs to the part and not to the results: host, date, versions.
        """
        table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema(STAGES[stage]))
        table = table.replace_schema_metadata({"underfire": str(SCHEMA_VERSION), **meta})
        with _told(self.root):
            if files:
                self._put_files(unit, files)
            temporary = self.root / stage / f".tmp-{uuid.uuid4().hex}"
            try:
                pq.write_table(table, temporary)
                temporary.replace(self.root / stage / f"{unit}.parquet")
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def _put_files(self, unit: str, files: Mapping[str, bytes]) -> None:
        temporary = self.root / "images" / f".tmp-{uuid.uuid4().hex}"
        final = self.root / "images" / unit
        try:
            temporary.mkdir()
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            if final.exists():  # a kill between the files and the part
                shutil.rmtree(final)
            temporary.replace(final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder itself, whole or not at all."""
        with _told(self.root):
            temporary = self.root / "images" / f".tmp-{uuid.uuid4().hex}"
            try:
                temporary.write_bytes(content)
                temporary.replace(self.root / name)
            except OSError:
                temporary.unlink(missing_ok=True)
                raise

    def table(self, stage: str = "records") -> pa.Table:
        """All rows of a stage as one Arrow table, in the order of the units' names."""
        parts = sorted((self.root / stage).glob("[!._]*.parquet"))
        fixed = schema(STAGES[stage])
        tables = [pq.ParquetFile(part).read().replace_schema_metadata(None) for part in parts]
        return pa.concat_tables(tables) if tables else fixed.empty_table()

    def rows(self, stage: str = "records") -> list[dict[str, Any]]:
        """All rows of a stage as dictionaries."""
        rows: list[dict[str, Any]] = self.table(stage).to_pylist()
        return rows


def _finished(name: str) -> bool:
    return name.endswith(".parquet") and not name.startswith((".", "_"))


@contextlib.contextmanager
def _told(root: Path) -> Iterator[None]:
    """Turn the system's errors into the user's."""
    try:
        yield
    except OSError as e:
        if e.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UnderfireError(
                f"The disk that holds '{root}' is full. What is finished is kept: make space, then run the same "
                "command again."
            ) from e
        if e.errno in (errno.ENOTDIR, errno.EEXIST):
            raise UnderfireError(f"'{root}' is not a folder: give another one with --out.") from e
        raise UnderfireError(f"Cannot write into '{root}' ({e.strerror or e}): give another folder with --out.") from e
