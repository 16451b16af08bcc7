"""Verdicts on what was measured: *untouched* and *forged* (method, section 5.5). Computed on reading, never stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from underfire.metrics.yardstick import Yardstick, triple

OLD_PERCENTILE = 95
"""Percentile of the JPEG distances up to which a map counted as untouched before there were yardsticks."""
OLD, OWN = "old scale", "own photos"
DRAWN = ("shape", "file")
"""Target maps that are no map of anything."""


@dataclass(frozen=True)
class OldScale:
    """The rule of audits from before there were yardsticks: L1 alone, against what JPEG 90 did to the audit's photos.

    Args:
        l1: map_l1 up to which a map counted as untouched.
    """

    l1: float


@dataclass(frozen=True)
class Named:
    """A yardstick, and what it is called.

    Args:
        yardstick: the yardstick.
        name: `OWN`, or the start of the digest of its file.
        exact: where that ranks maps as they are shown, the one for rows of before, whose ranks are of the numbers.
    """

    yardstick: Yardstick
    name: str
    exact: Yardstick | None = None

    def by_rank(self, row: Mapping[str, Any]) -> tuple[Yardstick, float | None]:
        """Give the yardstick for a row, and the rank of the row that it compares."""
        if self.exact is None:
            return self.yardstick, row["map_rank"]
        shown = row.get("map_rank_shown")
        return (self.exact, row["map_rank"]) if shown is None else (self.yardstick, shown)


Ruler = OldScale | Named
"""What a verdict is computed with."""


@dataclass(frozen=True)
class MapVerdict:
    """The verdicts on one judgement.

    Args:
        untouched_l1: map_l1 up to which a map can count as untouched; None where that was not calibrated.
        untouched: whether the map lies within the yardstick of the wanted one. Then, with a benign target map, nothing
            seems to have happened.
        forged: whether the attack succeeded and the map is untouched.
        map_distance: the worst of the map's distances over its limit: up to 1 it is untouched.
        yardstick: what it was judged with: the start of a digest, 'own photos' or 'old scale'.
        power: the share of wrong maps that this rejects, for the kind of wrong map that passes most often.
    """

    untouched_l1: float | None = None
    untouched: bool | None = None
    forged: bool | None = None
    map_distance: float | None = None
    yardstick: str | None = None
    power: float | None = None


def old_scale(jpeg_l1: Iterable[float | None]) -> OldScale | None:
    """Compute the scale of an audit from before there were yardsticks; None where nothing was measured.

    Args:
        jpeg_l1: L1 distances of clean maps before and after JPEG 90; None where it could not be measured.
    """
    known = [l1 for l1 in jpeg_l1 if l1 is not None]
    return OldScale(float(np.percentile(known, OLD_PERCENTILE))) if known else None


def verdict(row: Mapping[str, Any], rulers: Mapping[str, Ruler]) -> MapVerdict:
    """Judge one judgement's measurements.

    Args:
        row: the columns of a `Record`.
        rulers: interpreter -> what its maps are judged with.
    """
    ruler, success, l1 = rulers.get(row["interpreter"]), row["success"], row["map_l1"]
    if success is None or l1 is None or ruler is None:
        return MapVerdict()
    if isinstance(ruler, OldScale):
        untouched = bool(l1 <= ruler.l1)
        return MapVerdict(ruler.l1, untouched, success and untouched, None, OLD)
    drawn = str(row["target_map"]).partition(":")[0] in DRAWN
    yardstick, rank = ruler.by_rank(row)
    distance = yardstick.distance(triple(l1, row["map_iou"], rank, drawn))
    weakest = yardstick.weakest
    power = None if weakest is None else weakest.value
    limit = float(yardstick.limits[0])
    return MapVerdict(limit, distance <= 1, success and distance <= 1, distance, ruler.name, power)
