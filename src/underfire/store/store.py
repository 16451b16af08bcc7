"""The folder of an audit's results: one Parquet part for each unit, its files beside it, nothing ever half-written.

    OUT/plan.yaml               the settings, filled in
    OUT/records/UNIT.parquet    one part for each finished unit, with one row for each judgement
    OUT/yardstick/DIGEST.json   what the maps of an interpreter are judged with
    OUT/scale/UNIT.parquet      how far natural copies and wrong maps lie from the clean maps
    OUT/transfer/UNIT.parquet   the same PNGs under judges that they were not made against, where a study asks for it
    OUT/failed/STAGE/UNIT.parquet   rows of units that have failed; the next run tries them again
    OUT/images/UNIT/...         the PNGs and maps that the records name
    OUT/report.html

A part is written after the files that it names. On a file system both get a unique temporary name first and are then
renamed: a kill at any moment leaves only temporary files, which the next run removes. An object store shows an object
only when it is whole. Each part has the SHA-256 of its own bytes in its footer.
"""

from __future__ import annotations

import contextlib
import errno
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from underfire.core import (
    SCHEMA_VERSION,
    DamagedFileError,
    ForgeUnit,
    JudgeUnit,
    Record,
    Scale,
    ScaleUnit,
    UnderfireError,
)
from underfire.core.files import TEMPORARY, listing, read_many, temporary_name, write_many, write_whole
from underfire.core.place import Place
from underfire.store import lease
from underfire.store.parquet import decode, encode, fitted, metadata, schema, sound

STAGES: dict[str, type] = {ScaleUnit.stage: Scale, ForgeUnit.stage: Record, JudgeUnit.stage: Record}
"""Name of a stage, which is its folder -> class of its rows."""
FAILED = "failed"
"""Folder of the units that have failed."""
_FORGED = re.compile(r"\d{6,}-[0-9a-f]{16}")
"""Name of a unit that forges: earlier versions put failed units of all stages into one folder."""
_UNIT = re.compile(r"\d{6,}-(.+-)?[0-9a-f]{16}")
"""Name of a unit of any stage: its place, the interpreter where it has one, and its key."""


class Store:
    """The results of one plan in one folder.

    Args:
        root: a folder, or a URL that fsspec knows.
    """

    def __init__(self, root: Place) -> None:
        self.root = root

    @contextlib.contextmanager
    def open(self) -> Iterator[Store]:
        """Make the folder, keep other drivers out of it, and remove what a killed one has left behind.

        Raises:
            UnderfireError: the folder is not writable, or another run uses it.
        """
        with contextlib.ExitStack() as stack:
            with _writing_into(self.root):
                if isinstance(self.root, Path):
                    for part in ("images", *STAGES, *(f"{FAILED}/{stage}" for stage in STAGES)):
                        (self.root / part).mkdir(parents=True, exist_ok=True)
                self.check = stack.enter_context(lease.only_driver(self.root))
                self._sweep()
            yield self

    check: Callable[[], None] = staticmethod(lambda: None)
    """A check that raises UnderfireError once another driver has taken the folder over."""

    def __reduce__(self) -> tuple[Any, ...]:
        # A worker's copy holds no lease, and may stand in another folder.
        return Store, (self.root.absolute() if isinstance(self.root, Path) else self.root,)

    def _sweep(self) -> None:
        if isinstance(self.root, Path):
            for stale in (path for depth in ("", "*/", "*/*/") for path in self.root.glob(f"{depth}{TEMPORARY}*")):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        for stage in STAGES:
            for unit in self.done(stage) & self.failed(stage):  # a kill after the part was written
                self.forget(stage, unit)

    def done(self, stage: str) -> set[str]:
        """List the names of the finished units of a stage."""
        return _units(self.root / stage)

    def failed(self, stage: str) -> set[str]:
        """List the names of the failed units of a stage; the next run tries them again."""
        return _units(self.root / FAILED / stage) | self._failed_before(stage)

    def _failed_before(self, stage: str) -> set[str]:
        """List the failed units of versions before 0.2: units that forge and units that judge shared one folder."""
        if stage == ScaleUnit.stage:
            return set()
        names = _units(self.root / FAILED)
        return {name for name in names if bool(_FORGED.fullmatch(name)) == (stage == ForgeUnit.stage)}

    def put(
        self, stage: str, unit: str, rows: Sequence[Any], files: Mapping[str, bytes], meta: Mapping[str, str]
    ) -> None:
        """Write a finished unit: its files first, then its part.

        Args:
            stage: one of `STAGES`.
            unit: name of the unit.
            rows: Records or Scales.
            files: name -> bytes of the files in images/UNIT/.
            meta: facts about the part that are no results: host, date, versions.

        Raises:
            UnderfireError: the folder cannot be written, or the disk is full.
        """
        content = _content(stage, rows, meta)
        with _writing_into(self.root):
            if files:
                self._put_files(unit, files)
            write_whole(self.root / stage / f"{unit}.parquet", content)

    def put_failed(self, stage: str, unit: str, rows: Sequence[Any], meta: Mapping[str, str]) -> None:
        """Write the rows of a failed unit; arguments as in `put`."""
        with _writing_into(self.root):
            write_whole(self.root / FAILED / stage / f"{unit}.parquet", _content(stage, rows, meta))

    def forget(self, stage: str, unit: str) -> None:
        """Remove the note that a unit has failed."""
        with _writing_into(self.root):
            for folder in (self.root / FAILED / stage, self.root / FAILED):
                (folder / f"{unit}.parquet").unlink(missing_ok=True)

    def _put_files(self, unit: str, files: Mapping[str, bytes]) -> None:
        final = self.root / "images" / unit
        if not isinstance(final, Path):
            write_many(final, files)
            return
        temporary = final.parent / temporary_name()
        try:
            temporary.mkdir()
            for name, content in files.items():
                (temporary / name).write_bytes(content)
            if final.exists():  # a kill after the files and before the part
                shutil.rmtree(final)
            temporary.replace(final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder itself, whole or not at all."""
        with _writing_into(self.root):
            write_whole(self.root / name, content)

    def discard(self, stage: str, unit: str) -> None:
        """Remove a part, so that its unit is done again."""
        with _writing_into(self.root):
            (self.root / stage / f"{unit}.parquet").unlink(missing_ok=True)

    def damaged(self, stage: str) -> list[str]:
        """List the units whose part has changed since it was written. It reads every part of the stage."""
        return [unit for unit, content in self._parts(stage, self.done(stage)) if not sound(content)]

    def table(self, stage: str = "records") -> pa.Table:
        """Read all rows of a stage, those of failed units too, in the order of the units' names.

        Args:
            stage: one of `STAGES`.

        Raises:
            UnderfireError: a part is damaged, or of a version that cannot be read.
        """
        done = self.done(stage)
        tables = self.tables(stage, done) | self.failures(stage, done)
        return pa.concat_tables([schema(STAGES[stage]).empty_table(), *(tables[unit] for unit in sorted(tables))])

    def tables(self, stage: str, units: set[str]) -> dict[str, pa.Table]:
        """Read the rows of some finished units of a stage, by unit; raises as `table`."""
        return self._tables(stage, units, schema(STAGES[stage]))

    def failures(self, stage: str, done: set[str]) -> dict[str, pa.Table]:
        """Read the rows of the units of a stage that have failed and are not ``done`` since; raises as `table`."""
        before, fixed = self._failed_before(stage), schema(STAGES[stage])
        failed = self.failed(stage) - before
        found = self._tables(f"{FAILED}/{stage}", failed - done, fixed)
        return found | self._tables(FAILED, before - done - failed, fixed)

    def _tables(self, folder: str, units: set[str], fixed: pa.Schema) -> dict[str, pa.Table]:
        tables = {}
        for unit, content in self._parts(folder, units):
            table = decode(content)
            if table is None:
                raise DamagedFileError(
                    f"The part '{unit}' in '{self.root / folder}' is damaged (its checksum is wrong): the same run "
                    "command finds it and does that unit again."
                )
            tables[unit] = fitted(table, fixed, f"'{unit}' in '{self.root / folder}'")
        return tables

    def _parts(self, stage: str, units: set[str]) -> Iterator[tuple[str, bytes]]:
        for name, content in read_many(self.root / stage, [f"{unit}.parquet" for unit in sorted(units)]):
            if isinstance(content, OSError):
                raise UnderfireError(f"Cannot read '{name}' in '{self.root / stage}' ({content.strerror or content}).")
            yield name.removesuffix(".parquet"), content

    def rows(self, stage: str = "records") -> list[dict[str, Any]]:
        """Read all rows of a stage as dictionaries; raises as `table`."""
        rows: list[dict[str, Any]] = self.table(stage).to_pylist()
        return rows

    def provenance(self) -> list[dict[str, str]]:
        """Read the `meta` of each finished part: its date, its seconds, the versions it was made with."""
        contents = (content for stage in STAGES for _, content in self._parts(stage, self.done(stage)))
        return [metadata(content) for content in contents]


def _units(folder: Place) -> set[str]:
    """List the names of the parts in a folder, without files that others leave there: copies would count twice."""
    names = (name.removesuffix(".parquet") for name in listing(folder) if name.endswith(".parquet"))
    return {name for name in names if _UNIT.fullmatch(name)}


def _content(stage: str, rows: Sequence[Any], meta: Mapping[str, str]) -> bytes:
    fixed = schema(STAGES[stage])
    table = pa.Table.from_pydict({name: [getattr(row, name) for row in rows] for name in fixed.names}, fixed)
    return encode(table.replace_schema_metadata({"underfire": str(SCHEMA_VERSION), **meta}))


@contextlib.contextmanager
def _writing_into(root: Place) -> Iterator[None]:
    """Turn the system's errors into sentences for the user."""
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
