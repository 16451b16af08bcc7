"""Read a study's folder: its audits and their rows. No torch, no HTML."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from underfire.core import UnderfireError
from underfire.core.place import Place
from underfire.report.published import network_of
from underfire.store import Store, open_results

FILE = "study.yaml"
IMAGENET = "ImageNet"
"""What a classifier must have been trained on for published cells to stand beside its own."""
ORDER = ("grad", "cam", "mask", "rts")
"""The paper's interpreters, in its order."""
TRAINED = "rts-a"
"""The interpreter that was trained against the attack."""
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
        """Good judgements by the interpreters an attack was made for, with their verdicts."""
        begun = (self.out / "plan.yaml").is_file()
        return _good(self.out, open_results(self.out).rows() if begun else [])

    @cached_property
    def transfer(self) -> list[Row]:
        """Good judgements by others."""
        return _good(self.out, Store(self.out).rows("transfer"))


def _good(out: Path, rows: Iterable[Row]) -> list[Row]:
    return [{**row, "out": out} for row in rows if row["error"] is None]


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


def _on(photos: frozenset[str], rows: Iterable[Row]) -> list[Row]:
    return [row for row in rows if row["image_sha256"] in photos]
