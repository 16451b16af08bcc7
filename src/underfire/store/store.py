"""A folder of results: one Parquet part per unit, its pictures beside it, nothing ever half-written.

    OUT/plan.yaml               the settings, filled in
    OUT/records/UNIT.parquet    finished parts only, one row per judgement
    OUT/scale/UNIT.parquet      what JPEG 90 does to the clean maps
    OUT/transfer/UNIT.parquet   the same PNGs under judges they were not made against, where a study asks for it
    OUT/failed/STAGE/UNIT.parquet   rows of units that could not be worked on; tried again by the next run
    OUT/images/UNIT/...         PNGs and maps, named by the records
    OUT/report.html

A part is written after the pictures that it names. On a file system both get a unique temporary name first and are then
renamed, so that a kill at any point leaves only temporaries, which the next run sweeps; an object store shows an object
only when it is whole. A part carries the SHA-256 of its own bytes in its footer.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from underfire.core import SCHEMA_VERSION, ForgeUnit, JudgeUnit, Record, Scale, ScaleUnit, UnderfireError
from underfire.core.bounded import read_yaml
from underfire.core.place import TEMPORARY, Place, listing, read_many, temporary_name, write_many, write_whole
from underfire.store import lease
from underfire.store.parquet import decode, encode, fitted, metadata, schema, sound

STAGES: dict[str, type] = {ScaleUnit.stage: Scale, ForgeUnit.stage: Record, JudgeUnit.stage: Record}
"""Folder of a stage -> what a row of it is."""
FAILED = "failed"
_FORGED = re.compile(r"\d{6}-[0-9a-f]{16}")
"""Name of a unit that forges; earlier versions put failed units of every stage into one folder."""


class Store:
    """The results of one plan in one place.

    Args:
        root: a folder, made when missing, or a URL that fsspec knows.
    """

    def __init__(self, root: Place) -> None:
        self.root = root

    @contextlib.contextmanager
    def open(self) -> Iterator[Store]:
        """Make the folder, keep a second driver out of it, and sweep what a killed one left behind.

        Raises:
            UnderfireError: not writable, or in use by another run.
        """
        with contextlib.ExitStack() as stack:
            with _told(self.root):
                if isinstance(self.root, Path):
                    for part in ("images", *STAGES, *(f"{FAILED}/{stage}" for stage in STAGES)):
                        (self.root / part).mkdir(parents=True, exist_ok=True)
                self.check = stack.enter_context(lease.only_driver(self.root))
                self._sweep()
            yield self

    check: Callable[[], None] = staticmethod(lambda: None)
    """Raises UnderfireError once another driver has taken the folder over."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Store, (self.root,)  # a worker's copy holds no lease

    def _sweep(self) -> None:
        if isinstance(self.root, Path):
            for stale in (path for depth in ("", "*/", "*/*/") for path in self.root.glob(f"{depth}{TEMPORARY}*")):
                shutil.rmtree(stale) if stale.is_dir() else stale.unlink(missing_ok=True)
        for stage in STAGES:
            for unit in self.done(stage) & self.failed(stage):  # a kill between the part and this
                self.forget(stage, unit)

    def done(self, stage: str) -> set[str]:
        """Names of the finished units of a stage: one listing."""
        return _units(self.root / stage)

    def failed(self, stage: str) -> set[str]:
        """Names of the units of a stage that were given up; the next run tries them again."""
        return _units(self.root / FAILED / stage) | self._failed_before(stage)

    def _failed_before(self, stage: str) -> set[str]:
        """Those that a version before 0.2 gave up: it had one folder for the units that forge and those that judge."""
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
            unit: the unit's name.
            rows: Records or Scales.
            files: name -> bytes, to lie in images/UNIT/.
            meta: what belongs to the part and not to the results: host, date, versions.
        """
        content = _content(stage, rows, meta)
        with _told(self.root):
            if files:
                self._put_files(unit, files)
            write_whole(self.root / stage / f"{unit}.parquet", content)

    def put_failed(self, stage: str, unit: str, rows: Sequence[Any], meta: Mapping[str, str]) -> None:
        """Write the rows of a unit that was given up; arguments as of `put`."""
        with _told(self.root):
            write_whole(self.root / FAILED / stage / f"{unit}.parquet", _content(stage, rows, meta))

    def forget(self, stage: str, unit: str) -> None:
        """Take away what says that a unit was given up."""
        with _told(self.root):
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
            if final.exists():  # a kill between the files and the part
                shutil.rmtree(final)
            temporary.replace(final)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise

    def write(self, name: str, content: bytes) -> None:
        """Write a file of the folder itself, whole or not at all."""
        with _told(self.root):
            write_whole(self.root / name, content)

    def discard(self, stage: str, unit: str) -> None:
        """Take a part away, so that its unit is done again."""
        with _told(self.root):
            (self.root / stage / f"{unit}.parquet").unlink(missing_ok=True)

    def damaged(self, stage: str) -> list[str]:
        """Units whose part was cut short or changed since it was written: reads every part."""
        return [unit for unit, content in self._parts(stage, self.done(stage)) if not sound(content)]

    def table(self, stage: str = "records") -> pa.Table:
        """All rows of a stage as one Arrow table, failed units' too, in the order of the units' names.

        Raises:
            UnderfireError: a damaged part, or one of another version that cannot be read.
        """
        done, before = self.done(stage), self._failed_before(stage)
        failed = self.failed(stage) - before
        fixed = schema(STAGES[stage])
        tables = self._tables(stage, done, fixed)
        tables |= self._tables(f"{FAILED}/{stage}", failed - done, fixed)
        tables |= self._tables(FAILED, before - done - failed, fixed)
        return pa.concat_tables([fixed.empty_table(), *(tables[unit] for unit in sorted(tables))])

    def _tables(self, folder: str, units: set[str], fixed: pa.Schema) -> dict[str, pa.Table]:
        tables = {}
        for unit, content in self._parts(folder, units):
            table = decode(content)
            if table is None:
                raise UnderfireError(
                    f"The part '{unit}' in '{self.root / folder}' is damaged (its checksum does not fit): the same run "
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
        """All rows of a stage as dictionaries."""
        rows: list[dict[str, Any]] = self.table(stage).to_pylist()
        return rows

    def provenance(self) -> list[dict[str, str]]:
        """What belongs to each finished part and not to its results: its date, its seconds, what it was made with."""
        contents = (content for stage in STAGES for _, content in self._parts(stage, self.done(stage)))
        return [metadata(content) for content in contents]


def _units(folder: Place) -> set[str]:
    """Names of the parts that lie in a folder, without what other tools leave there."""
    names = (name for name in listing(folder) if name.endswith(".parquet") and not name.startswith((".", "_")))
    return {name.removesuffix(".parquet") for name in names}


def _content(stage: str, rows: Sequence[Any], meta: Mapping[str, str]) -> bytes:
    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema(STAGES[stage]))
    return encode(table.replace_schema_metadata({"underfire": str(SCHEMA_VERSION), **meta}))


@contextlib.contextmanager
def _told(root: Place) -> Iterator[None]:
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


def read_plan(out: Place) -> Mapping[str, Any]:
    """The plan.yaml of a folder of results.

    Raises:
        UnderfireError: not such a folder.
    """
    path = out / "plan.yaml"
    try:
        plan = read_yaml(path)
    except (FileNotFoundError, NotADirectoryError) as e:
        raise UnderfireError(
            f"'{out}' is no folder of an underfire audit (it has no plan.yaml): give the folder named by --out."
        ) from e
    except (OSError, yaml.YAMLError) as e:
        reason = str(e).splitlines()[0]
        raise UnderfireError(f"Cannot read '{path}' ({reason}): it was damaged since a run wrote it.") from e
    if not isinstance(plan, dict):
        raise UnderfireError(f"'{path}' holds no settings: run the audit again with a new --out.")
    if not isinstance(plan.get("resolved", {}), dict):
        raise UnderfireError(f"'{path}' was not written by a run: what it resolved to is no mapping.")
    return plan
