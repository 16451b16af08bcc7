"""Controls: what noise of ε's size does, what ADV²'s search does without its map term, and how far a rerun differs."""

from __future__ import annotations

from dataclasses import dataclass

from underfire.metrics.estimate import Estimate, mean
from underfire.study.numbers import average, by_photo
from underfire.study.results import SubjectResults, on_photos


@dataclass(frozen=True)
class Controls:
    """One interpreter's controls, on the photos that have all of them; map distances to the benign map.

    Args:
        interpreter: attacked, and judge.
        adv2: mean L1 of ADV².
        without: of the same search with λ = 0.
        pgd: of PGD.
        noise: of random noise of the size of ε.
        rerun: mean difference of L1 of the same attacks (PGD and ADV²) when photos are batched otherwise.
    """

    interpreter: str
    adv2: Estimate
    without: Estimate
    pgd: Estimate
    noise: Estimate
    rerun: Estimate


def controls(subject: SubjectResults, interpreter: str) -> Controls | None:
    """Measure the controls of one interpreter; None where there are none."""
    own = [subject.rows("control", attack, interpreter) for attack in ("adv2-control", "noise")]
    main = [subject.rows("main", attack, interpreter) for attack in ("adv2", "pgd")]
    floor = rerun(subject, interpreter)
    if not any(own) and not floor.n:
        return None
    there = [frozenset(by_photo(rows, "map_l1")) for rows in (*own, *main) if rows]
    photos = frozenset.intersection(*there) if there else frozenset()
    without, noise, adv2, pgd = (average(on_photos(photos, rows), "map_l1") for rows in (*own, *main))
    return Controls(interpreter, adv2, without, pgd, noise, floor)


def rerun(subject: SubjectResults, interpreter: str) -> Estimate:
    """Average over photos how far L1 moves when the same photo is attacked in another batch."""
    apart: dict[str, list[float]] = {}
    for attack in ("pgd", "adv2"):
        again, first = (by_photo(subject.rows(e, attack, interpreter), "map_l1") for e in ("rerun", "main"))
        for photo in again.keys() & first.keys():
            apart.setdefault(photo, []).append(abs(again[photo] - first[photo]))
    return mean([sum(values) / len(values) for _, values in sorted(apart.items())])
