"""Whole photos: forged files as a person sees them, before and after, and where in them the network looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underfire.core.place import Place
from underfire.images.overlay import Pixels, difference, over, uri
from underfire.report.findings import Findings, good, select
from underfire.report.gallery import FILE, pick, read_map, read_photo

SHOWN = 6
"""Photos of one judge: they are shown large, and a page should not."""
SIDE = 1280
"""Longest side on the page, px; the files themselves are linked."""
SHADE = 0.35
"""Brightness of what the network never sees."""


@dataclass(frozen=True)
class Whole:
    """One forged file; None for a picture that is gone.

    Args:
        row: its record.
        label: the attack.
        before, after: the clean and the forged photo.
        change: their difference, magnified ``factor`` times.
        map_before, map_after: the maps where the network looks, and the rest of the photo shaded.
        size: width and height of the file, px.
    """

    row: dict[str, Any]
    label: str
    before: str | None
    after: str | None
    change: str | None
    factor: int
    map_before: str | None
    map_after: str | None
    size: str


@dataclass(frozen=True)
class WholeGallery:
    """The whole photos of one judge."""

    title: str
    interpreter: str
    photos: tuple[Whole, ...]


def whole_galleries(found: Findings, samples: int) -> list[WholeGallery]:
    """Show the strongest attack of each judge on up to `SHOWN` forged files, the worst for the attacker first."""
    count = min(SHOWN, -(-samples // max(1, len(found.panels))))
    made = []
    for panel in found.panels:
        rows = select(good(select(found.table, **panel.strongest.cell)), at=FILE)
        photos = tuple(_whole(found.out, row, panel.strongest.label) for _, row in pick(rows, count))
        if photos:
            made.append(WholeGallery(panel.title, panel.interpreter, photos))
    return made


def _whole(out: Place, row: dict[str, Any], label: str) -> Whole:
    before, after = (read_photo(out, row[column], True) for column in ("clean", "adversarial"))
    change, factor = (None, 1) if before is None or after is None else difference(before, after, SIDE)
    maps = [
        _laid(photo, row["seen"], read_map(out, row[column]))
        for photo, column in ((before, "clean_map"), (after, "adversarial_map"))
    ]
    size = "" if after is None else f"{after.shape[1]} × {after.shape[0]} px"
    shown = [uri(picture, 85, SIDE) for picture in (before, after)]
    laid = [uri(picture, 80, SIDE) for picture in maps]
    return Whole(row, label, shown[0], shown[1], change, factor, laid[0], laid[1], size)


def _laid(photo: Pixels | None, seen: list[float] | None, m: NDArray[np.float32] | None) -> Pixels | None:
    """Lay a map (h, w) over the part of a photo that the network sees, and shade the rest."""
    if photo is None or seen is None or m is None:
        return None
    left, top, right, bottom = (int(side) for side in seen)
    laid: Pixels = np.rint(photo * SHADE).astype(np.uint8)
    laid[top:bottom, left:right] = over(np.ascontiguousarray(photo[top:bottom, left:right]), m)
    return laid
