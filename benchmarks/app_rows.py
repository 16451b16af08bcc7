"""How quick the table of the app is with 50,000 rows: reading, and pages that sort, filter and search.

    PYTHONPATH=src:tests python benchmarks/app_rows.py

A row for each query: milliseconds, the median of seven.
"""

from __future__ import annotations

import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from support.rows import row
from underfire.app import browse
from underfire.app.browse import Query, Shelf
from underfire.store import Store

RESULTS = Path(__file__).parent / "results" / "app-rows.csv"
PHOTOS, UNITS = 12_500, 500
QUERIES = {
    "first page": Query(),
    "last page": Query(page=1000),
    "sorted by L1": Query(sort="map_l1", down=True),
    "forged, sorted by photo": Query(outcome="forged", sort="image"),
    "search": Query(q="a/77"),
}


def audit(out: Path) -> Path:
    """Write an audit of 50,000 rows in 500 parts."""
    out.mkdir()
    (out / "plan.yaml").write_text(f"images: photos\nresolved: {{units: {UNITS + 2}, scale_units: 0}}\n")
    with Store(out).open() as store:
        for unit in range(UNITS):
            put(store, unit)
    return out


def put(store: Store, unit: int) -> None:
    """Write one part."""
    each = PHOTOS // UNITS
    cells = (("pgd", None, "cam"), ("pgd", None, "grad"), ("adv2", "cam", "cam"), ("adv2", "grad", "grad"))
    rows = [row(i, *cell) for i in range(unit * each, (unit + 1) * each) for cell in cells]
    store.put("records", f"{unit:06d}-{unit:016x}", rows, {}, {})


def timed(work: Callable[[], object], times: int = 7) -> float:
    """Time something: milliseconds, the median of some times."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return statistics.median(taken)


def main() -> None:
    """Measure, and append the rows."""
    browse.FRESH = 0.0
    new = not RESULTS.exists()
    with tempfile.TemporaryDirectory() as folder, RESULTS.open("a", newline="") as file:
        out = csv.writer(file)
        if new:
            out.writerow(["cores", "rows", "parts", "what", "ms"])
        shelf = Shelf(audit(Path(folder) / "audit"))
        first = timed(shelf.table, 1)
        put(Store(shelf.out), UNITS)
        rows = [
            ("read all", first),
            ("read one new part", timed(shelf.table, 1)),
            ("look for new parts", timed(shelf.table)),
        ]
        rows += [(name, timed(partial(shelf.page, query))) for name, query in QUERIES.items()]
        rows += [("all rows of a photo", timed(lambda: shelf.photo("a/777&.png")))]
        for what, ms in rows:
            out.writerow([os.cpu_count(), 4 * PHOTOS, UNITS, what, round(ms, 1)])


if __name__ == "__main__":
    main()
