"""The desk: what is missing of a stage goes out to the executor, what comes back is stored and told."""

from __future__ import annotations

import contextlib
import functools
import itertools
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Protocol

from underfire.audit.provenance import provenance
from underfire.core import Executor, Outcome, UnderfireError, Unit
from underfire.store import FAILED, Store
from underfire.trial import rows
from underfire.trial.unit import run_unit

ROUNDS = 3
"""So often parts that are found damaged are done again before the disk is blamed."""


class Watcher(Protocol):
    """Who is told how an audit goes on."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage of ``total`` images starts, ``done`` of them finished in an earlier run."""

    def advance(self, outcome: Outcome) -> None:
        """A unit is finished and stored, or failed."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


class Quiet:
    """Tells nobody."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Ignored."""

    def advance(self, outcome: Outcome) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""


@dataclass(frozen=True)
class Desk:
    """Where outcomes come in: what is missing goes out to the executor, what comes back is stored and told."""

    store: Store
    executor: Executor
    watcher: Watcher
    classifier: str
    work: Callable[[Unit], Outcome] | None = None
    """What a worker does with a unit; by default `do_unit`."""

    def stage(self, stage: str, units: Callable[[], Iterator[Unit]]) -> None:
        """Do what is missing of a stage, then read it all again and redo what is damaged."""
        for _ in range(ROUNDS):
            self._missing(stage, units)
            damaged = self.store.damaged(stage)
            if not damaged:
                return
            parts = "damaged part" if len(damaged) == 1 else "damaged parts"
            self.watcher.note(f"{len(damaged)} {parts} in {stage}, done again: {', '.join(damaged[:3])}")
            for unit in damaged:
                self.store.discard(stage, unit)
        raise UnderfireError(
            f"Parts in '{self.store.root}' are damaged again after they were written {ROUNDS} times: the disk or the "
            "store that holds it cannot be trusted. Give another --out."
        )

    def _missing(self, stage: str, units: Callable[[], Iterator[Unit]]) -> None:
        done = self.store.done(stage)
        total = finished = 0
        for unit in units():
            total += _rows(unit)
            finished += _rows(unit) * (unit.name in done)
        self.watcher.begin(stage, total, finished)
        missing = (unit for unit in units() if unit.name not in done)
        first = next(missing, None)
        if first is None:
            return
        failed = self.store.done(FAILED)
        work = self.work or functools.partial(do_unit, self.store)
        with contextlib.closing(_outcomes(self.executor, work, itertools.chain([first], missing))) as outcomes:
            for outcome in outcomes:
                self.store.check()
                self._take(outcome, failed)
                self.watcher.advance(outcome)

    def _take(self, outcome: Outcome, failed: set[str]) -> None:
        """Store what came of a unit, unless its worker did; ``failed`` are those that an earlier run gave up."""
        unit = outcome.unit
        if outcome.error is not None:
            if unit.stage == "scale":  # what 'untouched' means must not depend on which worker had a bad day
                raise UnderfireError(f"The clean maps of '{unit.photos[0].path}' … cannot be measured: {outcome.error}")
            outcome.rows = rows.failed_rows(unit, self.classifier, outcome.error)
            self.store.put(FAILED, unit.name, outcome.rows, {}, provenance(outcome))
            return
        if not self.store.remote:
            self.store.put(unit.stage, unit.name, outcome.rows, outcome.files, outcome.meta)
        if unit.name in failed:
            self.store.discard(FAILED, unit.name)


def _rows(unit: Unit) -> int:
    """Judgements of a unit."""
    return len(unit.made) or len(unit.photos) * max(1, unit.job.rows)


def do_unit(store: Store, unit: Unit) -> Outcome:
    """What a worker does: the trial, and on an object store the writing too."""
    outcome = run_unit(unit)
    outcome.meta = provenance(outcome)
    if store.remote:
        store.put(unit.stage, unit.name, outcome.rows, outcome.files, outcome.meta)
        outcome.files = {}
    return outcome


def _outcomes(executor: Executor, work: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Generator[Outcome]:
    """What an executor gives; closing it, when the disk is full or on Ctrl-C, stops the executor's workers at once."""
    yield from executor.map(work, units)
