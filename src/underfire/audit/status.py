"""What is done of an audit, how fast it goes and what failed: read from its output folder alone, from anywhere."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underfire.core import ForgeUnit, ScaleUnit, UnderfireError
from underfire.core.place import Place, listing
from underfire.store import Store, read_plan

RECENT = 200
"""The pace is that of the last so many units."""
PAUSE = 20
"""A gap so many times the typical one is no work: the run was stopped, or a clock was set."""


@dataclass(frozen=True)
class Status:
    """How far an audit is.

    Args:
        units: planned.
        done: finished units.
        failed: units that were given up; the next run tries them again.
        scale_done: finished units of the untouched scale, of ``scale_units`` planned.
        pace: units finished a second while the run was going, None while fewer than three are done.
    """

    units: int
    done: int
    failed: int
    scale_units: int
    scale_done: int
    pace: float | None

    @property
    def seconds_left(self) -> float | None:
        """At the pace of the last units."""
        return (self.units - self.done - self.failed) / self.pace if self.pace else None


def status(out: Place) -> Status:
    """Count what is there: three listings, whatever the size of the audit.

    Raises:
        UnderfireError: no output folder of an audit.
    """
    resolved = read_plan(out).get("resolved")
    resolved = resolved if isinstance(resolved, Mapping) else {}
    units, scale_units = resolved.get("units"), resolved.get("scale_units", 0)
    if not isinstance(units, int) or not isinstance(scale_units, int):
        raise UnderfireError(
            f"'{out / 'plan.yaml'}' does not say how many units there are: it was not written by a run."
        )
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
    """Units a second from the times at which they were written, in any order; pauses and set clocks left out."""
    last = sorted(times)[-RECENT:]
    gaps = [b - a for a, b in itertools.pairwise(last)]
    if len(gaps) < 2:
        return None
    typical = statistics.median(gaps) or statistics.fmean(gaps)
    worked = [gap for gap in gaps if gap <= PAUSE * typical]
    return len(worked) / sum(worked) if sum(worked) > 0 else None
