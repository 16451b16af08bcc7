"""The numbers of a study's tables and figures, from its rows. No torch, no HTML.

Means are over the photos with a result, and None where there is none.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from underfire.metrics.decision import FEW, Decision, at_least, paired
from underfire.metrics.estimate import NOTHING, Estimate, mean, mean_curve, rate
from underfire.metrics.summary import CANNOT_TELL, NOT_CALIBRATED, forged, photos
from underfire.metrics.yardstick import TELLS
from underfire.report.text import count
from underfire.study.results import ATTACKS, BENT, PLAIN, TRAINED, Row, SubjectResults, on_photos

LEVEL = 1 / 255
"""Maps whose mean L1 distance is below this look the same: one level of 255."""


def average(rows: Iterable[Row], column: str) -> Estimate:
    """Average a column, with the interval."""
    known = [row for row in rows if row[column] is not None]
    return mean([row[column] for row in known], photos(known))


def success(rows: Sequence[Row]) -> Estimate:
    """Share of the rows that reached the target class."""
    return rate([row["success"] for row in rows], photos(rows))


def by_photo(rows: Iterable[Row], column: str) -> dict[str, float]:
    """Digest of a photo -> the mean of a column over its rows."""
    of: dict[str, list[float]] = {}
    for row in rows:
        if row[column] is not None:
            of.setdefault(row["image_sha256"], []).append(row[column])
    return {photo: sum(values) / len(values) for photo, values in of.items()}


# -- effectiveness --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effectiveness:
    """One attack against one interpreter, as in the paper's first table.

    Args:
        success: share of the photos that reach the target class.
        confidence: mean probability of the target class.
        forged: share that is a success with an untouched map.
        passes: mean F of the search.
        flow: mean way of a pixel, px at an input of 224 px; of attacks that bend.
        power: the share of wrong maps that the judge's yardstick rejects; None where that was not measured.
    """

    success: Estimate
    confidence: Estimate
    forged: Estimate
    passes: Estimate
    flow: Estimate
    power: float | None = None

    @property
    def in_place(self) -> str:
        """What is printed in place of a forged rate; '' where the rate is."""
        if self.success.n and self.forged.value is None:
            return NOT_CALIBRATED
        return CANNOT_TELL if self.power is not None and self.power < TELLS else ""


def effectiveness_of(rows: Sequence[Row]) -> Effectiveness:
    """Average the rows of one attack against one interpreter."""
    return Effectiveness(
        success(rows),
        average(rows, "confidence"),
        rate(forged(rows), photos(rows)),
        average(rows, "passes"),
        average(rows, "flow_mean_px"),
        next((row["power"] for row in rows if row.get("power") is not None), None),
    )


def effectiveness(subject: SubjectResults) -> dict[tuple[str, str | None], Effectiveness]:
    """Find (attack, interpreter) -> its numbers.

    An attack on the prediction alone stands under None, with the rows of the interpreter that has most photos.
    """
    found: dict[tuple[str, str | None], Effectiveness] = {}
    for attack in ATTACKS:
        experiment = "bends" if attack in BENT else "main"
        by = {name: subject.tried(experiment, attack, name) for name in subject.interpreters}
        if attack in PLAIN:
            found[attack, None] = effectiveness_of(max(by.values(), key=len, default=[]))
        else:
            found |= {(attack, name): effectiveness_of(rows) for name, rows in by.items()}
    return found


# -- misinterpretation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distance:
    """How far an attack's maps are from the benign ones under one interpreter.

    Args:
        attack: its name.
        interpreter: the judge.
        l1: mean L1 distance.
        iou: mean IoU of the brightest fifth.
        curve: mean IoU of the parts above each of `IOU_THRESHOLDS`.
    """

    attack: str
    interpreter: str
    l1: Estimate
    iou: Estimate
    curve: tuple[float | None, ...]


def distance(subject: SubjectResults, attack: str, interpreter: str) -> Distance:
    """Average the distances of one attack's photos."""
    rows = subject.rows("bends" if attack in BENT else "main", attack, interpreter)
    curve = mean_curve([row["iou_curve"] for row in rows if row["iou_curve"] is not None])
    return Distance(attack, interpreter, average(rows, "map_l1"), average(rows, "map_iou"), curve)


def ratio(part: Estimate, whole: Estimate) -> float | None:
    """Divide two means; None where either has no value or ``whole`` is 0."""
    return part.value / whole.value if part.value is not None and whole.value else None


def nearer(far: Estimate, near: Estimate) -> float | None:
    """Say how many times nearer ``near`` is: ∞ where it is 0; None where both are, or one has no value."""
    if far.value is None or near.value is None or far.value == near.value == 0:
        return None
    return far.value / near.value if near.value else math.inf


def times_nearer(subject: SubjectResults, interpreter: str, plain: str = "pgd", joint: str = "adv2") -> float | None:
    """Say how many times nearer to benign the maps of ``joint`` are than those of ``plain``, in mean L1."""
    far, near = (distance(subject, attack, interpreter).l1 for attack in (plain, joint))
    return nearer(far, near)


def nearer_by(subject: SubjectResults, interpreter: str, times: float, plain: str, joint: str) -> tuple[Decision, ...]:
    """Decide, photo by photo, whether ``joint`` is ``times`` nearer to benign in L1 than ``plain``; and in IoU."""
    experiment = "bends" if joint in BENT else "main"
    far, near = (subject.rows(experiment, attack, interpreter) for attack in (plain, joint))
    l1 = paired(by_photo(far, "map_l1"), by_photo(near, "map_l1"), times)
    iou = paired(by_photo(near, "map_iou"), by_photo(far, "map_iou"))
    return at_least(l1, 0.0), at_least(iou, 0.0)


# -- random-class interpretation ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gap:
    """A random class's map as the target, while the prediction becomes a third class.

    Args:
        interpreter: attacked, and judge.
        success: share that reaches the target class.
        l1: mean L1 distance of ADV²'s maps to the target maps.
        pgd_l1: the same for PGD's maps.
        benign_l1: the same for the benign maps.
        pgd_gap: the gap that PGD goes by itself, which knows nothing of the target map.
        near: the target maps are no further from the benign ones than the yardstick calls untouched.
        gap: the share of the way from the benign maps to the target maps that the attack goes, 1 - ``l1`` /
            ``benign_l1``: 0 where the map stays what it was, 1 where the attacker chooses it. No value where the
            target maps look like the benign ones, so that there is nowhere to go.
    """

    interpreter: str
    success: Estimate
    l1: Estimate
    pgd_l1: Estimate
    benign_l1: Estimate
    gap: Estimate
    pgd_gap: Estimate = NOTHING
    near: bool = False

    @property
    def why_none(self) -> str:
        """Why there is no gap, where the maps are ``near``: one or two photos say nothing of the interpreter."""
        if self.benign_l1.n < FEW:
            return f"on {count(self.benign_l1.n, 'photo')} the maps of both classes are alike"
        return "the maps of both classes are alike: it hardly depends on the class"


def random_class(subject: SubjectResults, interpreter: str) -> Gap:
    """Measure the gap of one interpreter."""
    rows = subject.rows("random", "adv2", interpreter)
    pgd = subject.rows("random", "pgd", interpreter)
    l1, way = average(rows, "map_l1"), average(rows, "target_l1")
    near = way.value is not None and way.value <= max(LEVEL, scale(rows) or 0.0)
    gap, by_chance = (NOTHING, NOTHING) if near else (_gap(rows), _gap(pgd))
    reached = success(subject.tried("random", "adv2", interpreter))
    return Gap(interpreter, reached, l1, average(pgd, "map_l1"), way, gap, by_chance, near)


def scale(rows: Iterable[Row]) -> float | None:
    """The map_l1 up to which a map counts as untouched; None where it was not measured."""
    return max((row["untouched_l1"] for row in rows if row.get("untouched_l1") is not None), default=None)


def _gap(rows: Sequence[Row]) -> Estimate:
    """The gap with its interval.

    It is a ratio of means and not a mean of ratios, in which one target map that happens to be near would outweigh all
    others. The interval is that of a ratio by linearisation (Cochran, Sampling Techniques, section 6.4).
    """
    rows = [row for row in rows if row["map_l1"] is not None and row["target_l1"] is not None]
    l1, way = average(rows, "map_l1"), average(rows, "target_l1")
    left = ratio(l1, way)
    if left is None or way.value is None:
        return NOTHING
    return mean([1 - left - (row["map_l1"] - left * row["target_l1"]) / way.value for row in rows], photos(rows))


# -- adversarial training -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Robustness:
    """ADV² against RTSᴬ and against RTS, on the photos that both have.

    Args:
        success: of ADV² against RTSᴬ.
        l1: how far it moves RTSᴬ's map.
        plain_l1: how far ADV² against RTS moves RTS's map.
        twice: how much further than twice as far, photo by photo.
    """

    success: Estimate
    l1: Estimate
    plain_l1: Estimate
    twice: Estimate = NOTHING


def robustness(subject: SubjectResults) -> Robustness | None:
    """Measure what adversarial training of RTS changes; None where nothing was measured."""
    trained, plain = (
        [row for e in experiments for row in subject.rows(e, "adv2", name)]
        for name, experiments in ((TRAINED, ("main", "trained")), ("rts", ("main",)))
    )
    both = frozenset(by_photo(trained, "map_l1")) & frozenset(by_photo(plain, "map_l1"))
    mine, theirs = on_photos(both, trained), on_photos(both, plain)
    twice = paired(by_photo(mine, "map_l1"), by_photo(theirs, "map_l1"), 2.0)
    return Robustness(success(mine), average(mine, "map_l1"), average(theirs, "map_l1"), twice) if both else None
