"""Records -> the numbers of the table: rates with n and interval. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

Row = dict[str, Any]
SCALE_PERCENTILE = 95
CELL = ("classifier", "attack", "preset", "against", "judge_classifier", "interpreter", "defense", "eps")


@dataclass(frozen=True)
class Estimate:
    """A mean or rate with its 95 % interval; ``value`` is None where there is nothing to average (n = 0)."""

    value: float | None
    low: float | None
    high: float | None
    n: int


NOTHING = Estimate(None, None, None, 0)


def rate(flags: Sequence[bool | None]) -> Estimate:
    """Share of True with Wilson's 95 % interval; what is None does not count."""
    known = [flag for flag in flags if flag is not None]
    if not known:
        return NOTHING
    interval = stats.binomtest(sum(known), len(known)).proportion_ci(0.95, method="wilson")
    return Estimate(sum(known) / len(known), float(interval.low), float(interval.high), len(known))


def mean(values: Sequence[float]) -> Estimate:
    """Mean with Student's 95 % interval; the interval is None for a single value."""
    if not values:
        return NOTHING
    middle = float(np.mean(values))
    if len(values) == 1:
        return Estimate(middle, None, None, 1)
    half = float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))
    return Estimate(middle, middle - half, middle + half, len(values))


def untouched_scale(jpeg_l1: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """map_l1 up to which a map counts as untouched, by interpreter (method, section 5.5).

    Args:
        jpeg_l1: interpreter, and what JPEG 90 does to one clean map; None where it could not be measured.
    """
    found: dict[str, list[float]] = {}
    for interpreter, l1 in jpeg_l1:
        if l1 is not None:
            found.setdefault(interpreter, []).append(l1)
    return {name: float(np.percentile(values, SCALE_PERCENTILE)) for name, values in found.items()}


@dataclass(frozen=True)
class Summary:
    """One line of the table: every judgement of one attack under one interpreter, failures of the attack included.

    ``alarm`` is the rate of alarms on the adversarial PNGs; ``unnoticed``, that of forged ones without one.
    """

    cell: dict[str, Any]
    n: int
    errors: int
    success: Estimate
    forged: Estimate
    confidence: Estimate
    map_l1: Estimate
    map_iou: Estimate
    map_rank: Estimate
    untouched_l1: float | None
    goal_passes: Estimate
    passes: Estimate
    judge_passes: Estimate
    seconds: Estimate
    alarm: Estimate
    unnoticed: Estimate
    iou_curve: tuple[float | None, ...]


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """One Summary for each combination of `CELL` columns, in order of first appearance."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in CELL), []).append(row)
    return [_summary(dict(zip(CELL, key, strict=True)), group) for key, group in cells.items()]


def _summary(cell: dict[str, Any], rows: list[Row]) -> Summary:
    good = [row for row in rows if row["error"] is None]

    def average(column: str) -> Estimate:
        return mean([row[column] for row in good if row[column] is not None])

    return Summary(
        cell=cell,
        n=len(good),
        errors=len(rows) - len(good),
        success=rate([row["success"] for row in good]),
        forged=rate([row["forged"] for row in good]),
        confidence=average("confidence"),
        map_l1=average("map_l1"),
        map_iou=average("map_iou"),
        map_rank=average("map_rank"),
        untouched_l1=good[0]["untouched_l1"] if good else None,
        goal_passes=average("goal_passes"),
        passes=average("passes"),
        judge_passes=average("judge_passes"),
        seconds=average("seconds"),
        alarm=rate([row.get("alarm") for row in good]),
        unnoticed=rate([_unnoticed(row) for row in good]),
        iou_curve=mean_curve([row["iou_curve"] for row in good]),
    )


def _unnoticed(row: Row) -> bool | None:
    """Forged, and no alarm; None without a defense or a scale."""
    forged, alarm = row.get("forged"), row.get("alarm")
    return None if forged is None or alarm is None else forged and not alarm


def mean_curve(curves: list[list[float | None]]) -> tuple[float | None, ...]:
    """Mean at each threshold over the curves that have a value there; empty without curves."""
    columns = ([v for v in column if v is not None] for column in zip(*curves, strict=True))
    return tuple(float(np.mean(values)) if values else None for values in columns)
