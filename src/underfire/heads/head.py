"""The protocol of a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from underfire.core import Labels, PerImage

if TYPE_CHECKING:
    from torch import Tensor


class Head(Protocol):
    """What logits z (N, K) mean; y (N,) are classes, and ``source`` (N,) what the clean images show."""

    def probabilities(self, z: Tensor) -> Tensor:
        """Compute the probability (N, K) of each class, in [0, 1]."""

    def log_probability(self, z: Tensor, y: Labels) -> PerImage:
        """Compute log p_y (N,)."""

    def log_odds(self, z: Tensor, y: Labels) -> PerImage:
        """Compute ℓ_y = log p_y / (1 − p_y) (N,), exact where p_y is near 0 or 1."""

    def loss(self, z: Tensor, y: Labels, source: Labels, smoothing: float = 0.0) -> PerImage:
        """Compute ℓ_prd (N,): what falls as ``y`` becomes what the images show in place of ``source``.

        Args:
            z: logits (N, K).
            y: the wanted classes.
            source: the classes to be left.
            smoothing: of the wanted probabilities, in [0, 1].
        """

    def lead(self, z: Tensor, y: Labels, source: Labels) -> PerImage:
        """Compute by how many units of a logit the attack has succeeded (N,); below 0 it has not."""

    def won(self, z: Tensor, y: Labels, source: Labels) -> Tensor:
        """Tell of which images (bool (N,)) the attack has succeeded."""

    def taken(self, z: Tensor, source: int) -> list[int]:
        """List the classes that a random target is none of, for one image with logits ``z`` (K,)."""
