"""A study's folder -> the numbers of its tables and figures. No torch, no HTML.

Means are over photos with a result; what has no result is left out, and None where nothing is left.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from underfire.core import UnderfireError
from underfire.core.place import Place
from underfire.metrics.estimate import NOTHING, Estimate, mean, mean_curve, rate
from underfire.published import network_of
from underfire.store import Store

FILE = "study.yaml"
IMAGENET = "ImageNet"
"""What a classifier must have been trained on for published cells to stand beside its own."""
ORDER = ("grad", "cam", "mask", "rts")
"""The paper's interpreters, in its order."""
TRAINED = "rts-a"
"""The interpreter that was trained against the attack."""
LEVEL = 1 / 255
"""Maps that are nearer than this in the mean look the same: one level of a picture."""
PLAIN, BENT = ("pgd", "stadv"), ("stadv", "adv2-stadv")
ATTACKS = ("pgd", "stadv", "adv2", "adv2-stadv")
Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """One audit of the study, its rows with the folder they lie in as ``out``."""

    experiment: str
    out: Path
    eps: int
    interpreters: tuple[str, ...]

    @cached_property
    def rows(self) -> list[Row]:
        """Good judgements by the interpreters an attack was made for."""
        return _good(self.out, "records")

    @cached_property
    def transfer(self) -> list[Row]:
        """Good judgements by others."""
        return _good(self.out, "transfer")


def _good(out: Path, stage: str) -> list[Row]:
    return [{**row, "out": out} for row in Store(out).rows(stage) if row["error"] is None]


@dataclass(frozen=True)
class Subject:
    """One classifier of the study.

    Args:
        name: the classifier's.
        trained_on: in words.
        parts: its audits.
    """

    name: str
    trained_on: str
    parts: tuple[Part, ...]

    @property
    def imagenet(self) -> bool:
        """Whether published ImageNet cells may stand beside its own."""
        return self.trained_on == IMAGENET

    @property
    def told(self) -> str:
        """Its name, and what it was trained on where that is not ImageNet."""
        return self.name if self.imagenet else f"{self.name} (trained on {self.trained_on})"

    @property
    def papers(self) -> bool:
        """Whether it is one of the paper's two networks."""
        return network_of(self.name) is not None

    @cached_property
    def interpreters(self) -> tuple[str, ...]:
        """Those of its audits in the paper's order, without the one that is only there to be set beside RTS."""
        found = dict.fromkeys(name for part in self.parts if part.experiment != "trained" for name in part.interpreters)
        return tuple(sorted(found, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)))

    def of(self, experiment: str) -> list[Part]:
        """Its audits of one kind."""
        return [part for part in self.parts if part.experiment == experiment]

    def rows(self, experiment: str, attack: str, interpreter: str) -> list[Row]:
        """Good rows of an attack under the interpreter it was made for, or that judges it."""
        return [
            row
            for part in self.of(experiment)
            for row in part.rows
            if row["attack"] == attack and row["interpreter"] == interpreter
        ]

    @cached_property
    def shared(self) -> frozenset[str]:
        """Digests of the photos with results in every main audit: what transfer compares."""
        of = [{row["image_sha256"] for row in part.rows} for part in self.of("main")]
        return frozenset(set.intersection(*of)) if of else frozenset()


@dataclass(frozen=True)
class StudyNumbers:
    """A study as read from its folder."""

    out: Path
    plan: Mapping[str, Any]
    subjects: tuple[Subject, ...]
    failed: Mapping[tuple[str, str], int]
    """Judgements without a result, by the folder of their audit and the reason."""
    unfinished: Sequence[tuple[str, int, int]]
    """Audits that lack photos, and how many of how many are there."""

    @property
    def resolved(self) -> Mapping[str, Any]:
        """What the driver noted."""
        found: Mapping[str, Any] = self.plan["resolved"]
        return found

    @cached_property
    def _provenance(self) -> list[dict[str, str]]:
        made = [one for part in self.resolved["parts"] for one in Store(self.out / part["folder"]).provenance()]
        return sorted(made, key=lambda one: one.get("written", ""))

    @property
    def seconds(self) -> float:
        """What workers took for all that is finished, whenever and wherever that was."""
        return sum(float(one.get("seconds", 0)) for one in self._provenance)

    def made_with(self, what: str) -> tuple[str, ...]:
        """Every 'hardware' or 'underfire_version' that a finished part tells, in the order of their dates."""
        return tuple(dict.fromkeys(one[what] for one in self._provenance if what in one))


def read(out: Place) -> dict[str, Any]:
    """The study.yaml that a run of a study keeps in its folder.

    Raises:
        UnderfireError: no such folder.
    """
    try:
        plan: dict[str, Any] = yaml.safe_load((out / FILE).read_text(encoding="utf-8"))
        _ = plan["resolved"]["parts"], plan["resolved"]["trained_on"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as e:
        raise UnderfireError(f"'{out}' is no folder of an underfire study: it has no {FILE} that a study wrote.") from e
    return plan


def parts(out: Place) -> list[str]:
    """The folders of a study's audits, below its own."""
    return [part["folder"] for part in read(out)["resolved"]["parts"]]


def load(out: Path) -> StudyNumbers:
    """Read a study's folder, finished or not.

    Raises:
        UnderfireError: no such folder, or nothing in it yet.
    """
    plan = read(out)
    resolved = plan["resolved"]
    subjects = []
    for i, data in enumerate(resolved["trained_on"]):
        own = tuple(_part(out, part) for part in resolved["parts"] if part["subject"] == i)
        there = tuple(part for part in own if part.rows)
        if any(part.experiment != "trained" for part in there):
            subjects.append(Subject(there[0].rows[0]["classifier"], data, there))
    if not subjects:
        raise UnderfireError(f"'{out}' has no finished records yet: let the study finish a unit, then ask again.")
    failed: Counter[tuple[str, str]] = Counter()
    unfinished = []
    stopped = {name for name, _ in resolved.get("failed", [])}
    for part in resolved["parts"]:
        rows = {stage: Store(out / part["folder"]).rows(stage) for stage in ("records", "transfer")}
        failed.update((part["folder"], row["error"]) for row in itertools.chain(*rows.values()) if row["error"])
        judges: dict[str, set[str]] = {}
        for row in rows["records"]:
            judges.setdefault(row["image"], set()).add(row["interpreter"])
        done = sum(found >= set(part["interpreter"]) for found in judges.values())
        if done < part["photos"] and part["folder"] not in stopped:
            unfinished.append((part["folder"], done, part["photos"]))
    return StudyNumbers(out, plan, tuple(subjects), failed, unfinished)


def _part(out: Path, part: Mapping[str, Any]) -> Part:
    return Part(part["experiment"], out / part["folder"], part["eps"], tuple(part["interpreter"]))


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


@dataclass(frozen=True)
class Seen:
    """PNGs made against one interpreter under one judge.

    Args:
        relative: their mean L1 over PGD's under the same judge; 1 is as exposed as an attack that ignores the map.
        l1: their mean L1.
        iou: their mean IoU.
        n: photos.
    """

    relative: float | None
    l1: float | None
    iou: float | None
    n: int


def seen(rows: Sequence[Row], pgd: Sequence[Row]) -> Seen:
    """One cell of the matrix, over the photos that both have."""
    images = {row["image_sha256"] for row in rows} & {row["image_sha256"] for row in pgd}
    mine, theirs = ([r for r in some if r["image_sha256"] in images] for some in (rows, pgd))
    l1, base = average(mine, "map_l1"), average(theirs, "map_l1")
    return Seen(ratio(l1, base), l1.value, average(mine, "map_iou").value, len(images))


def matrix(subject: Subject) -> dict[tuple[str, str], Seen]:
    """(made against, judged by) -> cell, on the photos that all main audits share."""
    found = {}
    for judge in subject.interpreters:
        pgd = _on(subject.shared, subject.rows("main", "pgd", judge))
        for against in subject.interpreters:
            if against == judge:
                rows = subject.rows("main", "adv2", judge)
            else:
                rows = [
                    row
                    for part in subject.of("main")
                    for row in part.transfer
                    if (row["attack"], row["against"], row["interpreter"]) == ("adv2", against, judge)
                    and row["judge_classifier"] == subject.name
                ]
            found[against, judge] = seen(_on(subject.shared, rows), pgd)
    return found


def _on(photos: frozenset[str], rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["image_sha256"] in photos]


@dataclass(frozen=True)
class Across:
    """PNGs made on one classifier, judged on another by the same interpreter.

    Photos that the judge takes for the attacker's class while they are clean do not count as success.
    """

    made: Subject
    judge: Subject
    interpreter: str
    pgd: Estimate
    adv2: Estimate
    at_home: Estimate
    cell: Seen


def _moved(rows: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row["source_class"] != row["target_class"]]


def across(made: Subject, judge: Subject) -> list[Across]:
    """One line for each interpreter; empty where nothing was judged so."""
    found = []
    for name in made.interpreters:
        rows = [
            row
            for part in made.of("main")
            for row in part.transfer
            if (row["judge_classifier"], row["interpreter"]) == (judge.name, name)
        ]
        pgd, adv2 = ([row for row in rows if row["attack"] == attack] for attack in ("pgd", "adv2"))
        if adv2:
            home = _on(frozenset(row["image_sha256"] for row in _moved(adv2)), made.rows("main", "adv2", name))
            found.append(
                Across(
                    made,
                    judge,
                    name,
                    *(success(_moved(pgd)), success(_moved(adv2)), success(home)),
                    seen(adv2, pgd),
                )
            )
    return found


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
