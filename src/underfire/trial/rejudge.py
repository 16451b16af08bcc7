"""Judging again: adversarial PNGs that exist, shown to another interpreter or another classifier. Nothing is forged.

The clean PNG is shown to the new judge too: its map there, for the judge's own prediction, is what the adversarial map
is measured against, and the class that was wanted stays the one that the attack was made for.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from underfire.core import Classifier, Interpreter, JudgeUnit, Photo, Record, UnitResult
from underfire.core.place import slug
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.interpreters.checked import explain
from underfire.trial.goal import Levels
from underfire.trial.judge import judge
from underfire.trial.rows import failed, npy
from underfire.trial.system import System

if TYPE_CHECKING:
    from torch import Tensor


def rejudge(unit: JudgeUnit, system: System) -> UnitResult:
    """Judge the pictures of ``unit.made`` again."""
    folder = Folder(unit.job.source)
    shown = {name: _shown(folder.bytes(name), system.classifier) for name in _names(unit.made)}
    start = time.perf_counter()
    records: list[Record] = []
    files: dict[str, bytes] = {}
    for interpreter in system.interpreters.values():
        rows, more = _judged(unit, system, interpreter, shown)
        records += rows
        files |= more
    each = (time.perf_counter() - start) / max(1, len(records))
    return UnitResult([dataclasses.replace(r, seconds=each) for r in records], files)


def _names(made: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(name for r in made for name in (r.clean, r.adversarial) if name is not None))


def _shown(png: bytes, classifier: Classifier) -> Levels:
    """A PNG as this classifier sees it: resized where its input is of another size, never cropped again."""
    size = classifier.preprocess.input_size
    return pixels.load(png, "PNG", dataclasses.replace(classifier.preprocess, resize=size))


@torch.no_grad()
def _judged(
    unit: JudgeUnit, system: System, interpreter: Interpreter, shown: Mapping[str, Levels]
) -> tuple[list[Record], dict[str, bytes]]:
    """Records and maps of every PNG of the unit under one interpreter."""
    name, number = interpreter.name, {photo: n for n, photo in enumerate(unit.photos)}
    # Each record's photo; its lanes may have a clean PNG each.
    at = [number[Photo(r.image, r.image_sha256)] for r in unit.made]
    clean = dict(zip(at, (str(r.clean) for r in unit.made), strict=True))
    x = pixels.to_tensor([shown[clean[n]] for n in range(len(unit.photos))]).to(system.device)
    z = system.classifier.logits(x).double()
    benign, no_map = explain(interpreter, x, z.argmax(1))
    able = [i for i, n in enumerate(at) if n in benign]
    found, bad = judge(
        system,
        name,
        [shown[str(unit.made[i].adversarial)] for i in able],
        [int(unit.made[i].target_class or 0) for i in able],
        [benign[at[i]] for i in able],
        [benign[at[i]] for i in able],
    )
    verdicts = {able[k]: verdict for k, verdict in found.items()}
    why = {able[k]: reason for k, reason in bad.items()}
    why |= {i: f"its benign map: {no_map[n]}" for i, n in enumerate(at) if n in no_map}
    files = {_file(unit, n, f"clean.{name}"): npy(m) for n, m in benign.items()}
    records = []
    for i, record in enumerate(unit.made):
        if i in why:
            records.append(failed(record, system.classifier.name, name, f"'{record.image}': {why[i]}"))
            continue
        columns, m = verdicts[i]
        clean_map = _file(unit, at[i], f"clean.{name}")
        file = _file(unit, at[i], f"{record.attack}-{record.against}.{name}")
        files[file] = npy(m)
        paths = {"clean_map": clean_map, "wanted_map": clean_map, "adversarial_map": file}
        places = {column: f"images/{unit.name}/{path}" for column, path in paths.items()}
        records.append(_again(record, system.classifier, name, z[at[i]], columns | places))
    return records, files


def _file(unit: JudgeUnit, n: int, what: str) -> str:
    return f"{n:03d}-{slug(unit.photos[n].path)}.{what}.npy"


def _again(record: Record, classifier: Classifier, name: str, z: Tensor, columns: Mapping[str, Any]) -> Record:
    """The record of the same PNG under a new judge, whose logits of the clean image are ``z``."""
    source = int(z.argmax())
    return dataclasses.replace(
        record,
        judge_classifier=classifier.name,
        interpreter=name,
        source_class=source,
        source_class_name=classifier.classes.names[source],
        clean_confidence=float(z.softmax(0)[source]),
        **columns,
    )
