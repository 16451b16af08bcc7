"""The columns of a Record, group by group: which judgement it is, what was wanted, what was done, where files lie."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from underfire.core import Cell, Job, Photo
from underfire.trial.batch import Batch
from underfire.trial.forged import Forged


@dataclass(frozen=True)
class Judge:
    """Who judges, and for which unit.

    Args:
        job: what the units of the audit share.
        unit: the unit's name.
        classifier: its built classifier's own name.
        interpreter: the interpreter's name.
        door: the classifier's front door; None where nobody asked.
    """

    job: Job
    unit: str
    classifier: str
    interpreter: str
    door: str | None = None


def identity(judge: Judge, cell: Cell, photo: Photo) -> dict[str, Any]:
    """Say which judgement a row is."""
    job = judge.job
    return {
        "image": photo.path,
        "image_sha256": photo.sha256,
        "classifier": judge.classifier,
        "against": cell.against,
        "attack": cell.attack.name,
        "preset": job.preset,
        "judge_classifier": judge.classifier,
        "interpreter": judge.interpreter,
        "defense": job.defense,
        "target_map": job.target_map.word,
        "seed": job.seed,
        "target": str(job.target),
        "eps": cell.attack.eps,
        "at": job.at,
        "door": judge.door,
        "through": job.through or None,
    }


def source(clean: Batch, n: int) -> dict[str, Any]:
    """Say what the judge sees of the clean picture."""
    source = int(clean.source[n])
    return {
        "source_class": source,
        "source_class_name": clean.classes.names[source],
        "clean_confidence": float(clean.confidence[n]),
        "head": clean.head,
    }


def goal(clean: Batch, n: int, interpreter: str) -> dict[str, Any]:
    """Say what is wanted of the picture."""
    target = int(clean.target[n])
    return {
        "target_class": target,
        "target_class_name": clean.classes.names[target],
        "target_map_of": None if clean.reference is None else clean.reference.of[n],
        "goal_passes": float(clean.passes[n] + clean.goals[interpreter].passes[n]),
    }


def forged(forged: Forged, n: int) -> dict[str, Any]:
    """Say what the search did."""
    return {
        "linf_levels": int(forged.linf[n]),
        "steps": int(forged.steps[n]),
        "passes": float(forged.passes[n]),
        **{column: values[n].item() for column, values in forged.extras.items()},
        **(forged.notes[n] if forged.notes else {}),
    }


def file(forged: Forged, n: int) -> dict[str, Any]:
    """Say what is known of the forged file; nothing where the input was forged."""
    if not forged.facts:
        return {}
    facts = forged.facts[n]
    return {
        **{"saved_as": facts.saved_as, "saved_instead": facts.instead or None},
        "file_sha256": facts.sha256,
        "file_width": facts.width,
        "file_height": facts.height,
        "decoded_linf": facts.linf,
        "decoded_mean": facts.mean,
        "seen": [float(side) for side in facts.seen],
    }


def alarms(forged: Forged, n: int) -> dict[str, Any]:
    """Say what the defense says of both pictures; nothing without one."""
    before, after = forged.clean.alarms, forged.alarms
    if before is None or after is None:
        return {}
    return {
        "clean_alarm_score": before.score(n),
        "clean_alarm": bool(before.raised[n]),
        "alarm_score": after.score(n),
        "alarm": bool(after.raised[n]),
        "alarm_threshold": after.threshold,
        "alarm_passes": float(after.passes[n]),
        "alarm_expected": after.expected,
        "alarm_bound": after.bound,
    }


def stored(judge: Judge, files: Mapping[str, str]) -> dict[str, Any]:
    """Say where files lie, relative to the output folder."""
    return {column: f"images/{judge.unit}/{name}" for column, name in files.items()}
