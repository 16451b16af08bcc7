"""The plan of a study: what is asked for, from a file or flags.

Photos are evenly spaced over the sorted paths, so that 12 photos are among 24. Of counts of which none divides the
other, audits share fewer photos; what compares them uses the shared ones alone, and says how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from underfire.audit.folder import DEFAULT_OUT
from underfire.core import UnderfireError
from underfire.core.hashing import digest_of
from underfire.images.photos import DEMO
from underfire.plan.settings import Settings, Triple, together
from underfire.study.results import FILE

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
