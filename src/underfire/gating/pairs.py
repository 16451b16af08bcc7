"""The photos that two audits have in common, cell by cell: what is compared is always the same photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from underfire.gating.measures import AT, MeasuredCell

ALIKE = ("attack", "preset", "against", "interpreter", "defense", "eps", AT)
"""Columns in which two cells must agree: the classifiers are what is compared."""


@dataclass(frozen=True)
class Pairs:
    """The values of the photos that two cells have in common.

    Args:
        now: photo -> its value now.
        before: photo -> its value before, for the same photos.
        only_now: photos with a value now alone.
        only_before: photos with a value before alone.
    """

    now: Mapping[str, float]
    before: Mapping[str, float]
    only_now: int
    only_before: int

    @property
    def differences(self) -> dict[str, float]:
        """Photo -> now minus before."""
        return {photo: value - self.before[photo] for photo, value in self.now.items()}

    @property
    def flat(self) -> bool:
        """Whether each value is a yes or a no, so that the pairs make a table of four."""
        return all(value in (0.0, 1.0) for side in (self.now, self.before) for value in side.values())

    @property
    def more(self) -> int:
        """Photos that say yes only now."""
        return sum(value > self.before[photo] for photo, value in self.now.items())

    @property
    def less(self) -> int:
        """Photos that said yes only before."""
        return sum(value < self.before[photo] for photo, value in self.now.items())


def partner(cell: MeasuredCell, others: Sequence[MeasuredCell]) -> MeasuredCell | None:
    """Find the same attack under the same judge in another audit; of several classifiers, the one of the same name."""
    alike = [other for other in others if key(other.cell) == key(cell.cell)]
    named = [
        other
        for other in alike
        if all(other.cell[name] == cell.cell[name] for name in ("classifier", "judge_classifier"))
    ]
    return named[0] if named else alike[0] if len(alike) == 1 else None


def key(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what two cells that are compared have in common."""
    return tuple(cell.get(name) for name in ALIKE)


def pairs(now: MeasuredCell, before: MeasuredCell, measure: str) -> Pairs:
    """Pair the values of a measure by photo, in the order of the digests."""
    a, b = now.values(measure), before.values(measure)
    both = sorted(a.keys() & b.keys())
    return Pairs(
        {photo: a[photo] for photo in both},
        {photo: b[photo] for photo in both},
        len(a.keys() - b.keys()),
        len(b.keys() - a.keys()),
    )
