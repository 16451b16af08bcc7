"""Units on this machine: in this process, or in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from underfire.core import Unit, Workplace
from underfire.executors.crew import CrewExecutor, Failure, Result, Work, attempt
from underfire.registry import register

GRACE = 5.0
"""Seconds that an idle process has to end by itself."""
POLL = 0.2
"""Seconds after which a crew looks whether another crew has left a worker free."""


@register("executors", "local")
class Local(CrewExecutor):
    """This process, or --workers N processes of this machine."""

    def __init__(self, workplace: Workplace) -> None:
        n = workplace.workers
        self._hands = Hands(n)
        super().__init__(lambda work: Inline(work) if n == 1 else Processes(work, self._hands))

    def share(self) -> CrewExecutor:
        """Make an executor for another thread, with the same processes. This one's `close` ends all of them."""
        return CrewExecutor(lambda work: Processes(work, self._hands))

    def close(self) -> None:
        """End the workers."""
        super().close()
        self._hands.stop()


class Inline:
    """A crew of one: this process."""

    def __init__(self, fn: Work) -> None:
        self._fn = fn
        self._unit: Unit | None = None

    @property
    def busy(self) -> bool:
        """Whether it has a unit."""
        return self._unit is not None

    def give(self, unit: Unit) -> bool:
        """Keep the unit until somebody waits for it; tell whether it had none."""
        if self._unit is None:
            self._unit = unit
            return True
        return False

    def wait(self) -> list[tuple[Unit, Result]]:
        """Do the unit, and return its result."""
        unit, self._unit = self._unit, None
        return [] if unit is None else [(unit, attempt(self._fn, unit))]

    def stop(self) -> None:
        """Do nothing: there is no worker to end."""


class Hand:
    """A worker process, and the pipe to it."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with OpenMP threads hangs
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the process ends

    def takes(self, fn: Work, unit: Unit) -> bool:
        """Send it a unit and what it does with it, and tell whether its process still reads."""
        try:
            self.pipe.send((fn, unit))
        except OSError:
            return False
        return True

    def result(self) -> Result:
        """Receive the result of its unit; a failure where the process has ended."""
        try:
            result: Result = self.pipe.recv()
        except (EOFError, OSError):
            self.process.join()
            return Failure(f"the end of its worker process ({_how(self.process.exitcode)})")
        return result

    def stop(self) -> None:
        """End the process, whatever it is doing."""
        self.process.terminate()
        self.process.join()
        self.process.close()
        self.pipe.close()

    def leave(self) -> None:
        """Let the process, which has no unit, end by itself: so it gives back what others are warned of else."""
        self.pipe.close()
        self.process.join(GRACE)
        self.stop()


class EndedError(Exception):
    """The workers have been ended, and are asked to work."""


class Hands:
    """Worker processes that start when they are needed, at most ``n``; crews in several threads may share them.

    A process whose unit has failed is ended, and another one starts: this gives back its memory and its GPU, and one
    broken process does not make all units fail.
    """

    def __init__(self, n: int) -> None:
        self._left = threading.Semaphore(n)
        self._lock = threading.Lock()
        self._idle: list[Hand] = []
        self._busy: list[Hand] = []
        self._ended = False

    def take(self, fn: Work, unit: Unit) -> Hand | None:
        """Give a unit to an idle process, or to a new one; None where all have units.

        Raises:
            EndedError: after `stop`.
        """
        if not self._left.acquire(blocking=False):
            return None
        while (hand := self._idle_one()) is not None:
            if hand.takes(fn, unit):
                return self._noted(hand)
            hand.stop()  # killed while it was idle
        hand = self._noted(Hand())
        hand.takes(fn, unit)  # one that dies at its start ends its pipe: it is found as a failure of this unit
        return hand

    def give_back(self, hand: Hand, works: bool) -> None:
        """Take back a process that has no unit any more; it is ended if it does not work."""
        with self._lock:
            self._busy.remove(hand)
            works = works and not self._ended
            if works:
                self._idle.append(hand)
        if not works:
            hand.stop()
        self._left.release()

    def stop(self) -> None:
        """End all processes, for good; units that they have come back to their crews as failures."""
        with self._lock:
            self._ended = True
            idle, self._idle = self._idle, []
            for hand in self._busy:
                hand.process.terminate()  # its crew, which waits for it, does the rest
        for hand in idle:
            hand.pipe.close()  # of all of them first: they take half a second each
        for hand in idle:
            hand.leave()

    def _idle_one(self) -> Hand | None:
        with self._lock:
            if self._ended:
                self._left.release()
                raise EndedError
            return self._idle.pop() if self._idle else None

    def _noted(self, hand: Hand) -> Hand:
        with self._lock:
            self._busy.append(hand)
            if self._ended:  # in between: nobody else ends it
                hand.process.terminate()
        return hand


class Processes:
    """A crew of processes.

    Args:
        fn: what they do with a unit.
        hands: the processes, which other crews may have too.
    """

    def __init__(self, fn: Work, hands: Hands) -> None:
        self._fn, self._hands = fn, hands
        self._busy: dict[Connection, tuple[Hand, Unit]] = {}

    @property
    def busy(self) -> bool:
        """Whether some process has a unit of this crew's."""
        return bool(self._busy)

    def give(self, unit: Unit) -> bool:
        """Give a unit to a process, and tell whether one was free."""
        hand = self._hands.take(self._fn, unit)
        if hand is not None:
            self._busy[hand.pipe] = hand, unit
        return hand is not None

    def wait(self) -> list[tuple[Unit, Result]]:
        """Wait a little for processes that are done or dead, and return their units with the results."""
        done: list[tuple[Unit, Result]] = []
        if not self._busy:  # others have all of them
            time.sleep(POLL)
        ready = set(wait(list(self._busy), POLL)) if self._busy else set()
        for pipe in [pipe for pipe in self._busy if pipe in ready]:
            hand, unit = self._busy.pop(pipe)
            result = hand.result()
            done.append((unit, result))
            self._hands.give_back(hand, not isinstance(result, Failure))
        return done

    def stop(self) -> None:
        """End the processes that have units."""
        while self._busy:
            _, (hand, _) = self._busy.popitem()
            self._hands.give_back(hand, works=False)


def _how(code: int | None) -> str:
    """Say an exit code in words."""
    if code == -signal.SIGKILL:
        return "killed, most likely because memory ran out: a smaller --batch-size or fewer --workers need less"
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _serve(pipe: Connection) -> None:
    """Do units in a worker, until the pipe ends. It leaves Ctrl-C to the driver, and ends with the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    while True:
        try:
            fn, unit = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(fn, unit))


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
