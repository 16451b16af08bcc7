"""Steps of a study side by side: each has a thread here, and all of them share the same worker processes.

What a step does in this process it does by turns: another one goes on only while it waits for its units. So nothing
but the crew need be safe for threads.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TypeAlias

from underfire.core import Executor, Outcome, Unit, Workplace
from underfire.executors.local import GRACE, POLL, Local

Work: TypeAlias = Callable[[Executor | None], None]
"""What a step does, with the workers that all steps have; with None, by itself."""

SPARE = 1
"""Steps that run beyond the number of workers: while one of them looks at its classifier or writes its report here,
the others have enough units for all workers."""


@dataclass(frozen=True, eq=False)
class Step:
    """A step of a study.

    Args:
        work: what it does.
        after: steps that are done before.
    """

    work: Work
    after: Sequence[Step] = ()


class Crew:
    """The workers of a study.

    Args:
        workers: number of processes; 1: this one, and one step after the other.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._local = Local(Workplace(workers))
        self._turn = threading.Condition()
        self._left: list[Step] = []
        self._done: list[Step] = []

    def do(self, steps: Sequence[Step]) -> None:
        """Do all steps, some at once; of those that can start, the first one does.

        Raises:
            Exception: what the first step raises that fails; the others are stopped.
        """
        self._left += steps
        if self.workers == 1:
            while (step := self._first()) is not None:
                step.work(None)
                self._done.append(step)
            return
        ended: SimpleQueue[Exception | None] = SimpleQueue()
        threads = [
            threading.Thread(target=self._by_turns, args=(ended,), daemon=True) for _ in range(self.workers + SPARE)
        ]
        for one in threads:
            one.start()
        try:
            for _ in threads:
                if error := ended.get():
                    raise error
        except BaseException:  # Ctrl-C too
            self._left.clear()
            self.close()
            until = time.monotonic() + GRACE
            for one in threads:  # what hangs here, as somebody's classifier may, ends with the process
                one.join(max(0.0, until - time.monotonic()))
            raise

    def close(self) -> None:
        """End the workers, whatever they are doing."""
        self._local.close()

    def _by_turns(self, ended: SimpleQueue[Exception | None]) -> None:
        """Do steps until none is left, or one fails; tell the main thread, which alone hears Ctrl-C."""
        try:
            with self._turn:
                while self._left:
                    step = self._first()
                    if step is None:
                        self._turn.wait(POLL)
                        continue
                    step.work(_Share(self._local.share(), self._turn))
                    self._done.append(step)
                    self._turn.notify_all()
        except Exception as e:
            ended.put(e)
        else:
            ended.put(None)

    def _first(self) -> Step | None:
        """Take the first step that can start."""
        for step in self._left:
            if all(other in self._done for other in step.after):
                self._left.remove(step)
                return step
        return None


class _Share:
    """A step's share of the workers. While the step waits for them, another one has its turn."""

    def __init__(self, executor: Executor, turn: threading.Condition) -> None:
        self._executor, self._turn = executor, turn

    def map(self, fn: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Iterator[Outcome]:
        """Yield the outcomes as they finish."""
        with contextlib.closing(self._executor):
            outcomes = iter(self._executor.map(fn, units))
            while (outcome := self._next(outcomes)) is not None:
                yield outcome

    def _next(self, outcomes: Iterator[Outcome]) -> Outcome | None:
        self._turn.release()
        try:
            return next(outcomes, None)
        finally:
            self._turn.acquire()

    def close(self) -> None:
        """End the workers that have this step's units."""
        self._executor.close()
