"""The desk: missing units go to the executor, each worker stores its own results, and a listener hears of it."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import platform
import time
from collections import Counter
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from underfire.audit.provenance import provenance
from underfire.core import Executor, Listener, Outcome, UnderfireError, Unit
from underfire.store import Store
from underfire.trial.rows import failed_rows
from underfire.trial.run import run_unit

ROUNDS = 3
"""Number of times that damaged parts are done again before the disk is blamed."""

HOPELESS = 10
"""Number of failed units, before any has succeeded in this run or an earlier one, after which they are not to blame."""


@dataclass(frozen=True)
class Desk:
    """The desk of an audit: it gives out what is missing, and keeps account of what comes back.

    Args:
        store: the results.
        executor: the workers.
        listener: hears how it goes on.
        classifier: the classifier's own name, for the rows of failed units.
        work: what a worker does with a unit; by default `do_unit`.
    """

    store: Store
    executor: Executor
    listener: Listener
    classifier: str
    work: Callable[[Unit], Outcome] | None = None

    def do(self, units: Callable[[], Iterator[Unit]]) -> None:
        """Do the units that are missing, then read all parts again, and redo those that are damaged.

        Args:
            units: function that gives all units from the first one on, each time it is called.

        Raises:
            UnderfireError: a mistake of the user's, nothing at all succeeds, or a disk that cannot be trusted.
        """
        for _ in range(ROUNDS):
            damaged = [self._discard_damaged(stage) for stage in self._missing(units)]
            if not any(damaged):
                return
        raise UnderfireError(
            f"Parts in '{self.store.root}' were written {ROUNDS} times and are damaged again: its disk or store cannot "
            "be trusted. Give another --out."
        )

    def _discard_damaged(self, stage: str) -> bool:
        """Remove the damaged parts of a stage, and tell whether there were any."""
        damaged = self.store.damaged(stage)
        if damaged:
            parts = "damaged part" if len(damaged) == 1 else "damaged parts"
            self.listener.note(f"{len(damaged)} {parts} in {stage}, done again: {', '.join(damaged[:3])}")
        for unit in damaged:
            self.store.discard(stage, unit)
        return bool(damaged)

    def _missing(self, units: Callable[[], Iterator[Unit]]) -> list[str]:
        """Do the units that are missing, and return the stages of all units."""
        done = self._begin(units)
        missing = (unit for unit in units() if unit.name not in done[unit.stage])
        first = next(missing, None)
        if first is not None:
            failed = {stage: self.store.failed(stage) for stage in done}
            work = self.work or functools.partial(do_unit, self.store)
            with contextlib.closing(_outcomes(self.executor, work, itertools.chain([first], missing))) as outcomes:
                for outcome in _hoped(outcomes, any(done.values())):
                    self.store.check()
                    self.listener.advance(self._account(outcome, failed[outcome.unit.stage]))
        return list(done)

    def _begin(self, units: Callable[[], Iterator[Unit]]) -> dict[str, set[str]]:
        """Tell the listener the size of each stage, and return the names of its finished units."""
        done: dict[str, set[str]] = {}
        total: Counter[str] = Counter()
        finished: Counter[str] = Counter()
        for unit in units():
            if unit.stage not in done:
                done[unit.stage] = self.store.done(unit.stage)
            total[unit.stage] += unit.size
            finished[unit.stage] += unit.size * (unit.name in done[unit.stage])
        for stage in done:
            self.listener.begin(stage, total[stage], finished[stage])
        return done

    def _account(self, outcome: Outcome, failed: set[str]) -> Outcome:
        """Store the rows of a unit that has failed; forget the earlier failure of a unit that is done now."""
        unit = outcome.unit
        if outcome.error is not None:
            rows = failed_rows(unit, self.classifier, outcome.error)
            self.store.put_failed(unit.stage, unit.name, rows, provenance(unit.job.device, outcome.seconds))
            return dataclasses.replace(outcome, rows=len(rows))
        if unit.name in failed:
            self.store.forget(unit.stage, unit.name)
        return outcome


def do_unit(store: Store, unit: Unit) -> Outcome:
    """Do a unit in a worker, and store its results.

    Raises:
        UnderfireError: a mistake of the user's that other units would meet too.
    """
    if isinstance(store.root, Path) and not (store.root / "plan.yaml").is_file():
        raise UnderfireError(
            f"The worker on '{platform.node()}' does not see '{store.root}': give an --out on a file system that all "
            "machines share, or a URL such as s3://bucket/audit."
        )
    start = time.perf_counter()
    result = run_unit(unit)
    seconds = time.perf_counter() - start
    store.put(unit.stage, unit.name, result.rows, result.files, provenance(unit.job.device, seconds))
    good = [row for row in result.rows if row.error is None]
    reached = sum(bool(getattr(row, "success", False)) for row in good)
    return Outcome(unit, len(result.rows), len(good), reached, seconds)


def _outcomes(executor: Executor, work: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Generator[Outcome]:
    """Yield what an executor gives. Closing it, for a full disk or on Ctrl-C, stops the executor's workers at once."""
    yield from executor.map(work, units)


def _hoped(outcomes: Iterator[Outcome], succeeded: bool) -> Iterator[Outcome]:
    """Yield the outcomes as long as some unit has ever succeeded, or few have failed; else raise UnderfireError."""
    failed = 0
    for outcome in outcomes:
        yield outcome
        succeeded |= outcome.error is None
        failed += outcome.error is not None
        if failed == HOPELESS and not succeeded:
            raise UnderfireError(
                f"The first {HOPELESS} units failed, and none succeeded: they are not to blame. The last one says: "
                f"{outcome.error}"
            )
