"""The vocabulary of underfire: shapes, value types, protocols and errors. Imports no torch at run time.

Shapes are written as in the paper: N images of height H and width W, K classes, C feature channels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, TypeAlias, TypeVar, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor

    from underfire.record import Record

Images: TypeAlias = "Tensor"
"""(N, 3, H, W) float in [0, 1]."""
Labels: TypeAlias = "Tensor"
"""(N,) int64 class indices."""
Maps: TypeAlias = "Tensor"
"""(N, h, w) float in [0, 1], at the interpreter's native size."""
PerImage: TypeAlias = "Tensor"
"""(N,) one number an image."""

LEVELS = 255
"""8-bit pixels have this many steps between black and white; budgets are whole steps of it."""

T = TypeVar("T")


def evenly(items: Sequence[T], n: int | None) -> tuple[T, ...]:
    """``n`` of the items, evenly spaced from the first on, or all."""
    if n is None or n >= len(items):
        return tuple(items)
    return tuple(items[i * len(items) // n] for i in range(n))


class UnderfireError(Exception):
    """A mistake the user can mend: one clear sentence with the user's own words in it and what to do."""


class ImageErrors(UnderfireError):  # noqa: N818 (it carries several)
    """Some images of a batch cannot be worked on; the others can.

    Args:
        by_row: row in the batch -> the sentence that says what is wrong with that image.
    """

    def __init__(self, by_row: Mapping[int, str]) -> None:
        self.by_row = dict(by_row)
        super().__init__("; ".join(dict.fromkeys(self.by_row.values())))


@dataclass(frozen=True)
class Preprocess:
    """How a photo becomes a classifier's input.

    Args:
        input_size: side of the square input, px.
        resize: length the photo's shorter side is resized to before the centre crop, px.
        mean: subtracted from each colour channel in [0, 1].
        std: each channel is divided by this.
        interpolation: one of bilinear, bicubic, lanczos, nearest.
    """

    spelled: ClassVar[str] = "Preprocess"
    input_size: int
    resize: int
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    interpolation: str = "bicubic"


@dataclass(frozen=True)
class ClassNames:
    """What a classifier's outputs are called.

    Args:
        names: one human-readable name for each output.
        ids: one WordNet id (or other unique id) for each output; empty where there are none.
    """

    names: tuple[str, ...]
    ids: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class ClassifierOptions:
    """One's own weights and input policy for a named architecture; None keeps the architecture's.

    Args:
        weights: a safetensors file or a checkpoint without code.
        input_size: side of the square input, px.
        resize: length of the shorter side before the crop, px.
        mean: per colour channel.
        std: per colour channel.
        classes: a file of class names.
    """

    weights: str | None = None
    input_size: int | None = None
    resize: int | None = None
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    classes: str | None = None


class Meter(Protocol):
    """Counts forward-equivalents F per image (method: one forward 1 F, a backward to the input 2 F)."""

    def open(self, n: int) -> None:
        """Start a new ledger for a batch of ``n`` images, all of them live."""

    def select(self, keep: Tensor) -> None:
        """Of the live images, only the rows ``keep`` (bool (N,)) cost anything from here on."""

    def charge(self, rows: int, cost: float = 1.0) -> None:
        """Add ``rows * cost`` F, shared equally by the live images."""

    def tap(self, x: Images, cost: float = 1.0) -> Images:
        """Return ``x`` so that a forward is charged now and 2 F for each backward that reaches ``x``."""

    def close(self) -> list[float]:
        """F spent on each of the ``n`` images since `open`."""


@runtime_checkable
class Classifier(Protocol):
    """Pixels in [0, 1] in, logits out; normalisation inside, weights frozen, passes counted."""

    name: str
    digest: str
    preprocess: Preprocess
    classes: ClassNames
    meter: Meter

    def logits(self, x: Images) -> Tensor:
        """Class scores (N, K) before any softmax."""

    def features(self, x: Images) -> Tensor:
        """Last feature maps (N, C, h, w); UnderfireError where the network has none."""

    def pyramid(self, x: Images) -> list[Tensor]:
        """Feature maps at strides 4 to 32, finest first; UnderfireError where the network has none.

        The last ones are those of `features`: one forward serves `scores` and whatever reads the finer levels.
        """

    def scores(self, features: Tensor) -> Tensor:
        """Logits (N, K) from `features`: one forward serves the prediction and the map."""

    @property
    def head(self) -> Tensor:
        """Weights (K, C) of the linear head over the pooled last features."""


@dataclass(frozen=True)
class Goal:
    """What an attack wants: a class and a map for each image.

    Args:
        labels: target classes c_t.
        source: the classifier's own prediction on the clean images.
        maps: interpreter name -> target maps m_t.
        models: the images and classes whose maps the target maps are, where those are not the clean images for their
            own class.
        drawn: the target maps are no map of anything: a shape, a file.
    """

    labels: Labels
    source: Labels
    maps: Mapping[str, Maps] = field(default_factory=dict)
    models: tuple[Images, Labels] | None = None
    drawn: bool = False

    def select(self, keep: Tensor) -> Goal:
        """The goal of the rows ``keep`` (bool (N,) or int indices)."""
        models = None if self.models is None else (self.models[0][keep], self.models[1][keep])
        maps = {name: m[keep] for name, m in self.maps.items()}
        return Goal(self.labels[keep], self.source[keep], maps, models, self.drawn)


class Terms(NamedTuple):
    """What one forward of a surrogate gives the attacker.

    ``maps`` are the interpreter's real maps where this forward already computed them (CAM, RTS: `Surrogate.shows`),
    else None: then the search asks the interpreter itself from time to time. ``twin`` is what stands for the map with a
    gradient, where there is such a thing: an alarm that compares maps is attacked through it.
    """

    logits: Tensor
    loss: PerImage
    maps: Maps | None
    twin: Maps | None = None


class Surrogate(Protocol):
    """The attacker's differentiable stand-in for one interpreter on one batch."""

    @property
    def shows(self) -> bool:
        """Whether the next `terms` bring the real maps, so that the search need not ask the interpreter."""

    def terms(self, x: Images) -> Terms:
        """Logits, ℓ_int per image and, where free, the real maps, from one forward of ``x``."""

    def advance(self, x: Images, progress: float) -> None:
        """Move inner state after a step from ``x`` (MASK's inner mask, GRAD's τ); nothing for the others.

        ``progress`` in [0, 1] of the search after its warm-up.
        """

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` of the batch."""


@runtime_checkable
class Interpreter(Protocol):
    """Explains a classifier: what the analyst sees, and what the attacker may differentiate."""

    name: str
    digest: str
    """Of what its maps depend on beside the classifier and the options, such as trained weights; '' where nothing."""
    map_passes: float
    """F that one map costs: for the estimate before a run; what is reported is metered."""
    step_passes: float
    """F that one step of an attack on prediction and map costs, likewise."""

    def explain(self, x: Images, y: Labels) -> Maps:
        """Attribution maps of ``x`` for classes ``y``; ImageErrors where a map cannot be computed."""

    def surrogate(self, x: Images, goal: Goal, **options: Any) -> Surrogate:
        """The attacker's side: starts at the clean images ``x``. ``options`` come from the attack's preset."""


@dataclass(frozen=True)
class Victim:
    """The system under attack: a classifier and the interpreters an attack is made against."""

    classifier: Classifier
    interpreters: tuple[Interpreter, ...] = ()


class SearchWalk(Protocol):
    """One batch's live position in a search space."""

    def images(self) -> Images:
        """The images at the position, as a leaf that gradients are taken at."""

    def measures(self) -> Mapping[str, PerImage]:
        """Further columns of the record, by name, at the position of the last `images`."""

    def step(self, loss: PerImage, progress: float) -> None:
        """Move so that ``loss`` (of the last `images`) falls; ``progress`` in [0, 1) of the whole search."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` of the batch."""


class Perturbation(Protocol):
    """A search space: the L∞ ball or a flow field."""

    def walk(self, x: Images) -> SearchWalk:
        """Start at the clean images ``x``."""


@dataclass
class Found:
    """What an attack returns; the framework measures it again.

    Args:
        images: adversarial images, on the 8-bit grid and inside the budget.
        steps: (N,) steps taken for each image.
        extras: further columns of the record, (N,) each.
    """

    images: Images
    steps: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)


class Attack(Protocol):
    """Frozen settings of an attack; a frozen dataclass, since its fields go into the key of its results."""

    @property
    def name(self) -> str:
        """Its name in the registry and in records."""

    @property
    def fools_interpreter(self) -> bool:
        """False for attacks on the prediction alone: forged once, judged by every interpreter named."""

    @property
    def eps(self) -> int | None:
        """L∞ budget in whole levels; None for a search space with another bound."""

    def bound(self, step_passes: float) -> float:
        """F an image at most, where a step on prediction and map costs ``step_passes``: for the estimate."""

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Search adversarial images for the clean images ``x``; ``seeds`` has one number an image."""


class Defense(Protocol):
    """Something a defender deploys beside a classifier: it looks at each image and may raise an alarm."""

    name: str
    digest: str
    """Of the file it was built from."""
    threshold: float
    """A score above it is an alarm."""
    passes: float
    """F that a look at an image costs."""

    def scores(self, x: Images) -> tuple[Tensor, PerImage, Mapping[str, Any]]:
        """Logits (N, K), scores (N,) and whatever it looked at; an image's class is the classifier's prediction."""


@dataclass(frozen=True)
class Photo:
    """One input image: its path below the images folder, and the SHA-256 of its file."""

    path: str
    sha256: str


@dataclass(frozen=True)
class Cell:
    """One attack of an audit, and the interpreter it is made against (None: the prediction alone)."""

    attack: Attack
    against: str | None


@dataclass(frozen=True)
class TargetMap:
    """Where target maps m_t come from; see `underfire.goals`.

    Args:
        kind: 'benign', 'class', 'image', 'shape' or 'file'.
        value: a class index, a path or a shape; 'random' for a class or photo of each image's own.
        digest: SHA-256 of the file, where it is one.
    """

    kind: str = "benign"
    value: str | int = ""
    digest: str = ""

    @property
    def drawn(self) -> bool:
        """The map of no image."""
        return self.kind in ("shape", "file")

    @property
    def key(self) -> str:
        """All that changes numbers."""
        return f"{self.kind}:{self.digest or self.value}".removesuffix(":")

    @property
    def word(self) -> str:
        """What a record says: of a path only its last part."""
        value = str(self.value)
        return f"{self.kind}:{PurePath(value).name if self.digest else value}".removesuffix(":")


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
