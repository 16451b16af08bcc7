"""Protocols: what a classifier, an interpreter and a defense must offer so that the rest can use them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from underfire.core.types import ClassNames, Images, Labels, Maps, PerImage, Preprocess

if TYPE_CHECKING:
    from torch import Tensor


class Spent(Protocol):
    """The result of a count of passes."""

    @property
    def passes(self) -> PerImage:
        """F spent on each image, float64 on the CPU; RuntimeError before the count is over."""


class Meter(Protocol):
    """A counter of forward-equivalents F for each image (method, section 4), which counts inside of `counting` only."""

    def counting(self, n: int) -> AbstractContextManager[Spent]:
        """Count what is spent on ``n`` images, all of them live, for the time of a `with` block.

        Raises:
            RuntimeError: another count is going on.
        """

    def aside(self) -> AbstractContextManager[None]:
        """Count nothing inside, also inside of `counting`: what is done once for a classifier is no image's cost."""

    def so_far(self) -> PerImage | None:
        """Return the F spent on each image so far, in the count of this thread; None where it does not count."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` (bool (N,)) of the live images: the others cost nothing from here on."""

    def charge(self, rows: int, cost: float = 1.0) -> None:
        """Add ``rows * cost`` F, shared equally by the live images."""

    def tap(self, x: Images, cost: float = 1.0) -> Images:
        """Return ``x`` so that a forward is charged now and 2 F for each backward that reaches ``x``."""


@runtime_checkable
class Classifier(Protocol):
    """A network under attack: images in [0, 1] in, logits out; weights frozen, passes counted (method, section 1)."""

    name: str
    """Its name in records."""
    digest: str
    """Digest of its weights and its input policy."""
    preprocess: Preprocess
    classes: ClassNames
    meter: Meter

    def logits(self, x: Images) -> Tensor:
        """Compute the logits (N, K) of images (N, 3, H, W) in [0, 1]; the normalisation is inside."""

    def features(self, x: Images) -> Tensor:
        """Compute the last feature maps (N, C, h, w).

        Raises:
            UnderfireError: the network has none that are pooled into a linear head.
        """

    def pyramid(self, x: Images) -> list[Tensor]:
        """Compute feature maps (N, C_s, h_s, w_s) at strides s from 4 to 32, finest first.

        The last ones are those of `features`: one forward serves `scores` and whatever reads the finer levels.

        Raises:
            UnderfireError: the network has none.
        """

    def scores(self, features: Tensor) -> Tensor:
        """Compute the logits (N, K) from `features`: one forward serves the prediction and the map."""

    @property
    def head(self) -> Tensor:
        """Weights (K, C) of the linear head over the pooled last features; UnderfireError as in `features`."""


@dataclass(frozen=True)
class Goal:
    """The goal of an attack: a class and a map for each image.

    Args:
        labels: target classes c_t.
        source: the classifier's own predictions on the clean images.
        maps: interpreter name -> target maps m_t.
        references: the images and the classes whose maps are the target maps; None where these are the clean images
            and their own classes, or nothing.
        drawn: whether the target maps are drawn (a shape, a file): then they are the maps of no image.
    """

    labels: Labels
    source: Labels
    maps: Mapping[str, Maps] = field(default_factory=dict)
    references: tuple[Images, Labels] | None = None
    drawn: bool = False

    def select(self, keep: Tensor) -> Goal:
        """Return the goal of the rows ``keep`` (bool (N,) or int indices)."""
        references = None if self.references is None else (self.references[0][keep], self.references[1][keep])
        maps = {name: m[keep] for name, m in self.maps.items()}
        return Goal(self.labels[keep], self.source[keep], maps, references, self.drawn)


class Terms(NamedTuple):
    """The results of one forward of a surrogate.

    Args:
        logits: (N, K), with a graph to the images.
        loss: ℓ_int of each image, with a graph.
        maps: the interpreter's real maps, where this forward has computed them (CAM, RTS: `Surrogate.shows`); else
            None, and the search asks the interpreter itself from time to time.
        twin: the maps with a graph, real or smoothed, where there are any: an alarm that compares maps is attacked
            through them.
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
        """Compute the logits, ℓ_int and, where they cost nothing more, the real maps, from one forward of ``x``."""

    def advance(self, x: Images, progress: float) -> None:
        """Move the inner state after a step from ``x``: MASK's inner mask, GRAD's τ. The others have none.

        Args:
            x: images (N, 3, H, W) before the step.
            progress: share of the search after its warm-up, in [0, 1].
        """

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` of the batch."""


@runtime_checkable
class Interpreter(Protocol):
    """An explanation of a classifier: what the analyst sees, and what the attacker can differentiate."""

    name: str
    digest: str
    """Digest of what its maps depend on beside the classifier and the options, such as trained weights; else ''."""
    map_passes: float
    """F of one map, for the estimate before a run; reports give what was metered."""
    step_passes: float
    """F of one step of an attack on prediction and map, likewise."""

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute the maps (N, h, w) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,).

        Raises:
            ImageErrors: images whose map cannot be computed.
        """

    def surrogate(self, x: Images, goal: Goal, **options: Any) -> Surrogate:
        """Start the attacker's side.

        Args:
            x: clean images (N, 3, H, W).
            goal: what the attack wants of them.
            options: settings from the attack's preset.
        """


class Defense(Protocol):
    """An alarm that a defender deploys beside a classifier: it looks at each image."""

    name: str
    digest: str
    """Digest of the file that it was built from."""
    threshold: float
    """Every score above it is an alarm."""
    passes: float
    """F of a look at one image."""

    @property
    def expected(self) -> float | None:
        """Share of benign images that raise an alarm, on average over calibrations; None: not known."""

    @property
    def bound(self) -> float | None:
        """Share that do at most, with 95 % confidence in its own calibration; None: not known."""

    def scores(self, x: Images) -> tuple[Tensor, PerImage, Mapping[str, Any]]:
        """Compute the logits (N, K), the scores (N,), and whatever it has looked at.

        The scores are those of the classifier's own predictions.
        """


def kind_of(classifier: Classifier) -> str:
    """Give the kind of a classifier's head: what it says as ``head_kind``; one that says nothing has a softmax."""
    return str(getattr(classifier, "head_kind", "softmax"))
