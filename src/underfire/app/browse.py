"""The records of an audit as a table that sorts, filters and pages, of a folder that may still be written.

Only what is new is read: each part once, since a part never changes. Sorting and filtering are Arrow's.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from underfire.core import ForgeUnit, Record, ScaleUnit
from underfire.core.place import Place
from underfire.metrics.verdict import Ruler
from underfire.store import Store, read_plan
from underfire.store.parquet import schema
from underfire.store.results import judged
from underfire.store.yardsticks import rulers_of

FRESH = 1.0
"""Seconds for which a listing of the folder is good."""
PAGE = 50
"""Rows of a page."""
SORTED = ("image", "attack", "against", "interpreter", "map_l1", "map_iou", "map_rank", "confidence", "linf_levels")
"""Columns that the table sorts by, beside `COSTS`."""
COSTS = ("passes", "seconds")
OUTCOMES = {
    "forged": "forged",
    "reached": "class reached",
    "missed": "class not reached",
    "moved": "class reached, map moved",
    "error": "errors",
}


@dataclass(frozen=True)
class Query:
    """What somebody wants to see of the table; it is the query of the page's address.

    Args:
        audit: folder of an audit of a study; '' where there is only one.
        q: text in the photo's path or in a class.
        attack, interpreter: names; '' for all.
        outcome: one of `OUTCOMES`; '' for all.
        sort: a column; '' for the order of the folder.
        down: whether the largest comes first.
        page: from 1.
    """

    audit: str = ""
    q: str = ""
    attack: str = ""
    interpreter: str = ""
    outcome: str = ""
    sort: str = ""
    down: bool = False
    page: int = 1

    @classmethod
    def parse(cls, given: Mapping[str, str]) -> Query:
        """Read the query of an address; what makes no sense counts as not given."""
        words = {f.name: given.get(f.name, "")[:200] for f in fields(cls) if f.type == "str"}
        words["sort"] = words["sort"] if words["sort"] in (*SORTED, *COSTS) else ""
        words["outcome"] = words["outcome"] if words["outcome"] in OUTCOMES else ""
        number = given.get("page", "1")
        page = int(number) if number.isdecimal() and number.isascii() and len(number) < 9 else 1
        return cls(**words, down=given.get("down") == "1", page=max(1, page))

    def address(self, **other: Any) -> str:
        """Write it as the query of an address, with some fields changed."""
        from urllib.parse import urlencode

        now = {f.name: getattr(self, f.name) for f in fields(self)} | other
        now["down"] = "1" if now["down"] else ""
        now["page"] = "" if now["page"] == 1 else now["page"]
        return urlencode({name: value for name, value in now.items() if value != ""})


@dataclass(frozen=True)
class Part:
    """One page of the table.

    Args:
        rows: at most `PAGE` of them.
        found: how many fit the query.
        total: how many there are.
        pages: how many pages.
        page: which of them.
    """

    rows: list[dict[str, Any]]
    found: int
    total: int
    pages: int
    page: int


class Shelf:
    """The table of one audit.

    Args:
        out: its folder.

    Raises:
        UnderfireError: it is no folder of an audit.
    """

    def __init__(self, out: Place) -> None:
        self.out = out
        self.plan = read_plan(out)
        self._parts: dict[str, pa.Table] = {}
        self._table = judged(schema(Record).empty_table(), {})
        self._known: frozenset[str] = frozenset()
        self._rulers: Mapping[str, Ruler] = {}
        self._measured: tuple[int, bool] | None = None
        self._listed = 0.0
        self._lock = threading.Lock()

    @property
    def rulers(self) -> Mapping[str, Ruler]:
        """What the maps of the table are judged with."""
        return self._rulers

    @property
    def planned(self) -> int | None:
        """Units that the plan has; None where it does not say."""
        resolved = self.plan.get("resolved")
        units = resolved.get("units") if isinstance(resolved, Mapping) else None
        return units if isinstance(units, int) else None

    def table(self) -> pa.Table:
        """Give the table as it is now, with the verdicts.

        Raises:
            UnderfireError: a part is damaged, or of a version that cannot be read.
        """
        with self._lock:
            if time.monotonic() - self._listed > FRESH:
                self._refresh()
                self._listed = time.monotonic()
            return self._table

    @property
    def units(self) -> int:
        """Units that are finished."""
        return sum(not name.startswith("failed ") for name in self._known)

    def _refresh(self) -> None:
        store = Store(self.out)
        done = store.done(ForgeUnit.stage)
        failed = store.failed(ForgeUnit.stage) - done
        known = frozenset([*done, *(f"failed {name}" for name in failed)])
        before, rulers = self._rulers, self._rulers_now(store, len(done))
        if known == self._known and rulers == before:
            return
        new = {name for name in done if name not in self._parts}
        self._parts |= {name: judged(table, rulers) for name, table in store.tables(ForgeUnit.stage, new).items()}
        lost = [judged(table, rulers) for _, table in sorted(store.failures(ForgeUnit.stage, done).items())]
        empty = judged(schema(Record).empty_table(), {})
        self._table = pa.concat_tables([empty, *(self._parts[name] for name in sorted(done)), *lost]).combine_chunks()
        self._known = known

    def _rulers_now(self, store: Store, done: int) -> Mapping[str, Ruler]:
        """Find what maps are judged with; where that has changed, all parts are read and judged anew."""
        measured = (len(store.done(ScaleUnit.stage)), done == self.planned)
        if measured != self._measured:
            before, self._rulers = self._rulers, rulers_of(store, self.plan)
            self._measured = measured
            if self._rulers != before:
                self._parts = {}
        return self._rulers

    def page(self, query: Query) -> Part:
        """Find one page of the rows that fit a query; errors as in `table`."""
        table = self.table()
        found = _filtered(table, query)
        if query.sort:
            order = "descending" if query.down else "ascending"
            index = pc.sort_indices(found.select([query.sort]), sort_keys=[(query.sort, order)])
        else:
            index = pa.array(range(len(found)), pa.int64())
        pages = max(1, -(-len(found) // PAGE))
        page = min(query.page, pages)
        rows = found.take(index.slice((page - 1) * PAGE, PAGE)).to_pylist()
        return Part(rows, len(found), len(table), pages, page)

    def state(self) -> dict[str, Any]:
        """Say how far the audit is; errors as in `table`."""
        return {"rows": len(self.table()), "units": self.units, "planned": self.planned}

    def photo(self, image: str) -> list[dict[str, Any]]:
        """List all rows of a photo; errors as in `table`."""
        table = self.table()
        rows: list[dict[str, Any]] = table.filter(pc.equal(table["image"], image)).to_pylist()
        return rows

    def distinct(self, column: str) -> list[str]:
        """List the values of a column, ascending; errors as in `table`."""
        return sorted(value for value in pc.unique(self.table()[column]).to_pylist() if value is not None)


def _filtered(table: pa.Table, query: Query) -> pa.Table:
    for column in ("attack", "interpreter"):
        if wanted := getattr(query, column):
            table = table.filter(pc.equal(table[column], wanted))
    if query.outcome:
        table = table.filter(pc.fill_null(_outcome(table, query.outcome), False))
    if query.q:
        columns = ("image", "source_class_name", "target_class_name", "predicted_class_name")
        hits = [pc.fill_null(pc.match_substring(table[c], query.q, ignore_case=True), False) for c in columns]
        any_of = hits[0]
        for hit in hits[1:]:
            any_of = pc.or_(any_of, hit)
        table = table.filter(any_of)
    return table


def _outcome(table: pa.Table, word: str) -> Any:
    if word == "error":
        return pc.is_valid(table["error"])
    if word == "forged":
        return table["forged"]
    if word == "moved":
        return pc.and_(table["success"], pc.invert(table["untouched"]))
    return table["success"] if word == "reached" else pc.invert(table["success"])
