"""Summaries: from records to the numbers of a table, rates with n and interval. It imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from underfire.metrics.estimate import NOTHING, Estimate, mean, mean_curve, rate
from underfire.metrics.smallest import Budgets, budgets
from underfire.metrics.verdict import OLD
from underfire.metrics.yardstick import TELLS

Row = dict[str, Any]
"""A record with its verdicts, by column."""
CELL = ("classifier", "attack", "preset", "against", "judge_classifier", "interpreter", "defense", "eps")
"""Columns that rows of one line have in common."""

CANNOT_TELL, NOT_CALIBRATED = "this explanation cannot tell", "not calibrated"
"""Said in place of a forged rate: wrong maps pass too often, or clean photos or wrong maps were too few to know."""


@dataclass(frozen=True)
class Summary:
    """One line of the table: all judgements of one attack under one interpreter, also where the attack failed.

    The estimates that are not listed here are means of the column of that name (`Record`).

    Args:
        cell: the values of the `CELL` columns.
        n: number of rows with a result.
        errors: number of rows without one. Those whose picture was made, but has no map, are in the rates: not forged.
        success: rate of adversarial PNGs that are predicted as the target class.
        forged: rate of those whose map is untouched too.
        untouched_l1: map_l1 up to which a map can count as untouched; None where that was not calibrated.
        alarm: rate of alarms on the adversarial PNGs.
        unnoticed: rate of adversarial PNGs that are forged and raise no alarm.
        iou_curve: mean IoU at each threshold.
        yardstick: what the maps were judged with; None where that was not calibrated.
        power: the share of wrong maps that this rejects; None where it was not measured.
        smallest: the smallest budgets that forge; None where none was searched.
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
    yardstick: str | None = None
    power: float | None = None
    smallest: Budgets | None = None

    @property
    def in_place(self) -> str:
        """What is printed in place of a forged rate; '' where the rate is."""
        if self.n and self.forged.value is None:
            return NOT_CALIBRATED
        return CANNOT_TELL if self.power is not None and self.power < TELLS else ""

    @property
    def told(self) -> Estimate:
        """The forged rate, where the explanation can tell; else `NOTHING`."""
        return NOTHING if self.in_place else self.forged

    @property
    def old(self) -> bool:
        """Whether it was judged by the rule of earlier versions."""
        return self.yardstick == OLD


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """Summarise the rows of each combination of `CELL` columns, in order of first appearance."""
    cells: dict[tuple[Any, ...], list[Row]] = {}
    for row in rows:
        cells.setdefault(tuple(row[name] for name in CELL), []).append(row)
    return [_summary(dict(zip(CELL, key, strict=True)), group) for key, group in cells.items()]


def _summary(cell: dict[str, Any], rows: list[Row]) -> Summary:
    good = [row for row in rows if row["error"] is None]
    tried = [row for row in rows if row["error"] is None or made(row)]

    def average(column: str) -> Estimate:
        known = [row for row in good if row[column] is not None]
        return mean([row[column] for row in known], photos(known))

    return Summary(
        cell=cell,
        n=len(good),
        errors=len(rows) - len(good),
        success=rate([row["success"] for row in tried], photos(tried)),
        forged=rate(forged(tried), photos(tried)),
        confidence=average("confidence"),
        map_l1=average("map_l1"),
        map_iou=average("map_iou"),
        map_rank=average("map_rank"),
        untouched_l1=good[0]["untouched_l1"] if good else None,
        goal_passes=average("goal_passes"),
        passes=average("passes"),
        judge_passes=average("judge_passes"),
        seconds=average("seconds"),
        alarm=rate([row.get("alarm") for row in tried], photos(tried)),
        unnoticed=rate([*map(_unnoticed, tried, forged(tried))], photos(tried)),
        iou_curve=mean_curve([row["iou_curve"] for row in good]),
        yardstick=good[0].get("yardstick") if good else None,
        power=good[0].get("power") if good else None,
        smallest=budgets(good, photos(good)),
    )


def made(row: Row) -> bool:
    """Tell whether a picture was forged although no judge has a map of it: it counts, as one that is not forged."""
    return row["error"] is not None and row.get("linf_levels") is not None


def photos(rows: Sequence[Row]) -> list[str] | None:
    """List the photo of each row; None where no photo comes twice, or rows do not say."""
    of = [row.get("image_sha256") for row in rows]
    return None if None in of or len(set(of)) == len(of) else [str(one) for one in of]


def forged(rows: Sequence[Row]) -> list[bool | None]:
    """Tell of each row whether it is forged; a picture without a map is not, where others can be judged at all."""
    judged = any(row["forged"] is not None for row in rows)
    return [False if judged and row["error"] is not None else row["forged"] for row in rows]


def _unnoticed(row: Row, forged: bool | None) -> bool | None:
    """Tell whether an image is forged and raises no alarm; None without a defense or a scale."""
    alarm = row.get("alarm")
    return None if forged is None or alarm is None else forged and not alarm
