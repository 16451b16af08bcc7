"""The evidence on one bound: the estimate, the values behind it, and how many photos would be enough."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from underfire.gating import intervals, power
from underfire.gating.intervals import FEWEST, exact_rate, paired_rate, studentized_mean
from underfire.gating.measures import MEASURES, MeasuredCell
from underfire.gating.pairs import Pairs
from underfire.gating.policy import Bound
from underfire.metrics.estimate import Estimate


@dataclass(frozen=True)
class Evidence:
    """The evidence on one bound.

    Args:
        estimate: the rate, mean or difference.
        values: photo -> what was measured on it.
        limit: the bound, with its sign where it bounds a difference.
        needed: counts the photos that would decide it.
        missing: why there are no values, where there are none.
    """

    estimate: Estimate
    values: Mapping[str, float]
    limit: float
    needed: Callable[[], int | None]
    missing: str = ""
    fewest: int = FEWEST

    @property
    def value(self) -> float | None:
        """What was seen."""
        return self.estimate.value

    @property
    def low(self) -> float | None:
        """Lower end of the interval."""
        return self.estimate.low

    @property
    def high(self) -> float | None:
        """Upper end of the interval."""
        return self.estimate.high

    @property
    def n(self) -> int:
        """Photos behind it."""
        return self.estimate.n


def alone(cell: MeasuredCell, measure: str, limit: float) -> Evidence:
    """Gather the evidence on a bound of one audit's own rate or mean."""
    of, values = MEASURES[measure], cell.values(measure)
    found = list(values.values())
    estimate = exact_rate(found) if of.kind == "rate" else studentized_mean(found, of.most)
    n = len(found)

    def needed() -> int | None:
        if estimate.value is None:
            return None
        if of.kind == "rate":
            return power.photos_for_rate(estimate.value, limit, n)
        return power.photos_for_mean(found, limit, n, of.most)

    return Evidence(estimate, values, limit, needed, _missing(measure))


def against_baseline(paired: Pairs, measure: str, limit: float, bound: Bound) -> Evidence:
    """Gather the evidence on a bound of the difference to a baseline, photo by photo."""
    of, signed = MEASURES[measure], -limit if bound == "decrease" else limit
    differences = paired.differences
    found = list(differences.values())
    table = of.kind == "rate" and paired.flat
    n = len(found)
    estimate = difference(paired, measure)

    def needed() -> int | None:
        if estimate.value is None:
            return None
        if table:
            return power.photos_for_difference(paired.more, paired.less, n, signed, n)
        return power.photos_for_mean(found, signed, n, of.most, None if of.most is None else -of.most)

    return Evidence(estimate, differences, signed, needed, _missing(measure) + ", or the audits share no photo")


def difference(paired: Pairs, measure: str) -> Estimate:
    """Estimate the mean difference of two audits on the same photos."""
    of, found = MEASURES[measure], list(paired.differences.values())
    if of.kind == "rate" and paired.flat:
        return paired_rate(paired.more, paired.less, len(found))
    return intervals.studentized_mean(found, of.most, None if of.most is None else -of.most)


def _missing(measure: str) -> str:
    if measure == "alarm":
        return "the audit has no defense"
    return (
        "there is no verdict, or the explanation cannot tell"
        if measure in ("forged", "untouched")
        else "there is no result"
    )
