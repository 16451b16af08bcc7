"""Folders of audits by hand, of any size, with real pictures and maps for some photos."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from support.e2e import photo
from support.rows import row
from underfire.core import Record
from underfire.images.pixels import encode_png
from underfire.store import Store

PLAN = "images: photos\nresolved: {{units: {units}, scale_units: 0}}\n"


def audit_of(out: Path, photos: int, units: int, planned: int | None = None) -> Path:
    """Write an audit of ``photos`` photos in ``units`` parts: PGD under two judges, ADV² on each."""
    out.mkdir(parents=True)
    (out / "plan.yaml").write_text(PLAN.format(units=planned or units))
    with Store(out).open() as store:
        for unit in range(units):
            put(store, unit, range(unit * photos // units, (unit + 1) * photos // units))
    return out


def put(store: Store, unit: int, photos: range) -> None:
    """Write one part with its pictures."""
    name = f"{unit:06d}-{unit:016x}"
    store.put("records", name, [one for i in photos for one in _rows(i, name)], _files(photos), {})


def _rows(i: int, unit: str) -> list[Record]:
    where = f"images/{unit}/{i}"
    files = {"clean": f"{where}.png", "adversarial": f"{where}.adv.png"}
    files |= {"clean_map": f"{where}.npy", "adversarial_map": f"{where}.npy", "wanted_map": f"{where}.npy"}
    cells = (("pgd", None, "cam"), ("pgd", None, "grad"), ("adv2", "cam", "cam"), ("adv2", "grad", "grad"))
    rows = [row(i, *cell, **files, success=i % 7 != 0 or cell[0] != "pgd") for cell in cells]
    return [*rows, row(i, "adv2", "mask", "mask", error=f"'a/{i}&.png': no map.")] if i % 10 == 3 else rows


def _files(photos: range) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for i in photos:
        levels = np.asarray(photo(i))
        buffer = io.BytesIO()
        np.save(buffer, np.linspace(0, 1, 49, dtype=np.float16).reshape(7, 7))
        files |= {f"{i}.png": encode_png(levels), f"{i}.adv.png": encode_png(levels ^ np.uint8(4), "adv2 against cam")}
        files[f"{i}.npy"] = buffer.getvalue()
    return files
