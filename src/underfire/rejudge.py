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

from underfire import images
from underfire.clean import Levels, npy, slug
from underfire.core import Classifier, Interpreter, Outcome, Unit
from underfire.judge import explain, judge
from underfire.record import Record
from underfire.system import System, prepare

if TYPE_CHECKING:
    from torch import Tensor


def rejudge(unit: Unit) -> Outcome:
    """What a worker does with a unit that only judges: ``unit.made`` are the records of its PNGs."""
    start = time.perf_counter()
    prepare(unit.job.threads)
    system = System.of_job(unit.job)
    folder = images.Folder(unit.job.source)
    shown = {name: _shown(folder.bytes(name), system.classifier) for name in _names(unit.made)}
    records: list[Record] = []
    files: dict[str, bytes] = {}
    for interpreter in system.interpreters.values():
        rows, more = _judged(unit, system, interpreter, shown)
        records += rows
        files |= more
    seconds = time.perf_counter() - start
    each = seconds / max(1, len(records))
    return Outcome(unit, [dataclasses.replace(r, seconds=each) for r in records], files, seconds)


def _names(made: Sequence[Record]) -> list[str]:
    return list(dict.fromkeys(name for r in made for name in (r.clean, r.adversarial) if name is not None))


def _shown(png: bytes, classifier: Classifier) -> Levels:
    """A PNG as this classifier sees it: resized where its input is of another size, never cropped again."""
    size = classifier.preprocess.input_size
    return images.load(png, "PNG", dataclasses.replace(classifier.preprocess, resize=size))


@torch.no_grad()
def _judged(
    unit: Unit, system: System, interpreter: Interpreter, shown: Mapping[str, Levels]
) -> tuple[list[Record], dict[str, bytes]]:
    classifier, name = system.classifier, interpreter.name
    clean = list(dict.fromkeys(r.clean for r in unit.made if r.clean is not None))
    x = images.to_tensor([shown[c] for c in clean]).to(system.device)
    z = classifier.logits(x).double()
    benign, no_map = explain(interpreter, x, z.argmax(1))
    files = {f"{_stem(unit, n)}.clean.{name}.npy": npy(m) for n, m in benign.items()}
    place = {c: n for n, c in enumerate(clean)}
    errors = {n: f"its benign map: {why}" for n, why in no_map.items()}
    able = [r for r in unit.made if r.clean is not None and place[r.clean] not in errors]
    found, bad = judge(
        system,
        name,
        [shown[str(r.adversarial)] for r in able],
        [int(r.target_class or 0) for r in able],
        [benign[place[str(r.clean)]] for r in able],
        [benign[place[str(r.clean)]] for r in able],
        unit.job.scale.get(name),
    )
    records = []
    for record in unit.made:
        n = place[str(record.clean)]
        i = next((k for k, r in enumerate(able) if r is record), None)
        why = errors.get(n) or (None if i is None else bad.get(i))
        if why is not None or i is None:
            records.append(failed(record, classifier.name, name, f"'{record.image}': {why}"))
            continue
        columns, m = found[i]
        file = f"{_stem(unit, n)}.{record.attack}-{record.against}.{name}.npy"
        files[file] = npy(m)
        paths = {"clean_map": f"{_stem(unit, n)}.clean.{name}.npy", "adversarial_map": file}
        paths["wanted_map"] = paths["clean_map"]
        at = {column: f"images/{unit.name}/{path}" for column, path in paths.items()}
        records.append(_again(record, classifier, name, z[n], columns | at))
    return records, files


def _stem(unit: Unit, n: int) -> str:
    return f"{n:03d}-{slug(unit.photos[n].path)}"


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


def failed(record: Record, classifier: str, name: str, why: str) -> Record:
    """The row of a PNG that could not be judged: ``why``, and no number."""
    kept = ("image", "image_sha256", "classifier", "against", "attack", "preset", "defense", "seed", "eps")
    same = {column: getattr(record, column) for column in (*kept, "target_map")}
    return Record(**same, judge_classifier=classifier, interpreter=name, error=why)
