"""Decisions: whether a number is on the right side of a goal, and only where its 95 % interval says so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underfire.metrics.estimate import Estimate, mean, wilson

FEW = 10
"""From fewer photos than this nothing is concluded, and a headline shows counts in place of shares."""
MOST = 1_000_000
"""Photos that nobody would attack: a goal that needs more is as good as undecided for ever."""


@dataclass(frozen=True)
class Decision:
    """The answer to 'is it at least (or at most) this much?'.

    Args:
        answer: yes or no; None where it cannot be said.
        photos: number of photos behind it.
        needed: photos that would be needed if the value stayed what it is; None where it is decided, or none would do.
    """

    answer: bool | None
    photos: int
    needed: int | None = None

    @property
    def few(self) -> bool:
        """Whether there are too few photos to say anything."""
        return self.photos < FEW

    @property
    def words(self) -> str:
        """Say it: yes, no, or why neither."""
        if self.answer is not None:
            return "yes" if self.answer else "no"
        if self.few:
            return f"too few photos (n = {self.photos})"
        more = f", would take about {self.needed:,}" if self.needed else ""
        return f"not resolved (n = {self.photos}{more})"


def at_least(found: Estimate, goal: float, share: bool = False) -> Decision:
    """Decide whether a number reaches ``goal``; the whole interval must.

    A share that must be 1 is reached where it is 1: no number of photos could show more.

    Args:
        found: the number.
        goal: what it must reach.
        share: it is a rate, with Wilson's interval.
    """
    photos = found.independent
    if found.value is None or found.low is None or found.high is None or photos < FEW:
        return Decision(None, photos)
    if found.low >= goal or (share and goal >= 1 and found.value >= 1):
        return Decision(True, photos)
    if found.high < goal:
        return Decision(False, photos)
    return Decision(None, photos, _needed(found, goal, share))


def at_most(found: Estimate, goal: float, share: bool = False) -> Decision:
    """Decide whether a number stays at or below ``goal``; the whole interval must."""
    value, low, high = (None if one is None else -one for one in (found.value, found.high, found.low))
    turned = Estimate(value, low, high, found.n, found.photos)
    if not share:
        return at_least(turned, -goal)
    value, low, high = (None if one is None else 1 + one for one in (value, low, high))
    return at_least(Estimate(value, low, high, found.n, found.photos), 1 - goal, share=True)


def every(parts: Sequence[Decision]) -> Decision:
    """Decide that all parts hold; one that does not is enough to deny it."""
    answers = [part.answer for part in parts]
    answer = False if False in answers else None if None in answers else True
    needed = max((part.needed for part in parts if part.needed is not None), default=None)
    return Decision(answer, min(part.photos for part in parts), None if answer is not None else needed)


def _needed(found: Estimate, goal: float, share: bool) -> int | None:
    """Count the photos at which an interval around the same value would no longer hold ``goal``."""
    value, photos = found.value or 0.0, found.independent
    away = value - goal
    if not away or found.low is None or found.high is None:
        return None
    if share:
        return next((n for n in _sizes(photos) if _beyond(wilson(value, n), goal)), None)
    half = value - found.low if away > 0 else found.high - value
    needed = math.ceil(photos * (half / away) ** 2)
    return max(needed, photos + 1) if needed <= MOST else None


def _beyond(ends: tuple[float, float], goal: float) -> bool:
    return ends[0] >= goal or ends[1] < goal


def _sizes(n: int) -> list[int]:
    """List numbers of photos above ``n``, some 2 % apart."""
    found = [n + 1]
    while found[-1] < MOST:
        found.append(max(found[-1] + 1, found[-1] * 51 // 50))
    return found


def paired(more: Mapping[str, float], less: Mapping[str, float], times: float = 1.0) -> Estimate:
    """Estimate the mean of ``more`` − ``times`` · ``less`` over the photos that both have.

    Args:
        more: photo -> number.
        less: photo -> number.
        times: so many times as large must ``more`` be for the difference to be above 0.
    """
    both = [photo for photo in more if photo in less]
    return mean([more[photo] - times * less[photo] for photo in both])
