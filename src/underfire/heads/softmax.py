"""Softmax: the image shows one class of K. One output z is the same with the logits (−z/2, z/2)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Labels, PerImage


class Softmax:
    """One class of K: the wanted class shall be the first choice; see `underfire.heads.Head`."""

    def probabilities(self, z: Tensor) -> Tensor:
        """Compute p (N, K)."""
        return z.softmax(1)

    def log_probability(self, z: Tensor, y: Labels) -> PerImage:
        """Compute log p_y (N,)."""
        return z.log_softmax(1).gather(1, y[:, None])[:, 0]

    def log_odds(self, z: Tensor, y: Labels) -> PerImage:
        """Compute ℓ_y = z_y − logsumexp_{k≠y} z_k (N,)."""
        return z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).logsumexp(1)

    def loss(self, z: Tensor, y: Labels, source: Labels, smoothing: float = 0.0) -> PerImage:
        """Compute the cross-entropy (N,)."""
        return F.cross_entropy(z, y, reduction="none", label_smoothing=smoothing)

    def lead(self, z: Tensor, y: Labels, source: Labels) -> PerImage:
        """Compute z_y − max_{k≠y} z_k (N,)."""
        return z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1)

    def won(self, z: Tensor, y: Labels, source: Labels) -> Tensor:
        """Tell where y is the first choice."""
        return z.argmax(1) == y

    def taken(self, z: Tensor, source: int) -> list[int]:
        """List the image's own class."""
        return [source]
