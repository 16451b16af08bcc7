"""Rows: the only place that puts a Record or a Scale together."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import singledispatch
from typing import Any

from underfire.core import Cell, ForgeUnit, JudgeUnit, Photo, Record, Scale, ScaleUnit, Unit
from underfire.trial import columns
from underfire.trial.columns import Judge
from underfire.trial.files import Names, cell_name, made_name, names_of
from underfire.trial.forged import Forged
from underfire.trial.judge import Judged, Judgement
from underfire.trial.load import Loaded

# -- forged and judged ------------------------------------------------------------------------------------------------


def records(judge: Judge, cell: Cell, loaded: Loaded, made: Forged, judged: Judged, seconds: float) -> list[Record]:
    """Put together the rows of an attack under a judge: one for each photo that was given, in order.

    Args:
        judge: who judged.
        cell: the attack.
        loaded: the photos.
        made: the adversarial images that the judge was shown; its errors say why other photos have none.
        judged: what the victim sees of them.
        seconds: wall time of one image.
    """
    forged = made.without(judged.clean.errors)
    clean = forged.clean
    good = {row: _record(judge, cell, forged, n, judged.judgements[n], seconds) for n, row in enumerate(clean.rows)}
    shown = {row: n for n, row in enumerate(made.clean.rows)}
    for row, known in judged.lost.items():
        good[row] = _lost(judge, cell, made, shown[row], known, clean.errors[row])
    return [
        good[row] if row in good else _failed(judge, cell, photo, clean.errors[row])
        for row, photo in enumerate(loaded.given, loaded.first)
    ]


def _record(judge: Judge, cell: Cell, forged: Forged, n: int, seen: Judgement, seconds: float) -> Record:
    """The row of the image ``n``."""
    clean, interpreter = forged.clean, judge.interpreter
    names = names_of(clean)[n]
    files = {
        "clean": names.clean,
        "adversarial": names.adversarial(cell_name(cell)),
        "clean_map": names.clean_map(interpreter),
        "wanted_map": names.wanted_map(interpreter, judge.job),
        "adversarial_map": names.adversarial_map(cell_name(cell), interpreter),
    }
    return Record(
        **columns.identity(judge, cell, clean.photos[n]),
        **columns.source(clean, n),
        **columns.goal(clean, n, interpreter),
        **columns.forged(forged, n),
        **dataclasses.asdict(seen),
        **columns.alarms(forged, n) | columns.file(forged, n),
        **columns.stored(judge, files),
        seconds=seconds,
    )


def _lost(judge: Judge, cell: Cell, made: Forged, n: int, known: Mapping[str, Any], why: str) -> Record:
    """The row of the image ``n``, which was made and has no map."""
    names, clean = names_of(made.clean)[n], made.clean
    files = {"clean": names.clean, "adversarial": names.adversarial(cell_name(cell))}
    return Record(
        **columns.identity(judge, cell, clean.photos[n]),
        **columns.source(clean, n),
        **columns.goal(clean, n, judge.interpreter),
        **columns.forged(made, n),
        **known,
        **columns.alarms(made, n) | columns.file(made, n),
        **columns.stored(judge, files),
        error=why,
    )


def _failed(judge: Judge, cell: Cell, photo: Photo, why: str) -> Record:
    return Record(**columns.identity(judge, cell, photo), error=why)


# -- judged again -----------------------------------------------------------------------------------------------------


def records_again(judge: Judge, made: Sequence[Record], judged: Judged, names: Sequence[Names]) -> list[Record]:
    """Put together the rows of PNGs under another judge than they were made for.

    Args:
        judge: who judged them.
        made: (M,) their rows so far.
        judged: what the new judge sees of them, by place in ``made``.
        names: (M,) of their photos' files in the new unit.
    """
    good = {row: _again(judge, made[row], judged, n, names[row]) for n, row in enumerate(judged.clean.rows)}
    return [good[i] if i in good else _failed_again(judge, r, judged.clean.errors[i]) for i, r in enumerate(made)]


def _again(judge: Judge, made: Record, judged: Judged, n: int, names: Names) -> Record:
    """The row of the image ``n``."""
    benign = names.clean_map(judge.interpreter)
    adversarial = names.adversarial_map(made_name(made), judge.interpreter)
    files = {"clean_map": benign, "wanted_map": benign, "adversarial_map": adversarial}
    new = columns.source(judged.clean, n) | dataclasses.asdict(judged.judgements[n]) | columns.stored(judge, files)
    return dataclasses.replace(made, judge_classifier=judge.classifier, interpreter=judge.interpreter, **new)


def _failed_again(judge: Judge, made: Record, why: str) -> Record:
    """The row of a PNG that could not be judged: ``why``, and no number."""
    kept = ("image", "image_sha256", "classifier", "against", "attack", "preset", "defense", "seed", "eps")
    same = {column: getattr(made, column) for column in (*kept, "target_map", "at", "door", "through")}
    return Record(**same, judge_classifier=judge.classifier, interpreter=judge.interpreter, error=why)


# -- measured, and failed ---------------------------------------------------------------------------------------------


def scales(
    loaded: Loaded,
    interpreter: str,
    known: Mapping[int, tuple[float | None, list[float | None], list[float | None]]],
    errors: Mapping[int, str],
) -> list[Scale]:
    """Put together the rows of the yardstick: for each photo its numbers, or why there are none, by place in the unit.

    Args:
        loaded: the photos.
        interpreter: who explained them.
        known: `jpeg_l1`, `copies` and `impostors` of a photo.
        errors: why another has none.
    """
    nothing = (None, None, None)
    return [
        Scale(photo.path, photo.sha256, interpreter, l1, errors.get(row), copies, impostors)
        for row, photo in enumerate(loaded.given, loaded.first)
        for l1, copies, impostors in [known.get(row, nothing)]
    ]


@singledispatch
def failed_rows(unit: Unit, classifier: str, why: str) -> list[Any]:
    """Put together the rows of a unit that could not be worked on: ``why`` in each, and no number.

    Args:
        unit: what failed.
        classifier: the built classifier's own name.
        why: one sentence.
    """
    raise TypeError(f"{type(unit).__name__} is no kind of unit.")


@failed_rows.register
def _(unit: ScaleUnit, classifier: str, why: str) -> list[Any]:
    return [Scale(p.path, p.sha256, name, None, why) for name in unit.job.interpreters for p in unit.photos]


@failed_rows.register
def _(unit: ForgeUnit, classifier: str, why: str) -> list[Any]:
    return [
        _failed(Judge(unit.job, unit.name, classifier, name), cell, photo, f"'{photo.path}': {why}")
        for cell in unit.job.cells
        for name in (unit.job.interpreters if cell.against is None else [cell.against])
        for photo in unit.photos
    ]


@failed_rows.register
def _(unit: JudgeUnit, classifier: str, why: str) -> list[Any]:
    judges = [Judge(unit.job, unit.name, classifier, name) for name in unit.job.interpreters]
    return [_failed_again(judge, r, f"'{r.image}': {why}") for r in unit.made for judge in judges]
