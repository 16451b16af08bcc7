"""The agenda: the audits that a study means, in order, and what was left out. Nothing is run here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from underfire import core, registry
from underfire.core import Classifier, ClassifierOptions, UnderfireError
from underfire.core.place import slug
from underfire.plan.device import choose_device
from underfire.plan.settings import Settings
from underfire.report import text
from underfire.study.plan import Counts, Study, Subject
from underfire.study.results import ATTACKS, IMAGENET, ORDER, TRAINED

INTERPRETERS = ORDER
"""Those that are there and fit the classifier, where none are named."""
BUDGETS = (1, 2, 4)
"""ε of the audits beside the main one's."""
BUDGET_INTERPRETERS = ("cam", "rts")
"""MASK costs too much for four budgets, and GRAD's untouched scale tells little (see its page)."""


@dataclass(frozen=True)
class Part:
    """One audit of a study.

    Args:
        experiment: main, bends, random, budget or trained.
        folder: below the study's.
        settings: the audit's.
        subject: its place among the classifiers.
    """

    experiment: str
    folder: str
    settings: Settings
    subject: int


class Agenda:
    """A study filled in: its audits, in order, and what was left out.

    Args:
        study: what was asked for.

    Raises:
        UnderfireError: an interpreter that was named does not fit its classifier, and other mistakes of a plan.
    """

    def __init__(self, study: Study) -> None:
        placed = [
            subject.model_copy(update={k: v for k, v in subject.settings().items() if k in subject.model_fields_set})
            for subject in study.classifiers
        ]
        self.study = study = study.model_copy(update={"classifiers": tuple(placed)})
        names = [subject.classifier for subject in study.classifiers]
        if len(set(names)) < len(names):
            raise UnderfireError(f"A study takes each classifier once, not {', '.join(names)}: run another study.")
        self.folders = _folders(names)
        self.device = choose_device(study.device)
        self.left_out: list[tuple[str, str, str]] = []
        self.map_passes: dict[tuple[int, str], float] = {}
        self.trained_on: list[str] = []
        self.interpreters: list[tuple[str, ...]] = []
        self.trained: set[int] = set()
        for i, subject in enumerate(study.classifiers):
            options = Settings.parse(subject.settings()).classifier_options
            classifier = registry.build_classifier(subject.classifier, options, self.device)
            self.trained_on.append(_trained_on(subject, classifier))
            self.interpreters.append(self._interpreters(i, classifier))
            if self._has_trained(i, classifier):
                self.trained.add(i)
        self.parts = [part for i in range(len(names)) for part in self._parts(i)]

    def _interpreters(self, i: int, classifier: Classifier) -> tuple[str, ...]:
        """Those named; else the paper's that are there and fit this classifier."""
        subject = self.study.classifiers[i]
        named = subject.interpreter or INTERPRETERS
        known = (*named, *ATTACKS, *([TRAINED] if "rts" in named else []))
        for part in subject.options:
            if part not in known:
                raise core.unknown("interpreter or attack in this study", part, known)
        for name in named:
            try:
                self._build(i, name, classifier)
            except UnderfireError as e:
                if subject.interpreter:
                    raise
                self.left_out.append((subject.classifier, name, str(e)))
        found = tuple(name for subject_, name in self.map_passes if subject_ == i)
        if not found:
            raise UnderfireError(f"No interpreter fits '{subject.classifier}': {self.left_out[-1][2]}")
        return found

    def _has_trained(self, i: int, classifier: Classifier) -> bool:
        """Whether there is RTSᴬ to set beside RTS, unless it is asked for by name."""
        if "rts" not in self.interpreters[i] or TRAINED in self.interpreters[i]:
            return False
        try:
            self._build(i, TRAINED, classifier)
        except UnderfireError:
            if TRAINED in self.study.classifiers[i].options:
                raise
            return False
        return True

    def _build(self, i: int, name: str, classifier: Classifier) -> None:
        built = registry.build_interpreter(name, classifier, self.study.classifiers[i].options.get(name, {}))
        self.map_passes[i, name] = built.map_passes

    def _parts(self, i: int) -> Iterator[Part]:
        counts = self.study.classifiers[i].photos or self.study.photos
        known = {"default", *INTERPRETERS, *itertools.chain(*self.interpreters)}
        for experiment in Counts.model_fields:
            count = getattr(counts, experiment)
            for name in count if isinstance(count, dict) else ():
                if name not in known:
                    raise core.unknown(f"interpreter in the study's counts of photos for '{experiment}'", name, known)
        mine = self.interpreters[i]
        for n, group in _groups(mine, counts.main):
            yield self._part(i, "main", f"main-{n}", group, n)
        for n, group in _groups(mine, counts.bends):
            yield self._part(i, "bends", f"bends-{n}", group, n, attack=("stadv", "adv2-stadv"))
        for n, group in _groups(mine, counts.random):
            yield self._part(i, "random", f"random-{n}", group, n, target_map="class:random")
        for n, group in _groups([name for name in mine if name in BUDGET_INTERPRETERS], counts.budget):
            for eps in BUDGETS:
                if eps < self.study.eps:
                    yield self._part(i, "budget", f"eps{eps}-{n}", group, n, eps=eps, attack=("adv2",))
        for n, group in _groups(mine, counts.main):
            if "rts" in group and i in self.trained:
                yield self._part(i, "trained", f"trained-{n}", (TRAINED,), n, attack=("adv2",))

    def _part(self, i: int, experiment: str, name: str, interpreters: tuple[str, ...], n: int, **more: Any) -> Part:
        study, subject = self.study, self.study.classifiers[i]
        own = subject.settings()
        same = {k: getattr(study, k) for k in ("preset", "eps", "max_shift", "seed", "threads", "workers", "device")}
        what: dict[str, Any] = {"interpreter": interpreters, "limit": n, "attack": ("pgd", "adv2")} | more
        options = {k: v for k, v in subject.options.items() if k in (*interpreters, *what["attack"])}
        settings = Settings.parse(own | same | what | {"options": options})
        return Part(experiment, f"{self.folders[i]}/{name}", settings, i)


def _groups(among: Sequence[str], count: int | dict[str, int]) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Interpreters that get as many photos share an audit: PGD is forged once for all of them."""
    groups: dict[int, list[str]] = {}
    for name in among:
        n: int = count.get(name, count.get("default", 0)) if isinstance(count, dict) else count
        groups.setdefault(n, []).append(name)
    for n in sorted(groups, reverse=True):
        if n:
            yield n, tuple(groups[n])


def _folders(names: Sequence[str]) -> list[str]:
    """A folder's name for each classifier, none twice."""
    found: list[str] = []
    for name in names:
        plain = slug(name.translate({ord(c): "-" for c in ":./"}))
        found.append(plain if plain not in found else f"{plain}-{len(found) + 1}")
    return found


def _trained_on(subject: Subject, classifier: Classifier) -> str:
    """What a classifier was trained on, in words; it is not ImageNet where the classes are not ImageNet's 1,000."""
    from underfire.classifiers.inputs import class_names  # noqa: PLC0415 (torch is slow to import)

    told, known = classifier.classes, class_names(1000, {}, ClassifierOptions())
    said = subject.trained_on or (IMAGENET if subject.weights is None else "other data")
    if said == IMAGENET and told.ids != known.ids and told.names != known.names:
        return f"other data ({text.count(len(told), 'class', 'classes')})"
    return said
