"""What the executors' tests let workers do: no torch, so that a worker starts quickly. Importable by any process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from underfire.core import ForgeUnit, Job, Outcome, Photo, UnderfireError, Unit

JOB = Job("", "toy", None, ("cam",), {}, (), "fast", 8, "random", 0, 1, "fp32", "cpu")  # type: ignore[arg-type]


def units(n: int) -> Iterator[Unit]:
    for i in range(n):
        yield ForgeUnit(f"{i:06d}", (Photo(f"p{i}.png", "0"),), JOB, 1)


@dataclass(frozen=True)
class Trouble:
    """Work that goes wrong in the unit ``at``, in one ``way``, the first ``times`` times; ``notes`` keeps the tries."""

    notes: str
    way: str = ""
    at: int = 3
    times: int = 99

    def __call__(self, unit: Unit) -> Outcome:
        with (Path(self.notes) / f"{unit.name}").open("a") as f:
            f.write(f"{os.getpid()}\n")
        if self.way and int(unit.name) == self.at and self.tries(self.at) <= self.times:
            self._go_wrong()
        return Outcome(unit, rows=1 + int(unit.name))

    def tries(self, i: int) -> int:
        return len(self.workers(i))

    def workers(self, i: int) -> list[str]:
        return (Path(self.notes) / f"{i:06d}").read_text().split()

    def _go_wrong(self) -> None:
        if self.way == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
            time.sleep(60)
        raise {
            "memory": MemoryError(),
            "bug": ValueError("no such axis"),
            "mistake": UnderfireError("There is no such thing."),
        }[self.way]
