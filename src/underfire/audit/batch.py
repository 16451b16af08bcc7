"""The batch size of an audit that leaves it open: the fastest that fits, by the steps of its dearest attack.

From the usual size on it is doubled while that gains; where it does not, it is halved while that gains. The clock on
the wall counts: what a small batch loses is that it does not keep all cores busy, which the time of the process hides.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from underfire.audit.steps import Steps, repeated
from underfire.core import FAILURES, Cell, UnderfireError
from underfire.core.precision import phases, precision_against, searching
from underfire.plan.cost import batch_that_fits
from underfire.plan.units import Plan
from underfire.registry import VICTIMS

GAIN = 1.1
"""How many times as fast another size must be, an image."""
ROUNDS = 2
"""Times that a size is timed, after once that does not count."""
SHARE = 0.05
"""Share of the audit's own time that measuring a size may take."""


@dataclass(frozen=True)
class MeasuredBatch:
    """A batch size, and what was measured: size -> seconds an image."""

    size: int
    seconds: dict[int, float]

    @property
    def said(self) -> str:
        """What was measured, in words."""
        (usual, first), *others = self.seconds.items()
        found = (f"{n} is {first / one:.2f} times as fast as {usual}" for n, one in others)
        return f"{self.size}: {', '.join(found) or 'no other size was worth trying'}"


def measured_batch(steps: Steps, cells: Sequence[tuple[Plan, Cell]], words: str, whole: float) -> MeasuredBatch | None:
    """Find the fastest batch size for audits of one classifier.

    Args:
        steps: on the audits' photos.
        cells: the attacks, each with its audit.
        words: the precision of the search.
        whole: seconds that all of it takes.

    Returns:
        None where the usual size could not be measured.
    """
    plan, cell = dearest(cells)
    word = precision_against(words, cell.against)

    def seconds(n: int) -> float | None:
        """Take the fastest of some steps, seconds an image; None where it fails, as where the memory is too small."""
        with contextlib.suppress(*FAILURES, UnderfireError):
            return sum(share * fastest_step(n, one) for one, share in phases(word)) / n
        return None

    def fastest_step(n: int, one: str) -> float:
        with searching(one):
            there = Steps(steps.system, repeated(steps.x, n))
            step = there.step_of(plan, cell)
            return min([there.take(step, one, time.perf_counter).seconds for _ in range(ROUNDS + 1)][1:])

    return fastest(seconds, plan.settings.batch_size or 1, _most([one for one, _ in cells], plan, steps), whole)


def dearest(cells: Sequence[tuple[Plan, Cell]]) -> tuple[Plan, Cell]:
    """Find the attack that costs most, with its audit."""
    return max(cells, key=lambda one: one[0].cell_passes[one[0].job.cells.index(one[1])] * one[0].attacked)


def _most(plans: Sequence[Plan], plan: Plan, steps: Steps) -> int:
    """Find the largest size that fits the memory, gives each worker two units, and that no unit cuts anyway."""
    job, workers = plan.job, plan.settings.workers
    passes = max(
        VICTIMS.interpreter(steps.system.classifier, name, one.job.interpreter_options.get(name, {})).step_passes
        for one in plans
        for name in one.job.interpreters
    )
    fits = batch_that_fits(steps.system.classifier, job.device, workers, passes)
    return min(fits, plan.attacked // (2 * workers), max(lane.largest(plan.unit_passes) for lane in plan.lanes))


def fastest(seconds: Callable[[int], float | None], usual: int, most: int, whole: float) -> MeasuredBatch | None:
    """Double the usual size while that gains, else halve it while that gains.

    Args:
        seconds: size -> seconds an image; None where that size cannot be had.
        usual: the size to begin with.
        most: the largest size.
        whole: seconds that the audit takes: what costs more than a share of it to measure is not tried.
    """
    first = seconds(usual)
    if first is None:
        return None
    best, found = usual, {usual: first}
    for doubles in (True, False):
        while best == usual or (best > usual) == doubles:
            size = best * 2 if doubles else best // 2
            if not 1 <= size <= (most if doubles else usual) or (ROUNDS + 1) * size * found[best] > SHARE * whole:
                break
            time_there = seconds(size)
            if time_there is None:
                break
            found[size] = time_there
            if found[best] < GAIN * time_there:
                break
            best = size
    return MeasuredBatch(best, found)
