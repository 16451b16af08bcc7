"""A study's folder -> the numbers of its tables and figures. No torch, no HTML.

Means are over photos with a result; what has no result is left out, and None where nothing is left.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from underfire.metrics.estimate import NOTHING, Estimate, mean, mean_curve, rate
from underfire.study.results import ATTACKS, BENT, PLAIN, TRAINED, Row, Subject, _on

LEVEL = 1 / 255
"""Maps that are nearer than this in the mean look the same: one level of a picture."""


def average(rows: Iterable[Row], column: str) -> Estimate:
    """Mean of a column with its interval."""
    return mean([row[column] for row in rows if row[column] is not None])


def success(rows: Iterable[Row]) -> Estimate:
    """Share that reached the target class."""
    return rate([row["success"] for row in rows])


# -- effectiveness --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One attack against one interpreter, as the paper's first table has it."""

    success: Estimate
    confidence: Estimate
    forged: Estimate
    passes: Estimate
    flow: Estimate


def cell(rows: Sequence[Row]) -> Cell:
    """The numbers of one cell."""
    return Cell(
        success(rows),
        average(rows, "confidence"),
        rate([row["forged"] for row in rows]),
        average(rows, "passes"),
        average(rows, "flow_mean_px"),
    )


def effectiveness(subject: Subject) -> dict[tuple[str, str | None], Cell]:
    """(attack, interpreter) -> cell; attacks on the prediction alone under None, from most photos."""
    found: dict[tuple[str, str | None], Cell] = {}
    for attack in ATTACKS:
        experiment = "bends" if attack in BENT else "main"
        by = {name: subject.rows(experiment, attack, name) for name in subject.interpreters}
        if attack in PLAIN:
            found[attack, None] = cell(max(by.values(), key=len, default=[]))
        else:
            found |= {(attack, name): cell(rows) for name, rows in by.items()}
    return found


# -- misinterpretation ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Distance:
    """How far an attack's maps are from the benign ones under one interpreter."""

    attack: str
    interpreter: str
    l1: Estimate
    iou: Estimate
    curve: tuple[float | None, ...]


def distance(subject: Subject, attack: str, interpreter: str) -> Distance:
    """Mean distances of the cell's photos."""
    rows = subject.rows("bends" if attack in BENT else "main", attack, interpreter)
    curve = mean_curve([row["iou_curve"] for row in rows if row["iou_curve"] is not None])
    return Distance(attack, interpreter, average(rows, "map_l1"), average(rows, "map_iou"), curve)


def ratio(part: Estimate, whole: Estimate) -> float | None:
    """A share of ``whole``; None where either has no value or the whole is nothing."""
    return part.value / whole.value if part.value is not None and whole.value else None


def nearer(far: Estimate, near: Estimate) -> float | None:
    """How many times nearer, infinitely where ``near`` is exactly there; None where nothing was moved or measured."""
    if far.value is None or near.value is None or far.value == near.value == 0:
        return None
    return far.value / near.value if near.value else math.inf


# -- random-class interpretation ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gap:
    """The map made that of a random class, beside a prediction that is another class.

    ``gap`` is the share of the way from the benign maps to the wanted ones that the attack went, 1 − ``l1`` /
    ``benign_l1``: 0 where the map stays bound to what it was, 1 where it is whatever the attacker likes. It has no
    value where the wanted maps look like the benign ones, so that there is no way to go.
    """

    interpreter: str
    success: Estimate
    l1: Estimate
    pgd_l1: Estimate
    benign_l1: Estimate
    gap: Estimate


def random_class(subject: Subject, interpreter: str) -> Gap:
    """The gap of one interpreter."""
    rows = subject.rows("random", "adv2", interpreter)
    l1, way = average(rows, "map_l1"), average(rows, "target_l1")
    return Gap(
        interpreter,
        success(rows),
        l1,
        average(subject.rows("random", "pgd", interpreter), "map_l1"),
        way,
        _share(rows, ratio(l1, way), way),
    )


def _share(rows: Sequence[Row], left: float | None, way: Estimate) -> Estimate:
    """The gap, of means and not a mean of shares: a wanted map that happens to be near would count for all others.

    Its interval is a ratio's by linearisation (Cochran, Sampling Techniques, section 6.4).
    """
    if left is None or way.value is None or way.value < LEVEL:
        return NOTHING
    return mean([1 - left - (row["map_l1"] - left * row["target_l1"]) / way.value for row in rows])


# -- adversarial training -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """ADV² against RTSᴬ and against RTS, on the photos that both have.

    Args:
        success: of ADV² against RTSᴬ.
        l1: how far it moves RTSᴬ's map.
        plain_l1: how far ADV² against RTS moves that one's.
    """

    success: Estimate
    l1: Estimate
    plain_l1: Estimate


def training(subject: Subject) -> Training | None:
    """What adversarial training of RTS changes; None where nothing was measured."""
    by = [
        {row["image_sha256"]: row for e in experiments for row in subject.rows(e, "adv2", name)}
        for name, experiments in ((TRAINED, ("main", "trained")), ("rts", ("main",)))
    ]
    photos = sorted(by[0].keys() & by[1].keys())
    mine, plain = ([of[photo] for photo in photos] for of in by)
    return Training(success(mine), average(mine, "map_l1"), average(plain, "map_l1")) if photos else None


# -- transfer -------------------------------------------------------------------------------------------------------


# -- budget ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Budget:
    """One interpreter over several ε: levels -> cell and distances; and the smallest ε that forges each photo.

    ``smallest`` is by digest, ``photos`` the same by path.
    """

    interpreter: str
    cells: Mapping[int, tuple[Cell, Distance]]
    smallest: Mapping[str, int | None]
    photos: Sequence[tuple[str, int | None]]

    def count(self, eps: int | None) -> int:
        """Photos whose smallest ε that is."""
        return sum(found == eps for found in self.smallest.values())


def budget(subject: Subject, interpreter: str) -> Budget | None:
    """ADV² on the photos that were tried at every ε; None where there are none.

    Audits of few photos have a scale of their own each; one scale, the main audit's, makes their forged rates compare.
    """
    budgets = [p for p in subject.of("budget") if interpreter in p.interpreters]
    if not budgets:
        return None
    tried: dict[int, list[Row]] = {}
    for part in [*budgets, *(p for p in subject.of("main") if interpreter in p.interpreters)]:
        rows = [row for row in part.rows if (row["attack"], row["interpreter"]) == ("adv2", interpreter)]
        if rows:
            tried[part.eps] = rows
    of = [frozenset(row["image_sha256"] for row in rows) for rows in tried.values()]
    photos = frozenset.intersection(*of) if of else frozenset()
    if not photos:
        return None
    by_eps = {eps: _on(photos, rows) for eps, rows in tried.items()}
    main = subject.rows("main", "adv2", interpreter) or [row for rows in tried.values() for row in rows]
    scale = max((row["untouched_l1"] for row in main if row["untouched_l1"] is not None), default=None)
    smallest: dict[str, int | None] = dict.fromkeys(sorted(photos))
    for eps in sorted(by_eps, reverse=True):
        rows = by_eps[eps] = [
            {**row, "forged": None if scale is None else row["success"] and row["map_l1"] <= scale}
            for row in by_eps[eps]
        ]
        smallest |= {row["image_sha256"]: eps for row in rows if row["forged"]}
    cells = {
        eps: (
            cell(rows),
            Distance("adv2", interpreter, average(rows, "map_l1"), average(rows, "map_iou"), ()),
        )
        for eps, rows in sorted(by_eps.items())
    }
    paths = {row["image_sha256"]: row["image"] for rows in by_eps.values() for row in rows}
    return Budget(
        interpreter, cells, smallest, sorted(((paths[d], eps) for d, eps in smallest.items()), key=lambda one: one[0])
    )
