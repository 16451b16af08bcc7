"""Settings of a training. Their fields are data: they stand in a network's card and decide which checkpoint fits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from underfire.core import UnderfireError
from underfire.train.objective import ObjectiveWeights

PRECISIONS = ("fp32", "bf16")
SHARE: tuple[str, Callable[[float], bool]] = ("from 0 to below 1", lambda n: 0 <= n < 1)
RANGES: Mapping[str, tuple[str, Callable[[float], bool]]] = {
    "rate": ("above 0", lambda n: 0 < n < math.inf),
    "validation": ("above 0 and below 1", lambda n: 0 < n < 1),
    "test": SHARE,
    "average": SHARE,
}
"""Which numbers make sense, in words and as a rule; NaN is in no range."""


@dataclass(frozen=True)
class TrainSettings:
    """Settings of plain RTS.

    Args:
        epochs: at most so many passes over the photos.
        batch_size: photos a step.
        rate: the largest learning rate.
        validation: share of the photos, whole classes at a time, that the network does not learn from: the best epoch
            is chosen by them.
        test: share of the photos, likewise, that choose nothing either: the figures are theirs.
        average: of the weights over the last steps, the decay of each step; 0: the weights themselves are judged.
        patience: the training stops after so many epochs without a better figure.
        seed: of every random choice, together with the photo's digest.
        limit: photos used, evenly spaced over the sorted paths; None: all.
        precision: of the classifier's passes in a step, 'fp32' or 'bf16'.
        lam: weights of the objective's terms.

    Raises:
        UnderfireError: a number out of its range, or another precision.
    """

    epochs: int = 24
    batch_size: int = 16
    rate: float = 2e-3
    validation: float = 0.15
    test: float = 0.15
    average: float = 0.0
    patience: int = 8
    seed: int = 0
    limit: int | None = None
    precision: str = "fp32"
    lam: ObjectiveWeights = field(default_factory=ObjectiveWeights)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "patience"):
            if getattr(self, name) < 1:
                raise UnderfireError(f"{name} = {getattr(self, name)}: training needs 1 or more.")
        for name, (said, holds) in RANGES.items():
            if not holds(getattr(self, name)):
                raise UnderfireError(f"{name} = {getattr(self, name)}: training needs a number {said}.")
        if self.precision not in PRECISIONS:
            raise UnderfireError(f"precision = {self.precision!r}: training knows {' and '.join(PRECISIONS)}.")


@dataclass(frozen=True)
class AdversarialSettings(TrainSettings):
    """Settings of RTSᴬ, where an epoch is an eighth of the photos and `lam` plays no part.

    Args:
        teacher: SHA-256 of the plain network's file.
        share: of the photos, drawn anew for each epoch.
        eps: ε of the forged images, in levels of 255.
        attack_steps: steps of the search that forges them.
        learn_every: steps of the search for one step of the doubt.
        forged: a, the weight of forged maps.
        benign: b, the weight of benign maps.
    """

    epochs: int = 16
    rate: float = 3e-3
    test: float = 0.0
    patience: int = 16
    teacher: str = ""
    share: float = 0.125
    eps: int = 8
    attack_steps: int = 12
    learn_every: int = 1
    forged: float = 1.0
    benign: float = 10.0


@dataclass(frozen=True)
class AidSettings(TrainSettings):
    """Settings of AID, which goes on training plain RTS.

    Args:
        teacher: SHA-256 of the plain network's file.
        eps: ε of the forged images, in levels of 255.
        attack_steps: steps of PGD.
        apart: a, the weight of the distance between the map of an image and of its forgery.
    """

    epochs: int = 12
    rate: float = 5e-4
    test: float = 0.0
    patience: int = 12
    teacher: str = ""
    eps: int = 8
    attack_steps: int = 10
    apart: float = 5.0
