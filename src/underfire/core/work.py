"""Work: what an audit's units hold, and what an executor gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from underfire.core.protocols import Attack
from underfire.core.types import ClassifierOptions, Photo, TargetMap

if TYPE_CHECKING:
    from underfire.core.record import Record


@dataclass(frozen=True)
class Cell:
    """One attack of an audit, and the interpreter it is made against (None: the prediction alone)."""

    attack: Attack
    against: str | None


@dataclass(frozen=True)
class Job:
    """What all units of an audit share; picklable, so that a worker can rebuild the victim from it.

    Args:
        source: the images folder, file or 'demo'.
        classifier: its name, with a variant after a colon where it takes one.
        options: own weights and input policy.
        interpreters: names of the judges.
        interpreter_options: name -> options of its maker.
        cells: the attacks.
        preset: the preset's name, for the record.
        eps: L∞ budget in whole levels.
        target: 'random', 'least-likely' or a class index.
        seed: of every random choice, together with the image's digest.
        threads: CPU threads a worker uses.
        precision: 'fp32' or 'bf16' in the search; the judge is always float32.
        device: 'cpu', 'cuda' or 'mps'.
        scale: interpreter -> map_l1 up to which a map counts as untouched.
        target_map: where the target maps come from.
        defense: the kind of the alarm beside the classifier; 'none' without one.
        defense_file: its file.
    """

    source: str
    classifier: str
    options: ClassifierOptions
    interpreters: tuple[str, ...]
    interpreter_options: Mapping[str, Mapping[str, Any]]
    cells: tuple[Cell, ...]
    preset: str
    eps: int
    target: str | int
    seed: int
    threads: int
    precision: str
    device: str
    scale: Mapping[str, float] = field(default_factory=dict)
    target_map: TargetMap = TargetMap()
    defense: str = "none"
    defense_file: str = ""

    @property
    def rows(self) -> int:
        """Judgements that each image gets."""
        return sum(1 if cell.against else len(self.interpreters) for cell in self.cells)


@dataclass(frozen=True)
class Unit:
    """What one worker does at a time: some images, and a name that is unique to the result.

    ``batch`` of the images share a batch; 0: all of them. ``partners`` are the photos whose maps are the target maps,
    one for each photo, where they come from photos; ``made`` the records of PNGs that exist, where they are only to be
    judged again.
    """

    name: str
    stage: str
    photos: tuple[Photo, ...]
    job: Job
    partners: tuple[Photo, ...] = ()
    made: tuple[Record, ...] = ()
    batch: int = 0


@dataclass
class Outcome:
    """What came of a unit: rows for the store, and files to lie beside them.

    ``meta`` is what belongs to the part and not to the results: host, date, versions. ``error`` says why nothing came
    of it, after as many tries as a unit gets.
    """

    unit: Unit
    rows: list[Any]
    files: dict[str, bytes]
    seconds: float = 0.0
    meta: dict[str, str] = field(default_factory=dict)
    error: str | None = None


@dataclass(frozen=True)
class Workplace:
    """What an executor is told of the machines.

    Args:
        workers: how many work at a time.
        threads: CPU threads each of them uses.
        device: what they compute on.
        address: of a cluster, where the executor knows one.
        gpus: of each worker, fractions share one; None: one each on 'cuda', else none.
    """

    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    address: str | None = None
    gpus: float | None = None


class Executor(Protocol):
    """Runs units somewhere."""

    def map(self, fn: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Iterator[Outcome]:
        """Outcomes as they finish, in any order; ``units`` is drawn from lazily."""

    def close(self) -> None:
        """End the workers: no more `map`."""
