"""The momentum of a search: v ← μ v + g / ‖g‖₁ (Dong et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from underfire.attacks.search.finite import GRADIENT, refuse


class Momentum:
    """The running sum of the gradients of one batch.

    Args:
        decay: μ in [0, 1); 0 leaves gradients as they are.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._velocity: Tensor | None = None

    def along(self, gradient: Tensor) -> Tensor:
        """Add a gradient (N, C, H, W), and give the sum, which the next call overwrites.

        Raises:
            NotFinite: for rows that are not finite.
        """
        if not self.decay:
            refuse(gradient.sum((1, 2, 3)), GRADIENT)
            return gradient
        size = gradient.abs().sum((1, 2, 3), keepdim=True).clamp_min(torch.finfo(gradient.dtype).tiny)
        refuse(size[:, 0, 0, 0], GRADIENT)
        if self._velocity is None:
            self._velocity = torch.zeros_like(gradient)
        return self._velocity.mul_(self.decay).addcdiv_(gradient, size)

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` (bool (N,))."""
        if self._velocity is not None:
            self._velocity = self._velocity[keep]
