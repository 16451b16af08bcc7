"""How long and how hard to search: numbers over time, and the settings of one search."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal

import torch
from pydantic import AfterValidator, Field

from underfire.attacks.search.success import Success
from underfire.core import PerImage, UnderfireError
from underfire.core.hashing import ADDED

FIRST_ORDER = 3.0
"""F of a step on the prediction alone: one forward pass, and a backward pass to the input, which counts two."""


Share = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
MOST = 1_000_000
"""Steps, and other counts, that nobody needs more of."""
LARGEST = 1_000_000_000
"""Weight of a loss above which float32 has no room left for the other one."""


@dataclass(frozen=True)
class Schedule:
    """A number that goes from ``start`` to ``end`` over the part of the search that follows the warm-up.

    Args:
        start: value at the beginning.
        end: value at the end; None: the number stays at ``start``.
        shape: 'linear', 'cosine' (slow at both ends) or 'geometric' (by equal factors).
        cycles: how often it goes that way, each time from ``start``.

    Raises:
        UnderfireError: for a geometric schedule from or to 0 or less.
    """

    spelled: ClassVar[str] = "Schedule"
    start: float
    end: float | None = None
    shape: Literal["linear", "cosine", "geometric"] = "linear"
    cycles: Annotated[int, Field(ge=1, le=MOST)] = 1

    def __post_init__(self) -> None:
        if self.shape == "geometric" and any(isinstance(n, int | float) and n <= 0 for n in self.ends):
            raise UnderfireError("a geometric schedule goes from one number above 0 to another.")

    @property
    def ends(self) -> tuple[float, float]:
        """Where it starts and where it ends."""
        return self.start, self.start if self.end is None else self.end

    def at(self, progress: float) -> float:
        """Give the value at ``progress`` in [0, 1]."""
        if self.end is None:
            return self.start
        if progress < 1:
            progress = progress * self.cycles % 1
        if self.shape == "geometric":
            return float(self.start * (self.end / self.start) ** progress)
        share = (1 - math.cos(math.pi * progress)) / 2 if self.shape == "cosine" else progress
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Stages:
    """A number that keeps its value for a while and then jumps to the next.

    Args:
        values: one after the other.
        lengths: steps that each value holds for; only their proportions count.
    """

    spelled: ClassVar[str] = "Stages"
    values: tuple[float, ...]
    lengths: tuple[int, ...]

    def at(self, progress: float) -> float:
        """Give the value at ``progress`` in [0, 1]."""
        ends = itertools.accumulate(self.lengths)
        reached = progress * sum(self.lengths)
        return next((v for v, end in zip(self.values, ends, strict=True) if reached < end), self.values[-1])


def _never_negative(number: Schedule | Stages) -> Schedule | Stages:
    values = number.ends if isinstance(number, Schedule) else number.values
    if not 0 <= min(values) <= max(values) <= LARGEST:
        raise ValueError(f"it should never be below 0, nor above {LARGEST:,}")
    return number


def _moves(step: Schedule) -> Schedule:
    start, end = step.ends
    if not (0 < start <= MOST and 0 <= end <= MOST):
        raise ValueError(f"steps should start above 0, never be below, nor above {MOST:,}")
    return step


Weight = Annotated[Schedule | Stages, AfterValidator(_never_negative)]
"""A weight over the search."""
StepSize = Annotated[Schedule, AfterValidator(_moves)]
"""A step size over the search."""


@dataclass(frozen=True)
class SearchSettings:
    """Settings of one search.

    Args:
        steps: most steps that an image gets.
        warmup: how many of them are on the prediction alone, before the map counts.
        lam: λ, the weight of ℓ_int (method, section 2), over the search after its warm-up.
        relative: λ counts in units of each image's own ℓ_int after the warm-up, where the prediction alone was
            attacked: so one λ suits a map whatever the size of its distances.
        smoothing: label smoothing s of ℓ_prd, in [0, 1]; caps the target's probability at 1 − s + s/K.
        confidence: target probability from which on an iterate is a confident success; the confident success whose
            map is nearest to m_t is kept.
        stop_confidence: target probability at which an image is done; None: every image gets all steps.
        stop_l1: map distance (L1, in [0, 1]) that an image must have come down to as well; None: 0.
        check: steps from one look at the real interpreter to the next, where the surrogate does not show the real map.
            0: no look at all; the last confident success is kept, and no image is done early.
        yields: the map gives way to the prediction: an image's own λ shrinks after each step at which it is no
            confident success, and recovers after each at which it is.
        margin: None: ℓ_prd is the cross-entropy. A number κ: ℓ_prd is max(0, κ + max_{k≠t} z_k − z_t), as in the
            published attack on MASK (method, section 4): nothing more to gain once the target's logit leads by κ. On
            labels of their own the lead is the smaller one of the wanted label's z and of −z of the label to leave.
        bisect: 0: one step on ℓ_prd + λ ℓ_int. A number of halvings: a step on ℓ_prd, then the largest share of a step
            on ℓ_int that keeps each image's margin κ.
        step_passes: F of a step on prediction and map, in place of the interpreter's own number; for the estimate.
        once: F that come once and not with each step; for the estimate.
        prediction: weight of ℓ_prd once the map counts.

    Raises:
        UnderfireError: for a warm-up that is longer than the search, or looks less than a step apart, or halvings
            without a margin that they keep.
    """

    spelled: ClassVar[str] = "Settings"
    steps: Annotated[int, Field(ge=0, le=MOST)]
    warmup: Annotated[int, Field(ge=0, le=MOST)] = 0
    lam: Weight = Schedule(0.0)
    smoothing: Share = 0.0
    confidence: Share = 0.9
    stop_confidence: Share | None = None
    stop_l1: Share | None = None
    check: Annotated[int, Field(ge=0)] = 10
    yields: bool = False
    margin: Annotated[float, Field(ge=0)] | None = None
    bisect: Annotated[int, Field(ge=0, le=50)] = 0
    step_passes: Annotated[float, Field(ge=0)] | None = None
    once: Annotated[float, Field(ge=0)] = 0.0
    prediction: Annotated[float, Field(ge=0, le=LARGEST)] = field(default=1.0, metadata=ADDED)
    relative: bool = field(default=False, metadata=ADDED)

    def __post_init__(self) -> None:
        if self.bisect and self.margin is None:
            raise UnderfireError(
                f"bisect = {self.bisect}: the halved step on the map keeps a margin of the target's logit, so give one "
                "too, such as margin = 5."
            )
        numbers = (self.steps, self.warmup, self.check)
        if not all(isinstance(n, int) for n in numbers):
            return  # the plan says which setting is no number
        if not 0 <= self.warmup <= self.steps or self.check < 0:
            raise UnderfireError(
                f"steps = {self.steps}, warmup = {self.warmup}, check = {self.check}: the warm-up is a part of the "
                "steps, and checks are 1 step apart or more (0: none)."
            )

    def shortened(self, share: float) -> SearchSettings:
        """Give the same search in a share of its steps: all schedules are gone through, in larger strides."""
        steps, warmup, check = (round(n * share) for n in (self.steps, self.warmup, self.check))
        return replace(self, steps=steps, warmup=warmup, check=max(1, check) if self.check else 0)

    def success(self, with_map: bool) -> Success:
        """Give what counts as success, with a map to reach or without."""
        return Success(self.confidence, self.stop_confidence, self.stop_l1, with_map)

    def progress(self, step: int) -> float:
        """Give the share, in [0, 1], of the search after its warm-up that is over at ``step``."""
        return max(0, step - self.warmup) / max(1, self.steps - self.warmup)

    def looks_at(self, step: int) -> bool:
        """Tell whether ``step`` looks at the real interpreter: every so often and at the end.

        Step 0 does not: the untouched image is no success, whatever its map.
        """
        if not self.check:
            return False
        return step == self.steps or (step > 0 and (step - self.warmup) % self.check == 0)

    def left_unseen(self, step: int) -> float | None:
        """Give the share of the search that is left at ``step``, where no real map is ever looked at; else None."""
        if self.check or step < self.warmup:
            return None
        return 1 - step / max(1, self.steps)

    def later(self, step: int, like: PerImage) -> PerImage | None:
        """Give each image the share of the search that is left at ``step``; None before the map counts."""
        return None if step < self.warmup else torch.full_like(like, 1 - step / max(1, self.steps))

    def bound(self, step_passes: float) -> float:
        """Give the most F that an image can cost, where a step on prediction and map costs ``step_passes``."""
        on_both = (self.step_passes or step_passes) * (self.steps - self.warmup)
        return FIRST_ORDER * self.warmup + on_both + self.once + 1
