"""What counts as success: which iterates may be kept, and which images need no further steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from underfire.core import Goal, PerImage
from underfire.heads import Head


class Reached(NamedTuple):
    """How far the prediction of each image has come.

    Attributes:
        p: (N,) probability of the target class, in [0, 1].
        top: bool (N,), whether the attack has succeeded: the target class is the prediction, or as the head has it.
    """

    p: PerImage
    top: Tensor

    @classmethod
    def of(cls, head: Head, z: Tensor, goal: Goal) -> Reached:
        """Read it off logits ``z`` (N, K), as the classifier's head has it."""
        p = head.probabilities(z).gather(1, goal.labels[:, None])[:, 0]
        return cls(p, head.won(z, goal.labels, goal.source))


@dataclass(frozen=True)
class Success:
    """What counts as success.

    Args:
        confidence: target probability from which on an iterate counts as a confident success.
        stop_confidence: target probability at which an image is done; None: never.
        stop_l1: map distance in [0, 1] that a done image has at most; None: 0.
        with_map: whether there is a map to reach; if not, the prediction alone decides.
    """

    confidence: float
    stop_confidence: float | None = None
    stop_l1: float | None = None
    with_map: bool = False

    def counts(self, reached: Reached) -> Tensor:
        """Tell which images (bool (N,)) have succeeded with confidence."""
        return reached.top & (reached.p >= self.confidence)

    def done(self, reached: Reached, distance: PerImage | None) -> Tensor:
        """Tell which images (bool (N,)) need no further steps.

        Args:
            reached: how far the prediction has come.
            distance: (N,) distance of the real map, in [0, 1]; None where nobody has looked at it: then no image with a
                map to reach is done.
        """
        if self.stop_confidence is None or (self.with_map and distance is None):
            return torch.zeros_like(reached.top)
        done = reached.top & (reached.p >= self.stop_confidence)
        return done if distance is None else done & (distance <= (self.stop_l1 or 0.0))
