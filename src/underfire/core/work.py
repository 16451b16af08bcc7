"""Work: what an audit's units hold, and what an executor gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from underfire.core.protocols import Attack
from underfire.core.types import ClassifierOptions, Limits, Photo, TargetMap

if TYPE_CHECKING:
    from underfire.core.record import Record, Scale


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
        target_map: where the target maps come from.
        defense: the kind of the alarm beside the classifier; 'none' without one.
        defense_file: its file.
        limits: how large a photo may be.
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
    target_map: TargetMap = TargetMap()
    defense: str = "none"
    defense_file: str = ""
    limits: Limits = Limits()

    @property
    def rows(self) -> int:
        """Judgements that each image gets."""
        return sum(1 if cell.against else len(self.interpreters) for cell in self.cells)


@dataclass(frozen=True)
class ScaleUnit:
    """Measure what JPEG does to the clean maps of some photos.

    Args:
        name: unique to the result.
        photos: whose maps.
        job: who is asked.
        batch: photos that share a batch.
    """

    stage: ClassVar[str] = "scale"
    name: str
    photos: tuple[Photo, ...]
    job: Job
    batch: int

    @property
    def size(self) -> int:
        """Rows that come of it."""
        return len(self.photos) * len(self.job.interpreters)


@dataclass(frozen=True)
class ForgeUnit:
    """Forge pictures of some photos, and judge them.

    Args:
        name: unique to the result.
        photos: what is attacked.
        job: who is attacked, and how.
        batch: photos that share a batch.
        partners: the photos whose maps are the target maps, one for each photo, where they come from photos.
    """

    stage: ClassVar[str] = "records"
    name: str
    photos: tuple[Photo, ...]
    job: Job
    batch: int
    partners: tuple[Photo, ...] = ()

    @property
    def size(self) -> int:
        """Rows that come of it."""
        return len(self.photos) * self.job.rows


@dataclass(frozen=True)
class JudgeUnit:
    """Show pictures that exist to a judge that they were not made against.

    Args:
        name: unique to the result.
        photos: what the pictures were made of.
        job: who judges.
        made: the records of the pictures.
    """

    stage: ClassVar[str] = "transfer"
    name: str
    photos: tuple[Photo, ...]
    job: Job
    made: tuple[Record, ...]

    @property
    def size(self) -> int:
        """Rows that come of it."""
        return len(self.made) * len(self.job.interpreters)


Unit: TypeAlias = ScaleUnit | ForgeUnit | JudgeUnit
"""What one worker does at a time; ``stage`` is the folder that its rows go to."""


@dataclass(frozen=True)
class UnitResult:
    """What came of a unit, for the store.

    Args:
        rows: Records or Scales.
        files: name -> bytes of what lies beside them.
    """

    rows: Sequence[Record] | Sequence[Scale]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Outcome:
    """How a unit went; its rows are in the store.

    Args:
        unit: what was done.
        rows: how many rows came of it.
        good: how many of them have a result.
        reached: how many of them reached the target class.
        seconds: what it took.
        error: why nothing came of it, after as many tries as a unit gets.
    """

    unit: Unit
    rows: int = 0
    good: int = 0
    reached: int = 0
    seconds: float = 0.0
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
