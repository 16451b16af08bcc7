"""Units on this machine: in this process, or in several processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from underfire.core import Unit, Workplace
from underfire.executors.crew import CrewExecutor, Failure, Result, Work, attempt
from underfire.registry import register


@register("executors", "local")
class Local(CrewExecutor):
    """This process, or --workers N processes of this machine."""

    def __init__(self, workplace: Workplace) -> None:
        n = workplace.workers
        super().__init__(lambda work: Inline(work) if n == 1 else Processes(work, n))


class Inline:
    """A crew of one: this process."""

    def __init__(self, fn: Work) -> None:
        self._fn = fn
        self._unit: Unit | None = None

    @property
    def busy(self) -> bool:
        """Whether it has a unit."""
        return self._unit is not None

    @property
    def free(self) -> bool:
        """Whether it has none."""
        return self._unit is None

    def give(self, unit: Unit) -> None:
        """Keep the unit until somebody waits for it."""
        self._unit = unit

    def wait(self) -> list[tuple[Unit, Result]]:
        """Do the unit, and return its result."""
        unit, self._unit = self._unit, None
        return [] if unit is None else [(unit, attempt(self._fn, unit))]

    def stop(self) -> None:
        """Do nothing: there is no worker to end."""


class Hand:
    """A worker process, and the pipe to it."""

    def __init__(self, fn: Work) -> None:
        context = multiprocessing.get_context("spawn")  # forking a process with OpenMP threads hangs
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, fn), daemon=True)
        self.process.start()
        theirs.close()  # so that the pipe ends when the process ends

    def takes(self, unit: Unit) -> bool:
        """Send it a unit, and tell whether its process still reads."""
        try:
            self.pipe.send(unit)
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


class Processes:
    """A crew of processes, which start when they are needed.

    A process whose unit has failed is ended, and another one starts: this gives back its memory and its GPU, and one
    broken process does not make all units fail.
    """

    def __init__(self, fn: Work, n: int) -> None:
        self._fn, self._n = fn, n
        self._idle: list[Hand] = []
        self._busy: dict[Connection, tuple[Hand, Unit]] = {}

    @property
    def busy(self) -> bool:
        """Whether some process has a unit."""
        return bool(self._busy)

    @property
    def free(self) -> bool:
        """Whether some process has none."""
        return len(self._busy) < self._n

    def give(self, unit: Unit) -> None:
        """Give a unit to an idle process, or to a new one."""
        while self._idle:
            hand = self._idle.pop()
            if hand.takes(unit):
                self._busy[hand.pipe] = hand, unit
                return
            hand.stop()  # killed while it was idle
        hand = Hand(self._fn)
        self._busy[hand.pipe] = hand, unit
        hand.takes(unit)  # one that dies at its start ends its pipe: `wait` finds that, as a failure of this unit

    def wait(self) -> list[tuple[Unit, Result]]:
        """Wait for processes that are done or dead, and return their units with the results."""
        done: list[tuple[Unit, Result]] = []
        ready = set(wait(list(self._busy)))
        for pipe in [pipe for pipe in self._busy if pipe in ready]:
            hand, unit = self._busy.pop(pipe)
            result = hand.result()
            done.append((unit, result))
            if isinstance(result, Failure):
                hand.stop()
            else:
                self._idle.append(hand)
        return done

    def stop(self) -> None:
        """End all processes."""
        for hand in [*self._idle, *(hand for hand, _ in self._busy.values())]:
            hand.stop()


def _how(code: int | None) -> str:
    """Say an exit code in words."""
    if code == -signal.SIGKILL:
        return "killed, most likely because memory ran out: a smaller --batch-size or fewer --workers need less"
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


def _serve(pipe: Connection, fn: Work) -> None:
    """Do units in a worker, until the pipe ends. It leaves Ctrl-C to the driver, and ends with the driver."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()
    while True:
        try:
            unit = pipe.recv()
        except EOFError:
            return
        pipe.send(attempt(fn, unit))


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
