"""The protocol of an attack: what it is made against, the space that it searches, and what it returns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from underfire.core.door import Files
from underfire.core.protocols import Classifier, Goal, Interpreter
from underfire.core.types import Images, PerImage
from underfire.core.watch import Watcher

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Victim:
    """The system under attack: a classifier, and the interpreters that an attack is made against.

    Args:
        classifier: what is attacked.
        interpreters: who explains it.
        files: the files that are forged, behind the classifier's front door; None where its input is forged.
        watcher: who watches the search; an attack of one's own may pass it over.
    """

    classifier: Classifier
    interpreters: tuple[Interpreter, ...] = ()
    files: Files | None = None
    watcher: Watcher | None = None


class SearchWalk(Protocol):
    """The present position of one batch in a search space."""

    def images(self) -> Images:
        """Return the images (N, 3, H, W) at the position, as a leaf of a new graph."""

    def measures(self) -> Mapping[str, PerImage]:
        """Return further columns of the record, by name, at the position of the last `images`."""

    def step(self, loss: PerImage, progress: float) -> None:
        """Move so that the loss falls.

        Args:
            loss: (N,) with a graph to the last `images`.
            progress: share of the whole search, in [0, 1).
        """

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` of the batch."""


class Perturbation(Protocol):
    """A search space: the L∞ ball or a flow field."""

    def walk(self, x: Images) -> SearchWalk:
        """Start at the clean images ``x`` (N, 3, H, W)."""


@dataclass
class Found:
    """The result of an attack; the framework measures it again.

    Args:
        images: adversarial images (N, 3, H, W), in whole levels and inside the budget.
        steps: (N,) number of steps of each image.
        extras: further columns of the record, (N,) each.
        parts: (N,) where files are forged, what became of `Files.clean`: (1, 3, h, w) each in whole levels.
    """

    images: Images
    steps: Tensor
    extras: Mapping[str, Tensor] = field(default_factory=dict)
    parts: Sequence[Tensor] = ()


class Attack(Protocol):
    """The settings of an attack: a frozen dataclass, since its fields go into the key of its results."""

    @property
    def name(self) -> str:
        """Its name in the registry and in records."""

    @property
    def fools_interpreter(self) -> bool:
        """False for attacks on the prediction alone: these are forged once, and every interpreter judges them."""

    @property
    def eps(self) -> int | None:
        """L∞ budget in whole levels of 255; None for a search space with another bound."""

    def bound(self, step_passes: float) -> float:
        """Estimate the most F that an image can cost, where a step on prediction and map costs ``step_passes``."""

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Search adversarial images.

        Args:
            victim: the system under attack.
            x: clean images (N, 3, H, W).
            goal: what is wanted of them.
            seeds: a number for each image, for random choices.

        Raises:
            ImageErrors: images that cannot be attacked.
        """
