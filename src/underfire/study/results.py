"""Read a study's folder: its audits and their rows. No torch, no HTML."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from underfire.core import UnderfireError
from underfire.core.bounded import read_yaml
from underfire.core.place import Place, is_below
from underfire.metrics.summary import made
from underfire.report.published import network_of
from underfire.store import Store, open_results
from underfire.study.families import EXPLANATIONS

FILE = "study.yaml"
IMAGENET = "ImageNet"
"""What a classifier must have been trained on for published cells to stand beside its own."""
INTERPRETERS = ("grad", "cam", "mask", "rts")
"""The paper's interpreters, in its order."""
TRAINED = "rts-a"
"""The interpreter that was trained against the attack."""
PLAIN, BENT = ("pgd", "stadv"), ("stadv", "adv2-stadv")
ATTACKS = (*PLAIN, "adv2", "adv2-stadv")
Row = dict[str, Any]
_FORGED = ("image_sha256", "attack", "against", "eps", "target_map", "seed", "target_class")
JUDGED = (*_FORGED, "judge_classifier", "interpreter")
"""Columns that tell one judgement from all others of an audit."""


@dataclass(frozen=True)
class AuditResults:
    """What one audit of the study found.

    Args:
        experiment: main, bends, random, budget or trained.
        out: its folder.
        eps: budget in levels.
        interpreters: the judges.
    """

    experiment: str
    out: Path
    eps: int
    interpreters: tuple[str, ...]

    @cached_property
    def rows(self) -> list[Row]:
        """Good judgements by the interpreters that an attack was made for, with their verdicts."""
        return _good(self.out, open_results(self.out).rows() if (self.out / "plan.yaml").is_file() else [])

    @cached_property
    def lost(self) -> list[Row]:
        """Pictures that were made and have no map: they are in the rates, as not forged."""
        rows = open_results(self.out).rows() if (self.out / "plan.yaml").is_file() else []
        return [{**row, "out": self.out} for row in rows if made(row)]

    @cached_property
    def transfer(self) -> list[Row]:
        """Good judgements by others; of one that an earlier version made too, the one that lies last."""
        found = {tuple(row[name] for name in JUDGED): row for row in Store(self.out).rows("transfer")}
        return _good(self.out, found.values())


def _good(out: Path, rows: Iterable[Row]) -> list[Row]:
    """Rows with a result, each with its audit's folder as ``out``."""
    return [{**row, "out": out} for row in rows if row["error"] is None]


def on_photos(photos: frozenset[str], rows: Iterable[Row]) -> list[Row]:
    """Keep the rows of some photos, given by their digests."""
    return [row for row in rows if row["image_sha256"] in photos]


@dataclass(frozen=True)
class SubjectResults:
    """What the study found for one classifier.

    Args:
        name: the classifier's.
        trained_on: in words.
        audits: those with good rows.
    """

    name: str
    trained_on: str
    audits: tuple[AuditResults, ...]

    @property
    def imagenet(self) -> bool:
        """Whether published ImageNet numbers may stand beside its own."""
        return self.trained_on == IMAGENET

    @property
    def label(self) -> str:
        """Its name, and what it was trained on where that is not ImageNet."""
        return self.name if self.imagenet else f"{self.name} (trained on {self.trained_on})"

    @property
    def in_paper(self) -> bool:
        """Whether it is one of the paper's two networks."""
        return network_of(self.name) is not None

    @cached_property
    def interpreters(self) -> tuple[str, ...]:
        """Those of its audits in the paper's order, without RTSᴬ where it is only there to be set beside RTS."""
        audits = (audit for audit in self.audits if audit.experiment != "trained")
        found = dict.fromkeys(name for audit in audits for name in audit.interpreters)
        usual = (*INTERPRETERS, *(name for name in EXPLANATIONS if name not in INTERPRETERS))
        return tuple(sorted(found, key=lambda name: (usual.index(name) if name in usual else len(usual), name)))

    @property
    def plain(self) -> list[str]:
        """The interpreters that nobody trained against the attack: claims and goals are about these."""
        return [name for name in self.interpreters if name != TRAINED]

    def of(self, experiment: str) -> list[AuditResults]:
        """Its audits of one experiment."""
        return [audit for audit in self.audits if audit.experiment == experiment]

    def rows(self, experiment: str, attack: str, interpreter: str) -> list[Row]:
        """Good rows of an attack under the interpreter it was made for, or that judges it."""
        key = (attack, interpreter)
        return [r for a in self.of(experiment) for r in a.rows if (r["attack"], r["interpreter"]) == key]

    def tried(self, experiment: str, attack: str, interpreter: str) -> list[Row]:
        """The same with the rows of pictures that have no map."""
        lost = [
            r for a in self.of(experiment) for r in a.lost if (r["attack"], r["interpreter"]) == (attack, interpreter)
        ]
        return self.rows(experiment, attack, interpreter) + lost

    @cached_property
    def shared(self) -> frozenset[str]:
        """Digests of the photos with results in every main audit: what transfer compares."""
        of = [{row["image_sha256"] for row in audit.rows} for audit in self.of("main")]
        return frozenset(set.intersection(*of)) if of else frozenset()


@dataclass(frozen=True)
class StudyResults:
    """A study as read from its folder.

    Args:
        out: the folder.
        plan: its study.yaml.
        subjects: its classifiers, those that have results.
        failed: (folder of an audit, reason) -> number of judgements without a result.
        unfinished: audits that lack results: folder, photos or units that are done, how many there are, and of what.
    """

    out: Path
    plan: Mapping[str, Any]
    subjects: tuple[SubjectResults, ...]
    failed: Mapping[tuple[str, str], int]
    unfinished: Sequence[tuple[str, int, int, str]]

    @property
    def resolved(self) -> Mapping[str, Any]:
        """What the driver noted."""
        found: Mapping[str, Any] = self.plan["resolved"]
        return found

    @cached_property
    def _provenance(self) -> list[dict[str, str]]:
        made = [one for audit in self.resolved["parts"] for one in Store(self.out / audit["folder"]).provenance()]
        return sorted(made, key=lambda one: one.get("written", ""))

    @property
    def seconds(self) -> float:
        """What workers took for all that is finished, whenever and wherever that was."""
        return sum(float(one.get("seconds", 0)) for one in self._provenance)

    def made_with(self, what: str) -> tuple[str, ...]:
        """Every 'hardware' or 'underfire_version' that a finished unit tells, in the order of their dates."""
        return tuple(dict.fromkeys(one[what] for one in self._provenance if what in one))


def read(out: Place) -> dict[str, Any]:
    """Read the study.yaml that a run of a study keeps in its folder.

    Raises:
        UnderfireError: no such folder.
    """
    try:
        plan: dict[str, Any] = read_yaml(out / FILE)
        _ = plan["resolved"]["trained_on"]
        folders = [str(audit["folder"]) for audit in plan["resolved"]["parts"]]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as e:
        raise UnderfireError(f"'{out}' is no folder of an underfire study: it has no {FILE} that a study wrote.") from e
    for folder in folders:
        if not is_below(folder):
            raise UnderfireError(f"'{out / FILE}' names '{folder}', which does not lie in its folder.")
    return plan


def audit_folders(out: Place) -> list[str]:
    """List the folders of a study's audits, below its own."""
    return [str(audit["folder"]) for audit in read(out)["resolved"]["parts"]]


def load(out: Path) -> StudyResults:
    """Read a study's folder, finished or not.

    Raises:
        UnderfireError: no such folder, or nothing in it yet.
    """
    plan = read(out)
    resolved = plan["resolved"]
    subjects = tuple(_subjects(out, resolved))
    if not subjects:
        raise UnderfireError(f"'{out}' has no finished records yet: let the study finish a unit, then ask again.")
    failed: Counter[tuple[str, str]] = Counter()
    unfinished = []
    stopped = {name for name, _ in resolved.get("failed", [])}
    for audit in resolved["parts"]:
        rows = {stage: Store(out / audit["folder"]).rows(stage) for stage in ("records", "transfer")}
        failed.update((audit["folder"], row["error"]) for row in itertools.chain(*rows.values()) if row["error"])
        done = _done(rows["records"], set(audit["interpreter"]))
        if audit["folder"] in stopped:
            continue
        units = _units(out / audit["folder"])
        if done < audit["photos"]:
            unfinished.append((audit["folder"], done, audit["photos"], "photo"))
        elif units and units[0] < units[1]:
            unfinished.append((audit["folder"], *units, "unit"))
    return StudyResults(out, plan, subjects, failed, unfinished)


def _units(out: Path) -> tuple[int, int] | None:
    return open_results(out).units if (out / "plan.yaml").is_file() else None


def _subjects(out: Path, resolved: Mapping[str, Any]) -> Iterator[SubjectResults]:
    """The classifiers with results that are not only there to be set beside others."""
    for i, trained_on in enumerate(resolved["trained_on"]):
        audits = (
            AuditResults(one["experiment"], out / one["folder"], one["eps"], tuple(one["interpreter"]))
            for one in resolved["parts"]
            if one["subject"] == i
        )
        there = tuple(audit for audit in audits if audit.rows)
        if any(audit.experiment != "trained" for audit in there):
            yield SubjectResults(there[0].rows[0]["classifier"], trained_on, there)


def _done(rows: Iterable[Row], judges: set[str]) -> int:
    """Photos that all judges have seen, with a result or without."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        seen.setdefault(row["image"], set()).add(row["interpreter"])
    return sum(found >= judges for found in seen.values())
