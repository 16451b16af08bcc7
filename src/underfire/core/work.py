"""The work of an audit: its units, and what an executor gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias

from underfire.core.attack import Attack
from underfire.core.types import ClassifierOptions, Limits, Photo, TargetMap

if TYPE_CHECKING:
    from underfire.core.record import Record, Scale


@dataclass(frozen=True)
class Cell:
    """One attack of an audit.

    Args:
        attack: the attack.
        against: the interpreter that it is made against; None: the prediction alone.
        smallest: whether its budget is the largest of those of which the smallest that forges is searched.
    """

    attack: Attack
    against: str | None
    smallest: bool = False


@dataclass(frozen=True)
class Job:
    """The settings that all units of an audit share; picklable, so that a worker can build the victim from them.

    Args:
        source: the folder of photos, a file, a URL or 'demo'.
        classifier: its name, with a variant after a colon where it takes one.
        options: the user's own weights and input policy.
        interpreters: names of the judging interpreters.
        interpreter_options: name -> options of its maker.
        cells: the attacks.
        preset: name of the preset, for records.
        eps: L∞ budget in whole levels of 255.
        target: 'random', 'least-likely', 'nearest' or a class index.
        seed: seed of every random choice, together with the photo's digest.
        threads: CPU threads of a worker.
        precision: that of the search, as `core.precision` has it; the judge is always float32.
        device: 'cpu', 'cuda' or 'mps'.
        target_map: source of the target maps.
        defense: kind of the alarm beside the classifier; 'none' without one.
        defense_file: file of the alarm; '' without one.
        limits: how large a photo may be.
        at: what is forged: 'file', or 'input'.
        save_as: how forged files are saved, as --save-as.
        through: what platforms are expected to do to them, as --through; '' for nothing.
        rulers: interpreter -> what tells forged pictures (`metrics.verdict`) while the smallest budget is searched.
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
    at: str = "input"
    save_as: str = "png"
    through: str = ""
    rulers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Number of judgements of each image."""
        return sum(1 if cell.against else len(self.interpreters) for cell in self.cells)


@dataclass(frozen=True)
class ScaleUnit:
    """A unit that measures what JPEG does to the clean maps of some photos (method, section 5.5).

    Args:
        name: a name that no other unit has; it holds the digest of everything that changes a number.
        photos: the photos whose maps are measured.
        job: the classifier and the interpreters.
        batch: number of photos that share a batch.
    """

    stage: ClassVar[str] = "scale"
    name: str
    photos: tuple[Photo, ...]
    job: Job
    batch: int

    @property
    def size(self) -> int:
        """Number of its rows."""
        return len(self.photos) * len(self.job.interpreters)


@dataclass(frozen=True)
class ForgeUnit:
    """A unit that forges adversarial images of some photos, and judges them.

    Args:
        name: as in `ScaleUnit`.
        photos: the photos that are attacked.
        job: the victim and the attacks.
        batch: number of photos that share a batch.
        references: the photos whose maps are the target maps, one for each photo; empty where the target maps are no
            maps of photos.
    """

    stage: ClassVar[str] = "records"
    name: str
    photos: tuple[Photo, ...]
    job: Job
    batch: int
    references: tuple[Photo, ...] = ()

    @property
    def size(self) -> int:
        """Number of its rows."""
        return len(self.photos) * self.job.rows


@dataclass(frozen=True)
class JudgeUnit:
    """A unit that shows existing adversarial images to a judge that they were not made against.

    Args:
        name: as in `ScaleUnit`.
        photos: the photos that the images were made of.
        job: the judge.
        made: the records of the images.
    """

    stage: ClassVar[str] = "transfer"
    name: str
    photos: tuple[Photo, ...]
    job: Job
    made: tuple[Record, ...]

    @property
    def size(self) -> int:
        """Number of its rows."""
        return len(self.made) * len(self.job.interpreters)


Unit: TypeAlias = ScaleUnit | ForgeUnit | JudgeUnit
"""The work that one worker does at a time; ``stage`` is the folder that its rows go to."""


@dataclass(frozen=True)
class UnitResult:
    """The results of a unit, for the store.

    Args:
        rows: Records or Scales.
        files: name -> bytes of the files that lie beside them.
    """

    rows: Sequence[Record] | Sequence[Scale]
    files: Mapping[str, bytes]


@dataclass(frozen=True)
class Outcome:
    """The account of a unit; its rows are in the store.

    Args:
        unit: the unit.
        rows: number of its rows.
        good: number of rows with a result.
        reached: number of rows that reached the target class.
        seconds: wall time.
        error: why the unit failed, after as many tries as a unit gets; None for a unit that is done.
    """

    unit: Unit
    rows: int = 0
    good: int = 0
    reached: int = 0
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Workplace:
    """The workers that an executor shall have.

    Args:
        workers: number of workers.
        threads: CPU threads of each worker.
        device: what they compute on: 'cpu', 'cuda' or 'mps'.
        address: address of the cluster, for an executor on one.
        gpus: GPUs of each worker; workers with fractions share one. None means one each on 'cuda', else none.
    """

    workers: int = 1
    threads: int = 1
    device: str = "cpu"
    address: str | None = None
    gpus: float | None = None


class Executor(Protocol):
    """A way to run units on some machines."""

    def map(self, fn: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Iterator[Outcome]:
        """Yield the outcomes as they finish, in any order; units are taken only when a worker is free.

        Args:
            fn: what a worker does with a unit.
            units: the units.

        Raises:
            UnderfireError: a mistake of the user's.
        """

    def close(self) -> None:
        """End the workers; `map` is not called again."""
