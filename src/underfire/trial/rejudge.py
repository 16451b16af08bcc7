"""Judging again: adversarial PNGs that exist, shown to another interpreter or another classifier. Nothing is forged.

The clean PNG is shown to the new judge too: its map there, for the judge's own prediction, is what the adversarial map
is measured against, and the class that was wanted stays the one that the attack was made for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from underfire.core import Interpreter, JudgeUnit, Limits, Photo, Record, UnitResult
from underfire.heads import head_of, kind_of
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.interpreters.checked import benign
from underfire.trial import columns, rows
from underfire.trial.batch import Batch, GoalMaps, labels, logits
from underfire.trial.files import Names, made_name, npy
from underfire.trial.judge import judge
from underfire.trial.load import Levels
from underfire.trial.system import System

FILE = "file"
"""What `Record.at` says of forged files."""
LARGEST = 1_000_000_000
"""Pixels of a file of ours at most: it was let through once."""


def rejudge(unit: JudgeUnit, system: System) -> UnitResult:
    """Judge the pictures of ``unit.made`` again."""
    start = time.perf_counter()
    shown = _shown(unit, system)
    records: list[Record] = []
    files: dict[str, bytes] = {}
    for interpreter in system.interpreters.values():
        more, maps = _judged(unit, system, interpreter, shown)
        records += more
        files |= maps
    each = (time.perf_counter() - start) / max(1, len(records))
    return UnitResult([replace(r, seconds=each) for r in records], files)


@dataclass(frozen=True)
class Shown:
    """What a new judge is shown.

    Args:
        photos: the unit's photos, from their clean PNGs.
        at: (M,) for each adversarial PNG, which of them it was made of.
        clean: those photos, one for each adversarial PNG, with the class that was wanted there.
        levels: (M, H, W, 3) the adversarial PNGs.
    """

    photos: Batch
    at: Tensor
    clean: Batch
    levels: Levels


def _shown(unit: JudgeUnit, system: System) -> Shown:
    folder, number = Folder(unit.job.source), {photo: n for n, photo in enumerate(unit.photos)}
    at = torch.tensor([number[Photo(r.image, r.image_sha256)] for r in unit.made])
    png = dict(zip(at.tolist(), (str(r.clean) for r in unit.made), strict=True))  # a photo's lanes may have one each
    whole = {n: r.at == FILE for n, r in zip(at.tolist(), unit.made, strict=True)}
    clean = [_shown_to(system, folder.bytes(png[n]), whole[n]) for n in range(len(unit.photos))]
    levels = [_shown_to(system, folder.bytes(str(r.adversarial)), r.at == FILE) for r in unit.made]
    photos = _looked(unit, system, np.stack(clean))
    target = labels(system, [int(r.target_class or 0) for r in unit.made])
    of_pngs = replace(photos.select(at), rows=tuple(range(len(at))), target=target)
    return Shown(photos, at, of_pngs, np.stack(levels))


def _shown_to(system: System, content: bytes, whole: bool) -> Levels:
    """What the new judge is shown: a whole file goes through its front door; an input is resized, never cropped."""
    if whole:
        return system.door.open(content, "a forged file", Limits(pixels=LARGEST))
    policy = system.classifier.preprocess
    return pixels.load(content, "PNG", replace(policy, resize=min(policy.size)))


@torch.no_grad()
def _looked(unit: JudgeUnit, system: System, levels: Levels) -> Batch:
    """The clean pictures with the new judge's own predictions."""
    x = pixels.to_tensor(levels).to(system.device)
    z = logits(system, x).double()
    source = z.argmax(1)
    return Batch(
        rows=tuple(range(len(x))),
        photos=unit.photos,
        levels=levels,
        x=x,
        source=source,
        confidence=head_of(system.classifier).probabilities(z).gather(1, source[:, None])[:, 0],
        target=source,
        passes=torch.zeros(len(x), dtype=torch.float64),
        classes=system.classifier.classes,
        head=kind_of(system.classifier),
    )


def _judged(
    unit: JudgeUnit, system: System, interpreter: Interpreter, shown: Shown
) -> tuple[list[Record], dict[str, bytes]]:
    """Records and maps of every PNG of the unit under one interpreter."""
    name, clean, at = interpreter.name, shown.clean, shown.at
    with torch.no_grad():
        m, lacking = benign(interpreter, shown.photos.x, shown.photos.source)
    for n in (~shown.photos.confidence.isfinite()).nonzero()[:, 0].tolist():
        lacking[n] = "the classifier's scores are not finite."
    errors = clean.told({i: lacking[n] for i, n in enumerate(at.tolist()) if n in lacking}, "its benign map: ")
    goals = {name: GoalMaps(m[at], m[at], clean.passes, errors)}
    judged = judge(system, name, replace(clean, goals=goals), shown.levels)
    names = [Names(n, unit.photos[n]) for n in at.tolist()]
    files = {Names(n, photo).clean_map(name): npy(m[n]) for n, photo in enumerate(unit.photos) if n not in lacking}
    for i, one in zip(judged.clean.rows, judged.maps, strict=True):
        files[names[i].adversarial_map(made_name(unit.made[i]), name)] = npy(one)
    who = columns.Judge(unit.job, unit.name, system.classifier.name, name)
    return rows.records_again(who, unit.made, judged, names), files
