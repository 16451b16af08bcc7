"""The smooth step function h(z), and its derivative, as formulas (`bend` has what they are for)."""

from __future__ import annotations

import torch
from torch import Tensor


def step(z: Tensor, tau: float | Tensor, kind: str) -> Tensor:
    """Compute h(z) of each element: ½ (1 + z/√(z²+τ)), or the published form."""
    tilt = z * torch.rsqrt(z * z + tau)
    return (1 + tilt) / 2 if kind == "monotone" else tilt + (z < 0)


def step_slope(z: Tensor, tau: float | Tensor, kind: str) -> Tensor:
    """Compute h′(z) of each element, without the jump of the published form at 0."""
    return (0.5 if kind == "monotone" else 1.0) * tau * torch.rsqrt(z * z + tau) ** 3
