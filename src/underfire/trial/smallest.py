"""The smallest budget that forges, photo by photo: bisection, with warm starts from the picture found last.

    search at MAX, as ever                          not forged there: the photo keeps this picture, and no budget
    low = 0, high = what that picture needed        high is always a budget at which a saved picture was forged
    repeat until high = low + 1:
        b = (low + high) / 2; go on from the picture of `high`, cut to b, with the search's schedules in fewer steps
        forged: high = what this picture needed     else: low = b

Forged means what it means everywhere (method, section 5.5): judged on the saved picture, with the real interpreter. The
probes have, together, 1.8 times the steps of the search at MAX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import torch

from underfire.core import Cell, ImageErrors, Job, Resume, Shrinking
from underfire.images import pixels
from underfire.metrics.verdict import verdict
from underfire.trial.batch import Batch, logits
from underfire.trial.forged import Forged
from underfire.trial.judge import judge, predicted
from underfire.trial.saved import Saved
from underfire.trial.system import System

PROBES, GROWTH = 1.8, 1.2
"""Steps of all probes together, in searches at MAX, so that with the looks at their maps the whole costs less than
three; and by how much each probe is longer than the one before. The last one decides between neighbouring budgets and
is the hardest: against CAM at ε = 1 the map L1 of a photo is 0.10 after 36 steps and 0.03 after 60. But a first one
that is too short takes an easy budget for a hard one: with 1.6 it did so on one of 3 photos, with 1.2 on none of 8."""
BY_FORGED, BY_SUCCESS = "forged", "success"
TENTHS = 10
Attacked: TypeAlias = Callable[[System, Job, Cell, Batch, Resume], Forged]
"""Runs an attack, and saves and reads back what it found."""


@dataclass
class PhotoSearch:
    """What is known of one photo.

    Args:
        forged: its best picture so far, one row.
        low: the largest budget at which it was not forged.
        high: the smallest budget at which it was; None: not even at the largest.
        place: where the search for `forged` was at its best, one row.
        passes, steps: of all searches and looks.
    """

    forged: Forged
    low: int
    high: int | None
    place: Resume
    passes: float
    steps: int

    @property
    def middle(self) -> int | None:
        """The budget that is tried next; None: there is none left between."""
        return None if self.high is None or self.high - self.low < 2 else (self.low + self.high) // 2


def smallest(system: System, job: Job, cell: Cell, able: Batch, attacked: Attacked) -> Forged:
    """Search the smallest budget of each photo.

    Args:
        system: under attack.
        job: what is done to it.
        cell: the attack, with the largest budget.
        able: the photos.
        attacked: runs the attack.
    """
    attack = _shrinking(cell)
    photos = [
        PhotoSearch(one, 0, need, place, float(one.passes[0]), int(one.steps[0]))
        for one, need, place in _tried(system, job, cell, able, Resume(), attacked)
    ]
    for share in shares(attack.budget):
        for budget, rows in _by_middle(photos).items():
            smaller = replace(cell, attack=attack.within(budget, share))
            places = [photos[n].place for n in rows]
            try:
                tried = _tried(system, job, smaller, able.select(torch.tensor(rows)), _joined(places), attacked)
            except ImageErrors as e:  # its rows are those of the probe
                raise ImageErrors({rows[n]: why for n, why in e.by_row.items()}) from e
            for n, (one, need, place) in zip(rows, tried, strict=True):
                photos[n].passes += float(one.passes[0])
                photos[n].steps += int(one.steps[0])
                if need is None:
                    photos[n].low = budget
                else:
                    known = {**photos[n].forged.extras, **one.extras}  # `rescue` is of the first search
                    photos[n].forged, photos[n].high, photos[n].place = replace(one, extras=known), need, place
    return _assembled(cell, job, able, photos)


def shares(most: int) -> list[float]:
    """Give the length of each probe, in searches at the largest budget ``most``; as many as bisection may need."""
    growing = [GROWTH**n for n in range(math.ceil(math.log2(most)))]
    return [min(1.0, PROBES * one / sum(growing)) for one in growing]


def _shrinking(cell: Cell) -> Shrinking:
    assert isinstance(cell.attack, Shrinking)  # `plan.attacks.is_searched` has asked
    return cell.attack


def _by_middle(photos: Sequence[PhotoSearch]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for n, photo in enumerate(photos):
        if photo.middle is not None:
            groups.setdefault(photo.middle, []).append(n)
    return groups


def _tried(
    system: System, job: Job, cell: Cell, able: Batch, resume: Resume, attacked: Attacked
) -> list[tuple[Forged, int | None, Resume]]:
    """Search in one budget; give the picture of each photo, what it needed (None: not forged), and its place."""
    made = attacked(system, job, cell, able, resume)
    good, passes = _judged(system, job, cell, made)
    found = []
    for n, one in enumerate(made.rows()):
        need = _need(cell, one) if good[n] else None
        place = made.resume or Resume()
        found.append((replace(one, passes=one.passes + passes[n]), need, place.row(n)))
    return found


def _need(cell: Cell, one: Forged) -> int:
    """Give the smallest budget that has this picture in it: it may need less than it was given."""
    attack = _shrinking(cell)
    if attack.bends:
        return min(attack.budget, max(1, math.ceil(TENTHS * float(one.extras["flow_max_px"][0]) - 1e-3)))
    return min(attack.budget, max(1, int(one.linf[0])))


def _judged(system: System, job: Job, cell: Cell, made: Forged) -> tuple[list[bool], list[float]]:
    """Tell which pictures are forged, and the F of the look."""
    ruled = _by(job, cell) == BY_FORGED
    if not ruled or cell.against is None:
        x = pixels.to_tensor(made.levels).to(system.device)
        with torch.no_grad():
            z = logits(system, x).double()
        return [bool(predicted(z[n], made.clean, n).get("success")) for n in range(len(x))], [1.0] * len(x)
    seen = judge(system, cell.against, made.clean, made.levels)
    by_row = dict(zip(seen.clean.rows, seen.judgements, strict=True))
    shared = {"interpreter": cell.against, "target_map": job.target_map.word}
    good, passes = [], []
    for row in made.clean.rows:
        known = by_row.get(row)
        good.append(known is not None and bool(verdict({**asdict(known), **shared}, job.rulers).forged))
        passes.append(1 + system.interpreters[cell.against].map_passes if known is None else known.judge_passes)
    return good, passes


def _by(job: Job, cell: Cell) -> str:
    return BY_FORGED if cell.against in job.rulers else BY_SUCCESS


def _joined(places: Sequence[Resume]) -> Resume:
    units = [place.unit for place in places if place.unit is not None]
    unit = torch.cat(units) if len(units) == len(places) else None
    return Resume([position for place in places for position in place.positions], unit)


def _assembled(cell: Cell, job: Job, able: Batch, photos: Sequence[PhotoSearch]) -> Forged:
    """Put the photos' best pictures together again."""
    each = [photo.forged for photo in photos]
    saved = Saved(
        tuple(one.files[0] for one in each),
        np.concatenate([one.levels for one in each]),
        torch.cat([one.linf for one in each]),
        tuple(one.facts[0] for one in each if one.facts),
    )
    extras = {name: torch.cat([one.extras[name] for one in each]) for name in each[0].extras}
    return Forged(
        able,
        saved,
        torch.tensor([photo.steps for photo in photos]),
        torch.tensor([photo.passes for photo in photos], dtype=torch.float64),
        extras,
        notes=tuple(_note(cell, job, photo) for photo in photos),
    )


def _note(cell: Cell, job: Job, photo: PhotoSearch) -> Mapping[str, Any]:
    """The columns of a record that say how small it became."""
    by, high = {"smallest_by": _by(job, cell)}, photo.high
    if _shrinking(cell).bends:
        return {**by, "smallest_shift": None if high is None else high / TENTHS}
    return {**by, "smallest_eps": high}
