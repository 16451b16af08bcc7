"""How far each explanation of a classifier can be trusted, from a study's rows. No torch, no HTML.

left = L1 of ADV²'s maps / L1 of PGD's          what an attack on the map leaves of the change that gives it away
noise                                           what random noise of the size of ε does to the map of its own class
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy import stats

from underfire.metrics.estimate import Estimate
from underfire.metrics.summary import Summary, summarise
from underfire.metrics.verdict import Named
from underfire.study.budget import budget, main_ruler
from underfire.study.families import FAMILIES
from underfire.study.numbers import average, ratio
from underfire.study.results import SubjectResults, on_photos

FEWEST = 4
"""Explanations that a rank correlation over them needs at least."""
OTHER = "other"
"""The family of an interpreter of another package."""


@dataclass(frozen=True)
class Trust:
    """One explanation of one classifier.

    Args:
        name: the interpreter's.
        family: the paper's family.
        adv2: ADV² against it.
        pgd_l1: mean L1 that PGD moves its map.
        pgd_iou: mean IoU that PGD leaves.
        left: `left`; None where PGD moves nothing.
        noise_l1: mean L1 that random noise moves its map.
        noise_iou: mean IoU that noise leaves.
        smallest: digest of a photo -> the smallest ε that forges it, None where none does; empty where not tried.
        best: the best place in the league that its interval allows, from 1; None where its rate is not told.
        worst: the worst one.
    """

    name: str
    family: str
    adv2: Summary
    pgd_l1: Estimate
    pgd_iou: Estimate
    left: float | None
    noise_l1: Estimate
    noise_iou: Estimate
    smallest: Mapping[str, int | None]
    best: int | None = None
    worst: int | None = None

    @property
    def forged(self) -> Estimate:
        """The forged rate, where the explanation can tell; else `NOTHING`."""
        return self.adv2.told

    def count(self, eps: int | None) -> int:
        """Count the photos whose smallest ε is this one."""
        return sum(found == eps for found in self.smallest.values())

    @property
    def _order(self) -> tuple[int, float, float]:
        """Those that are told by their rate, then those not calibrated, last those that cannot tell."""
        group = 0 if self.forged.value is not None else 1 if self.adv2.power is None else 2
        return group, self.forged.value or 0.0, -(self.left or 0.0)


def league(subject: SubjectResults) -> list[Trust]:
    """Put the explanations of a classifier in order, the most trustworthy first."""
    found = [one for name in subject.interpreters if (one := _trust(subject, name)) is not None]
    ordered = sorted(found, key=lambda one: one._order)
    places = [_places(one, ordered) for one in ordered]
    return [replace(one, best=best, worst=worst) for one, (best, worst) in zip(ordered, places, strict=True)]


def _places(one: Trust, among: Sequence[Trust]) -> tuple[int | None, int | None]:
    """The best and the worst place that the intervals of the told rates allow; None where this one has none."""
    told = [other.forged for other in among]
    low, high = one.forged.low, one.forged.high
    if low is None or high is None:
        return None, None
    better = sum(other.high is not None and other.high < low for other in told)
    worse = sum(other.low is not None and other.low > high for other in told)
    return 1 + better, sum(other.low is not None for other in told) - worse


def _trust(subject: SubjectResults, name: str) -> Trust | None:
    tried = subject.tried("main", "adv2", name)
    if not tried:
        return None
    adv2, pgd = subject.rows("main", "adv2", name), subject.rows("main", "pgd", name)
    both = frozenset(row["image_sha256"] for row in adv2) & frozenset(row["image_sha256"] for row in pgd)
    mine, theirs = on_photos(both, adv2), on_photos(both, pgd)
    noise = subject.rows("noise", "noise", name)
    return Trust(
        name,
        next((family for family, names in FAMILIES.items() if name in names), OTHER),
        summarise(tried)[0],
        average(theirs, "map_l1"),
        average(theirs, "map_iou"),
        ratio(average(mine, "map_l1"), average(theirs, "map_l1")),
        average(noise, "map_l1"),
        average(noise, "map_iou"),
        smallest(subject, name),
    )


def smallest(subject: SubjectResults, name: str) -> dict[str, int | None]:
    """Find the smallest ε that forges each photo that was tried at every ε; empty where that is not known.

    One yardstick judges all of them: the main audit's.
    """
    found = budget(subject, name)
    return dict(found.smallest) if found else {}


@dataclass(frozen=True)
class Agreement:
    """Whether an explanation that noise moves little resists an attack: Spearman's rank correlation.

    Args:
        rank: of (L1 under noise) and (what an attack leaves of PGD's L1), over explanations; −1 where the explanation
            that noise moves least is the one that resists most. None where there are too few.
        n: number of explanations.
    """

    rank: float | None
    n: int


def agreement(lines: Sequence[Trust]) -> Agreement:
    """Correlate what noise does with what an attack leaves."""
    pairs = [(one.noise_l1.value, one.left) for one in lines if one.noise_l1.value is not None and one.left is not None]
    if len(pairs) < FEWEST or any(len(set(column)) == 1 for column in zip(*pairs, strict=True)):
        return Agreement(None, len(pairs))
    return Agreement(float(stats.spearmanr(*zip(*pairs, strict=True)).statistic), len(pairs))


def blind(subject: SubjectResults, name: str) -> bool:
    """Tell whether an explanation's map for another class passes as its own."""
    ruler = main_ruler(subject, name)
    return isinstance(ruler, Named) and ruler.yardstick.class_blind
