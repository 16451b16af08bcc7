"""The plan of a study: what is asked for, from a file or from flags.

Photos are evenly spaced over the sorted paths, so 12 photos are among 24. If no count divides another, the audits share
fewer photos. What compares audits uses the shared photos alone, and says how many they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from underfire import core
from underfire.core import NotFoundError, UnderfireError
from underfire.core.bounded import read_yaml
from underfire.core.hashing import digest_of
from underfire.core.naming import DEMO
from underfire.images.found import DEFAULT_OUT
from underfire.plan.device import choose_device
from underfire.plan.file import merged
from underfire.plan.keys import as_before
from underfire.plan.settings import Settings
from underfire.study.counts import EXPLANATIONS, LATER, QUICK, QUICK_EXPLANATIONS, Counts
from underfire.study.results import FILE

OF_SUBJECT = (
    *("images", "classifier", "weights", "input_size", "resize", "mean", "std", "interpolation", "channels", "head"),
    "classes",
    *("interpreter", "options", "yardstick", "batch_size", "precision"),
)
"""The settings that a study has for each classifier; all others are the same for all of its audits."""

WORKERS = 2
"""Processes of a study on a CPU: two of one thread each do more than one of two threads (docs/speed.md)."""


class Subject(BaseModel):
    """A classifier under study, with its photos.

    Args:
        settings: its own settings in every audit, those of `OF_SUBJECT`; without an interpreter, the study takes the
            paper's four, as far as they fit.
        trained_on: its training data, as the page calls it. Published ImageNet numbers stand beside ImageNet's alone.
        photos: its own counts, in place of all of the study's.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    settings: Settings = Settings(images=DEMO)
    trained_on: str | None = None
    photos: Counts | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The interpreters that were asked for by name; empty where the study is to choose."""
        return self.settings.interpreter if "interpreter" in self.settings.model_fields_set else ()

    def with_absolute_paths(self) -> Subject:
        """Make the paths absolute, so that they hold from anywhere."""
        return self.model_copy(update={"settings": self.settings.with_absolute_paths()})

    def as_plan(self) -> dict[str, Any]:
        """Write the subject as a plan has it; None for what was not said."""
        found = as_before(self.settings.model_dump(mode="json", include=set(OF_SUBJECT)))
        if not self.named:
            found["interpreter"] = None
        if "precision" in self.settings.model_fields_set and found["precision"] is None:
            found["precision"] = "auto"  # it was said, and so it is in the name of the study's folder
        return found | self.model_dump(mode="json", exclude={"settings"})


def _fields(words: Mapping[str, Any]) -> dict[str, Any]:
    """Sort what a plan says of a classifier: settings stand beside `trained_on` and `photos` there."""
    own = {word: words[word] for word in ("trained_on", "photos") if word in words}
    settings = {word: value for word, value in words.items() if word not in own}
    for word in settings:
        if word not in OF_SUBJECT:
            raise core.unknown("setting of a study's classifier", word, (*OF_SUBJECT, "trained_on", "photos"))
    if settings.get("interpreter", ()) is None:
        del settings["interpreter"]
    return {"settings": Settings.parse({"images": DEMO} | settings), **own}


class Study(BaseModel):
    """What the user asks for: the classifiers, the counts of photos, and settings that all audits share.

    Args:
        workers: processes that have its audits side by side; 1: this one, one audit after the other.
        explanations: a study of how far each explanation can be trusted, in place of the paper's evaluation.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    classifiers: tuple[Subject, ...] = (Subject(),)
    photos: Counts = Counts()
    preset: str = "fast"
    eps: Annotated[int, Field(ge=1, le=255)] = 8
    max_shift: Annotated[float, Field(ge=0, le=112, allow_inf_nan=False)] = 2.0
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: Annotated[int, Field(ge=1, le=1000)] | None = None
    target: str = "random"
    threads: Annotated[int, Field(ge=1)] | None = None
    workers: Annotated[int, Field(ge=1)] = 1
    device: str = "auto"
    explanations: bool = False

    @field_validator("classifiers", mode="before")
    @classmethod
    def _subjects(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        return [_fields(one) if isinstance(one, Mapping) else one for one in value]

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Study:
        """Parse flags or a file.

        Raises:
            UnderfireError: the first mistake, in the user's words.
        """
        try:
            return cls(**values)
        except (ValidationError, TypeError) as e:
            first = e.errors()[0] if isinstance(e, ValidationError) else {"loc": (), "msg": str(e)}
            where = ".".join(str(word) for word in first["loc"]) or "the study"
            raise UnderfireError(f"'{where}' in the study's plan: {first['msg']}.") from e

    def as_plan(self) -> dict[str, Any]:
        """Write the study as a plan has it; None for what was not said."""
        subjects = [subject.as_plan() for subject in self.classifiers]
        known = self.model_dump(mode="json", exclude={"classifiers"})
        if not self.explanations:  # a plan of the paper's evaluation does not know the word
            del known["explanations"]
        return {"classifiers": subjects} | known


def read(path: Path) -> Study:
    """Read a study from its YAML plan, or from the study.yaml in an output folder.

    Raises:
        UnderfireError: it cannot be read, or is no plan of a study.
    """
    return Study.parse(_said(_content(path)))


def _content(path: Path) -> dict[str, Any]:
    try:
        content = read_yaml(path / FILE if path.is_dir() else path)
    except FileNotFoundError as e:
        raise NotFoundError(
            f"'{path}' is no study: give a PLAN.yaml that lists 'classifiers', or the folder of an earlier study."
        ) from e
    except (OSError, yaml.YAMLError) as e:
        raise UnderfireError(f"Cannot read the study's plan '{path}': {str(e).splitlines()[0]}.") from e
    if not isinstance(content, dict):
        raise UnderfireError(f"'{path}' is no plan of a study: it lists 'classifiers', each with its 'images'.")
    return content


def _said(content: Mapping[str, Any]) -> dict[str, Any]:
    """What the user said, without what a run has added."""
    return {word: value for word, value in content.items() if word != "resolved"}


def audits_in(out: Path) -> list[str]:
    """The folders of the audits that an earlier run planned in ``out``; empty where there was none."""
    resolved = _content(out).get("resolved") if (out / FILE).is_file() else None
    return [audit["folder"] for audit in resolved.get("parts", [])] if isinstance(resolved, dict) else []


def default_out(study: Study) -> Path:
    """Name a folder after the study as it was asked for, so that the same command goes on with it."""
    given = {word: value for word, value in study.as_plan().items() if word not in ("workers", "device")}
    if study.seeds is None:
        del given["seeds"]
    if study.target == "random":
        del given["target"]
    for counts in (given["photos"], *(subject["photos"] for subject in given["classifiers"])):
        for later, usual in LATER.items() if counts else ():
            if counts[later] in usual:
                del counts[later]
    return Path(DEFAULT_OUT) / f"study-{digest_of(given)[:8]}"


def home(plan: Path) -> Path | None:
    """Find the folder of an earlier study that a plan is, or lies in; None where it is a plan by itself."""
    folder = plan if plan.is_dir() else plan.parent
    return folder if (plan.is_dir() or plan.name == FILE) and audits_in(folder) else None


def asked(
    plan: Path | None, flags: Mapping[str, Any], quick: bool, explanations: bool = False, out: Path | None = None
) -> Study:
    """Put together the study that a plan file and the flags beside it mean; flags win.

    Args:
        plan: a file, or the folder of an earlier study; None: flags alone.
        flags: settings of the study, and of its classifier where there is one.
        quick: a first look, with its own counts of photos.
        explanations: how far each explanation can be trusted, in place of the paper's evaluation.
        out: its folder, if one was given.

    Raises:
        UnderfireError: a mistake in either, or no photos are named.
    """
    of_subject = {word: value for word, value in flags.items() if word in OF_SUBJECT}
    of_study = {word: value for word, value in flags.items() if word not in OF_SUBJECT}
    if plan is None and not quick and "images" not in of_subject:
        raise UnderfireError("Nothing to study: give --images DIR, a PLAN.yaml, or --quick for built-in photos.")
    said = _said(_content(plan)) if plan else {}
    Study.parse(said)  # the file's own mistakes come first
    subjects = said.get("classifiers") or [{}]
    if of_subject and len(subjects) > 1:
        raise UnderfireError(
            f"'{plan}' studies {len(subjects)} classifiers, each with its own '{next(iter(of_subject))}': say it in "
            "the plan, not beside it."
        )
    subjects = [merged(subject, of_subject) for subject in subjects]
    if explanations:
        of_study["explanations"] = True
    if (explanations or said.get("explanations")) and "photos" not in said:
        of_study["photos"] = EXPLANATIONS
    if quick:
        of_study["photos"] = QUICK_EXPLANATIONS if explanations or said.get("explanations") else QUICK
        subjects = [{k: v for k, v in subject.items() if k != "photos"} for subject in subjects]
    study = Study.parse(said | of_study | {"classifiers": subjects})
    return study if "workers" in said | of_study else study.model_copy(update={"workers": _workers(study, out)})


def _workers(study: Study, out: Path | None) -> int:
    """Choose how many processes a command has, where nobody says it: as many as the study that it goes on with had."""
    folder = out or default_out(study)
    if audits_in(folder):
        return read(folder).workers
    return min(WORKERS, os.cpu_count() or 1) if choose_device(study.device) == "cpu" else 1
