"""Protocols: what a classifier, an interpreter, an attack and a defense must do for the rest to work with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from underfire.core.types import ClassNames, Images, Labels, Maps, PerImage, Preprocess

if TYPE_CHECKING:
    from torch import Tensor


class Spent(Protocol):
    """What a count of passes comes to."""

    @property
    def passes(self) -> PerImage:
        """F spent on each image, float64 on the CPU; RuntimeError before the count is over."""


class Meter(Protocol):
    """Counts forward-equivalents F per image (method: one forward 1 F, a backward to the input 2 F).

    Outside of `counting` nothing is counted.
    """

    def counting(self, n: int) -> AbstractContextManager[Spent]:
        """Count what is spent inside on ``n`` images, all of them live; RuntimeError inside another count."""

    def aside(self) -> AbstractContextManager[None]:
        """Count nothing inside, also inside of `counting`: what is done once for a classifier is no image's cost."""

    def select(self, keep: Tensor) -> None:
        """Of the live images, only the rows ``keep`` (bool (N,)) cost anything from here on."""

    def charge(self, rows: int, cost: float = 1.0) -> None:
        """Add ``rows * cost`` F, shared equally by the live images."""

    def tap(self, x: Images, cost: float = 1.0) -> Images:
        """Return ``x`` so that a forward is charged now and 2 F for each backward that reaches ``x``."""


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
