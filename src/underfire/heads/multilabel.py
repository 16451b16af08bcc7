"""Multi-label: each of K labels is on or off by itself, on where its sigmoid is above ½, that is, its logit above 0.

What a clean image shows is its strongest label. An attack has succeeded once the wanted label is on and that one is
off; the others may do as they like. So its loss is the binary cross-entropy of these two alone.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import Labels, PerImage


class MultiLabel:
    """Labels by themselves; see `underfire.heads.Head`."""

    def probabilities(self, z: Tensor) -> Tensor:
        """Compute σ(z) (N, K)."""
        return z.sigmoid()

    def log_probability(self, z: Tensor, y: Labels) -> PerImage:
        """Compute log σ(z_y) (N,)."""
        return F.logsigmoid(self.log_odds(z, y))

    def log_odds(self, z: Tensor, y: Labels) -> PerImage:
        """Compute z_y (N,)."""
        return z.gather(1, y[:, None])[:, 0]

    def loss(self, z: Tensor, y: Labels, source: Labels, smoothing: float = 0.0) -> PerImage:
        """Compute − log σ(z_y) − log (1 − σ(z_source)) (N,); where both are one label, only the first."""
        on, off = self.log_odds(z, y), self.log_odds(z, source)
        high = 1 - smoothing / 2
        to_on = F.binary_cross_entropy_with_logits(on, torch.full_like(on, high), reduction="none")
        to_off = F.binary_cross_entropy_with_logits(off, torch.full_like(off, 1 - high), reduction="none")
        return to_on + torch.where(y == source, 0.0, to_off)

    def lead(self, z: Tensor, y: Labels, source: Labels) -> PerImage:
        """Compute min(z_y, −z_source) (N,); where both are one label, z_y."""
        on = self.log_odds(z, y)
        return torch.where(y == source, on, torch.minimum(on, -self.log_odds(z, source)))

    def won(self, z: Tensor, y: Labels, source: Labels) -> Tensor:
        """Tell where y is on and ``source`` is off."""
        return self.lead(z, y, source) > 0

    def taken(self, z: Tensor, source: int) -> list[int]:
        """List the labels that are on already, and the strongest; where all are on, the strongest alone."""
        there = sorted({source, *(z > 0).nonzero()[:, 0].tolist()})
        return there if len(there) < len(z) else [source]
