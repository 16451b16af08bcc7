"""The smallest budgets that forge: quartiles, the share of photos forged within each budget, and which half failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

from underfire.metrics.estimate import Estimate, rate

LEVELS, PX = "levels", "px"


@dataclass(frozen=True)
class Budgets:
    """The smallest budgets of one attack under one judge.

    Args:
        by: what counted: 'forged' or 'success'.
        unit: 'levels' of 255, or 'px' of a bend.
        quartiles: the first, the median and the third; None: larger than any that was tried.
        curve: budget -> the share of photos that need no more, with its interval; for each budget that a photo needed.
        lost_class: photos that nothing forged, whose class was not reached.
        lost_map: photos that nothing forged, whose class was reached and whose map was touched.
    """

    by: str
    unit: str
    quartiles: tuple[float | None, float | None, float | None]
    curve: tuple[tuple[float, Estimate], ...]
    lost_class: int
    lost_map: int


def budgets(rows: Sequence[Mapping[str, Any]], photos: Sequence[str] | None) -> Budgets | None:
    """Summarise the rows of one attack under one judge; None where no smallest budget was searched.

    Args:
        rows: records without an error.
        photos: (len(rows),) which photo each belongs to; None: each to another one.
    """
    kind = next((row["smallest_by"] for row in rows if row.get("smallest_by")), None)
    if kind is None:
        return None
    bent = any(row["flow_max_px"] is not None for row in rows)
    found = [row["smallest_shift" if bent else "smallest_eps"] for row in rows]
    missed = [row for row, one in zip(rows, found, strict=True) if one is None]
    lost = sum(not row["success"] for row in missed)
    curve = tuple(
        (budget, rate([one is not None and one <= budget for one in found], photos))
        for budget in sorted({one for one in found if one is not None})
    )
    return Budgets(kind, PX if bent else LEVELS, quartiles(found), curve, lost, len(missed) - lost)


def quartiles(found: Sequence[float | None]) -> tuple[float | None, float | None, float | None]:
    """Give the smallest budgets that forge a quarter, a half and three quarters of the photos; None: more."""
    known: list[float | None] = [*sorted(one for one in found if one is not None)]
    known += [None] * (len(found) - len(known))
    first, middle, third = (known[min(len(known) - 1, max(0, _up(q * len(known)) - 1))] for q in (0.25, 0.5, 0.75))
    return first, middle, third


def _up(value: float) -> int:
    return -floor(-value)
