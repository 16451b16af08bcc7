"""Evidence (N, h, w) of activations A and of gradients G = ∂z_c/∂A, both (N, C, h, w); see method, section 8.

The formulas are those of the library grad-cam, also where it differs from a paper (`grad_cam_plus_plus`).
"""

from __future__ import annotations

from torch import Tensor

TINY = 1e-6
"""The number that keeps the divisor of Grad-CAM++ from 0, as in the library."""


def grad_cam(a: Tensor, g: Tensor) -> Tensor:
    """Compute relu(Σ_k mean(G_k) A_k) (Selvaraju et al. 2017)."""
    return (g.mean((2, 3), keepdim=True) * a).sum(1).relu()


def hires_cam(a: Tensor, g: Tensor) -> Tensor:
    """Compute relu(Σ_k G_k ⊙ A_k) (Draelos & Carin 2020)."""
    return (g * a).sum(1).relu()


def layer_cam(a: Tensor, g: Tensor) -> Tensor:
    """Compute relu(Σ_k relu(G_k) ⊙ A_k) (Jiang et al. 2021)."""
    return (g.relu() * a).sum(1).relu()


def grad_cam_plus_plus(a: Tensor, g: Tensor) -> Tensor:
    """Compute relu(Σ_k w_k A_k) with w_k = Σ_ij α_k relu(G_k) (Chattopadhay et al. 2018).

    α_k = G_k² / (2 G_k² + Σ A_k · G_k³ + 1e-6): the library takes the logit's gradients for those of its exponential.
    The divisor is 0 where Σ A_k · G_k = −2, so the map has poles behind layers with values below 0.
    """
    square = g * g
    divisor = 2 * square + a.sum((2, 3), keepdim=True) * square * g + TINY
    alpha = (square / divisor).where(g != 0, 0.0)
    return ((g.relu() * alpha).sum((2, 3), keepdim=True) * a).sum(1).relu()
