"""The paper's evaluation as a set of audits: what is asked for, and the audits that it means. Nothing is run here.

Photos are evenly spaced over the sorted paths, so that 12 photos are among 24. Of counts of which none divides the
other, audits share fewer photos; what compares them uses the shared ones alone, and says how many.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from underfire import core, registry, words
from underfire.audit.folder import DEFAULT_OUT
from underfire.core import Classifier, ClassifierOptions, UnderfireError
from underfire.core.hashing import digest_of
from underfire.core.place import slug
from underfire.images.photos import DEMO
from underfire.plan.device import choose_device
from underfire.plan.settings import Settings, Triple, together
from underfire.study_numbers import ATTACKS, FILE, IMAGENET, ORDER, TRAINED

INTERPRETERS = ORDER
"""Those that are there and fit the classifier, where none are named."""
BUDGETS = (1, 2, 4)
"""ε of the audits beside the main one's."""
BUDGET_INTERPRETERS = ("cam", "rts")
"""MASK costs too much for four budgets, and GRAD's untouched scale tells little (see its page)."""

Count = Annotated[int, Field(ge=0, le=100_000)] | dict[str, Annotated[int, Field(ge=0, le=100_000)]]


class Counts(BaseModel):
    """Photos a cell: one number, or one for each interpreter with the others' as 'default'; 0 leaves a cell out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    main: Count = Field(default_factory=lambda: {"default": 24, "mask": 12})
    bends: Count = Field(default_factory=lambda: {"default": 8, "mask": 2})
    random: Count = Field(default_factory=lambda: {"default": 8, "mask": 4})
    budget: Count = 12


QUICK = Counts(
    main={"default": 2, "mask": 1}, bends={"default": 2, "mask": 0}, random={"default": 2, "mask": 1}, budget=2
)
"""A first look."""


class Subject(BaseModel):
    """One classifier under study, and its photos; all but ``trained_on`` and ``photos`` as in an audit's settings.

    ``trained_on`` is what the page calls its training data: published ImageNet cells stand beside ImageNet's alone.
    ``photos`` are its own counts in place of the study's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    images: str = DEMO
    classifier: str = "efficientnet-lite0"
    weights: str | None = None
    input_size: int | None = None
    resize: int | None = None
    mean: Triple | None = None
    std: Triple | None = None
    classes: str | None = None
    batch_size: int | None = None
    precision: str | None = None
    trained_on: str | None = None
    interpreter: tuple[str, ...] | None = None
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    photos: Counts | None = None

    def settings(self) -> dict[str, Any]:
        """Those of an audit of it, but for what is asked of each audit; paths so that they hold from anywhere."""
        own = self.model_dump(include=set(Settings.model_fields) - {"interpreter"}, exclude_none=True)
        return Settings.parse(own).placed().model_dump(exclude_unset=True)


class Study(BaseModel):
    """What the user asks for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    classifiers: tuple[Subject, ...] = (Subject(),)
    photos: Counts = Counts()
    preset: str = "fast"
    eps: int = Field(8, ge=1, le=255)
    max_shift: float = 2.0
    seed: Annotated[int, Field(ge=0)] = 0
    threads: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    device: str = "auto"
    resolved: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Study:
        """A study from flags or a file; the first mistake is told in the user's words."""
        try:
            return cls(**values)
        except (ValidationError, TypeError) as e:
            first = e.errors()[0] if isinstance(e, ValidationError) else {"loc": (), "msg": str(e)}
            where = ".".join(str(part) for part in first["loc"]) or "the study"
            raise UnderfireError(f"'{where}' in the study's plan: {first['msg']}.") from e


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


def read(path: Path) -> Study:
    """A study from its YAML plan, or from the study.yaml in an output folder."""
    try:
        content = yaml.safe_load((path / FILE if path.is_dir() else path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as e:
        raise UnderfireError(f"Cannot read the study's plan '{path}': {str(e).splitlines()[0]}.") from e
    if not isinstance(content, dict):
        raise UnderfireError(f"'{path}' is no plan of a study: it lists 'classifiers', each with its 'images'.")
    return Study.parse(content)


def default_out(study: Study) -> Path:
    """A folder that the study as asked for names."""
    given = study.model_dump(mode="json", exclude={"workers", "device", "resolved"})
    return Path(DEFAULT_OUT) / f"study-{digest_of(given)[:8]}"


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
        return f"other data ({words.count(len(told), 'class', 'classes')})"
    return said


def home(plan: Path) -> Path | None:
    """The folder of an earlier study that a plan is, or lies in; None where it is a plan by itself."""
    folder = plan if plan.is_dir() else plan.parent
    known = (plan.is_dir() or plan.name == FILE) and (folder / FILE).is_file()
    return folder if known and "parts" in read(folder).resolved else None


def asked(plan: Path | None, flags: Mapping[str, Any], quick: bool) -> Study:
    """The study that a plan file and the flags beside it mean.

    Args:
        plan: a file, or the folder of an earlier study; None: flags alone.
        flags: settings of the study, and of its classifier where there is one.
        quick: a first look, with its own counts of photos.
    """
    of_subject = {k: v for k, v in flags.items() if k in Subject.model_fields}
    of_study = {k: v for k, v in flags.items() if k not in of_subject}
    if plan is None and not quick and "images" not in of_subject:
        raise UnderfireError("Nothing to study: give --images DIR, a PLAN.yaml, or --quick for built-in photos.")
    there = read(plan).model_dump(exclude_unset=True, exclude={"resolved"}) if plan else {}
    subjects = there.get("classifiers") or [{}]
    if of_subject and len(subjects) > 1:
        raise UnderfireError(
            f"'{plan}' studies {len(subjects)} classifiers, each with its own '{next(iter(of_subject))}': say it in "
            "the plan, not beside it."
        )
    subjects = [together(subject, of_subject) for subject in subjects]
    if quick:
        of_study["photos"] = QUICK
        subjects = [{k: v for k, v in subject.items() if k != "photos"} for subject in subjects]
    return Study.parse(there | of_study | {"classifiers": subjects})
