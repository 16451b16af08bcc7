"""The crew that all executors share: a free worker gets the next unit, and a unit that fails is tried again.

An executor never holds more units than it has workers. So a million units take no memory, and when a worker dies, its
unit is known: only this unit has lost a try.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from underfire.core import Outcome, UnderfireError, Unit

TRIES = 3
"""Number of tries of a unit."""
Work: TypeAlias = Callable[[Unit], Outcome]
"""What a worker does with a unit."""


@dataclass(frozen=True)
class Failure:
    """The failure of a try.

    Args:
        why: the reason, in words.
    """

    why: str


Result: TypeAlias = Outcome | Failure | UnderfireError
"""The result of a try."""


class Crew(Protocol):
    """Some workers, each with at most one unit."""

    @property
    def busy(self) -> bool:
        """Whether any worker has a unit."""

    def give(self, unit: Unit) -> bool:
        """Give a unit to a free worker, and tell whether there was one."""

    def wait(self) -> list[tuple[Unit, Result]]:
        """Wait until a worker is done or may be free, and return the units that are done, with their results."""

    def stop(self) -> None:
        """End the workers, whatever they are doing."""


class CrewExecutor:
    """An executor whose workers stay, with their classifier, from one call of `map` to the next.

    Args:
        hire: function that makes the crew for a kind of work.
    """

    def __init__(self, hire: Callable[[Work], Crew]) -> None:
        self._hire = hire
        self._crew: Crew | None = None
        self._work: Work | None = None

    def map(self, fn: Work, units: Iterator[Unit]) -> Iterator[Outcome]:
        """Yield the outcomes as they finish; workers that are stopped in the middle of a unit are ended.

        Raises:
            UnderfireError: as in `stream`.
        """
        if self._crew is None or self._work is not fn:
            self._dismiss()
            self._crew, self._work = self._hire(fn), fn
        finished = False
        try:
            yield from stream(self._crew, units)
            finished = True
        finally:
            if not finished:
                self._dismiss()

    def close(self) -> None:
        """End the workers."""
        self._dismiss()

    def _dismiss(self) -> None:
        if self._crew is not None:
            self._crew.stop()
            self._crew = None


def attempt(work: Work, unit: Unit) -> Result:
    """Try a unit, in the worker; an exception becomes a value that can be sent to another process."""
    try:
        return work(unit)
    except UnderfireError as e:
        return UnderfireError(str(e))  # subclasses may not survive pickling
    except Exception as e:  # another package's part, a library or the machine may raise anything: it is tried again
        return Failure(f"{type(e).__name__}: {e}".rstrip(": "))


def stream(crew: Crew, units: Iterator[Unit]) -> Iterator[Outcome]:
    """Yield the outcomes as they finish; a unit that has failed `TRIES` times has an error in place of rows.

    Raises:
        UnderfireError: a mistake of the user's, which other units would meet too.
    """
    tried: collections.Counter[str] = collections.Counter()
    again: list[Unit] = []
    while True:
        if not again:
            again += itertools.islice(units, 1)
        if not again and not crew.busy:
            return
        if again and crew.give(again[0]):
            del again[0]
            continue
        for unit, result in crew.wait():
            if isinstance(result, UnderfireError):
                raise result
            if isinstance(result, Outcome):
                del tried[unit.name]
                yield result
                continue
            tried[unit.name] += 1
            if tried[unit.name] < TRIES:
                again.append(unit)
                continue
            why = f"Failed {TRIES} times, the last with {result.why.rstrip('.')}. The same run command tries again."
            yield Outcome(unit, error=why)
