"""What all executors share: units drawn lazily, given to whoever is free, tried again when they fail.

No executor holds more units than it has workers, so a million of them take no memory, and it is always known which
unit a worker that died was on: only that one is charged with a try.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from underfire.core import Outcome, UnderfireError, Unit

TRIES = 3
HOPELESS = 10
"""So many units failing before any has succeeded: then it is not the units that are bad."""
Work: TypeAlias = Callable[[Unit], Outcome]


@dataclass(frozen=True)
class Failure:
    """Why a try came to nothing."""

    why: str


Result: TypeAlias = Outcome | Failure | UnderfireError


class Crew(Protocol):
    """Some workers, each with at most one unit."""

    @property
    def busy(self) -> bool:
        """Whether any of them has a unit."""

    @property
    def free(self) -> bool:
        """Whether one more unit can be given."""

    def give(self, unit: Unit) -> None:
        """Hand a unit to a free worker."""

    def wait(self) -> list[tuple[Unit, Result]]:
        """Wait until a worker is done or becomes free; what came of the units that are done."""

    def stop(self) -> None:
        """End the workers, whatever they do."""


class Crewed:
    """An executor whose workers stay, with their classifier, from one call of `map` to the next.

    Args:
        hire: makes the crew that does a kind of work.
    """

    def __init__(self, hire: Callable[[Work], Crew]) -> None:
        self._hire = hire
        self._crew: Crew | None = None
        self._work: Work | None = None

    def map(self, fn: Work, units: Iterator[Unit]) -> Iterator[Outcome]:
        """Outcomes as they finish; workers that were stopped in the middle of units do not stay."""
        if self._crew is None or self._work is not fn:
            self.close()
            self._crew, self._work = self._hire(fn), fn
        finished = False
        try:
            yield from stream(self._crew, units)
            finished = True
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """End the workers."""
        if self._crew is not None:
            self._crew.stop()
            self._crew = None


def attempt(work: Work, unit: Unit) -> Result:
    """One try, in the worker: an exception becomes a value that every process can be told."""
    try:
        return work(unit)
    except UnderfireError as e:
        return UnderfireError(str(e))  # subclasses need not survive pickling
    except Exception as e:  # whatever a third party's part, a library or the machine raises: the unit is tried again
        return Failure(f"{type(e).__name__}: {e}".rstrip(": "))


def stream(crew: Crew, units: Iterator[Unit]) -> Iterator[Outcome]:
    """Outcomes as they finish; a unit that failed `TRIES` times has an error in place of rows.

    Raises:
        UnderfireError: a mistake of the user's, which other units would meet too; or nothing at all succeeds.
    """
    tried: collections.Counter[str] = collections.Counter()
    again: list[Unit] = []
    succeeded = failed = 0
    while True:
        if not again:
            again += itertools.islice(units, 1)
        if not again and not crew.busy:
            return
        if again and crew.free:
            crew.give(again.pop(0))
            continue
        for unit, result in crew.wait():
            if isinstance(result, UnderfireError):
                raise result
            if isinstance(result, Outcome):
                succeeded += 1
                del tried[unit.name]
                yield result
                continue
            tried[unit.name] += 1
            if tried[unit.name] < TRIES:
                again.append(unit)
                continue
            failed += 1
            why = f"Failed {TRIES} times, the last with {result.why.rstrip('.')}. The same run command tries again."
            yield Outcome(unit, error=why)
            if failed == HOPELESS and not succeeded:
                raise UnderfireError(
                    f"The first {HOPELESS} units failed {TRIES} times each and none succeeded; the last one with: "
                    f"{result.why}"
                )
