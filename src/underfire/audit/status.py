"""The status of an audit: what is done, how fast it goes and what has failed, from its output folder alone."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underfire.core import ForgeUnit, ScaleUnit, UnderfireError
from underfire.core.files import listing
from underfire.core.place import Place
from underfire.store import Store, read_plan

RECENT = 200
"""Number of units, the last ones, that the pace is measured on."""
PAUSE = 20
"""A gap so many times longer than a typical one is no work: the run was stopped, or a clock was set."""


@dataclass(frozen=True)
class Status:
    """The status of an audit.

    Args:
        units: number of planned units.
        done: number of finished units.
        failed: number of failed units; the next run tries them again.
        scale_units: number of planned units of the untouched scale.
        scale_done: number of finished units of the untouched scale.
        pace: units finished per second while the run was going; None while fewer than three are done.
    """

    units: int
    done: int
    failed: int
    scale_units: int
    scale_done: int
    pace: float | None

    @property
    def seconds_left(self) -> float | None:
        """Seconds that are left at this pace; None without one."""
        return (self.units - self.done - self.failed) / self.pace if self.pace else None


def status(out: Place) -> Status:
    """Count the units in an output folder; a few listings are enough, whatever the size of the audit.

    Raises:
        UnderfireError: it is no output folder of an audit.
    """
    resolved = read_plan(out).get("resolved")
    resolved = resolved if isinstance(resolved, Mapping) else {}
    units, scale_units = resolved.get("units"), resolved.get("scale_units", 0)
    if not isinstance(units, int) or not isinstance(scale_units, int):
        raise UnderfireError(f"'{out / 'plan.yaml'}' does not say how many units there are: no run has written it.")
    store = Store(out)
    parts = listing(out / "records")
    done = store.done(ForgeUnit.stage)
    return Status(
        units,
        len(done),
        len(store.failed(ForgeUnit.stage) - done),
        scale_units,
        len(store.done(ScaleUnit.stage)),
        pace([entry.written for entry in parts.values()]),
    )


def pace(times: Sequence[float]) -> float | None:
    """Compute the units per second from the times at which they were written, in any order; pauses are left out."""
    last = sorted(times)[-RECENT:]
    gaps = [b - a for a, b in itertools.pairwise(last)]
    if len(gaps) < 2:
        return None
    typical = statistics.median(gaps) or statistics.fmean(gaps)
    worked = [gap for gap in gaps if gap <= PAUSE * typical]
    return len(worked) / sum(worked) if sum(worked) > 0 else None
