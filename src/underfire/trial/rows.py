"""Rows: the only place that puts a Record together."""

from __future__ import annotations

import io
from functools import singledispatch
from typing import Any

import numpy as np
from torch import Tensor

from underfire.core import Cell, ForgeUnit, Job, JudgeUnit, Photo, Record, Scale, ScaleUnit, Unit


@singledispatch
def failed_rows(unit: Unit, classifier: str, why: str) -> list[Any]:
    """The rows of a unit that could not be worked on: ``why`` in each, and no number.

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
        Record(**identity(unit.job, classifier, cell, name, photo), error=f"'{photo.path}': {why}")
        for cell in unit.job.cells
        for name in (unit.job.interpreters if cell.against is None else [cell.against])
        for photo in unit.photos
    ]


@failed_rows.register
def _(unit: JudgeUnit, classifier: str, why: str) -> list[Any]:
    names = unit.job.interpreters
    return [failed(record, classifier, name, f"'{record.image}': {why}") for record in unit.made for name in names]


def identity(job: Job, classifier: str, cell: Cell, judge: str, photo: Photo) -> dict[str, Any]:
    """The columns that say which judgement a row is."""
    return {
        "image": photo.path,
        "image_sha256": photo.sha256,
        "classifier": classifier,
        "against": cell.against,
        "attack": cell.attack.name,
        "preset": job.preset,
        "judge_classifier": classifier,
        "interpreter": judge,
        "defense": job.defense,
        "target_map": job.target_map.word,
        "seed": job.seed,
        "eps": cell.attack.eps,
    }


def _cell_name(cell: Cell) -> str:
    return cell.attack.name if cell.against is None else f"{cell.attack.name}-{cell.against}"


def npy(m: Tensor) -> bytes:
    """A map (h, w) as a float16 .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, m.numpy().astype(np.float16))
    return buffer.getvalue()


def failed(record: Record, classifier: str, name: str, why: str) -> Record:
    """The row of a PNG that could not be judged: ``why``, and no number."""
    kept = ("image", "image_sha256", "classifier", "against", "attack", "preset", "defense", "seed", "eps")
    same = {column: getattr(record, column) for column in (*kept, "target_map")}
    return Record(**same, judge_classifier=classifier, interpreter=name, error=why)
