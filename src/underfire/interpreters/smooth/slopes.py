"""The slopes of kinked functions: smooth stand-ins for the step function, and an operation that uses them.

    published   h(z) = 1 + z/√(z²+τ)  for z < 0,   z/√(z²+τ)  for z ≥ 0      (jumps from 1 to 0 at the kink)
    monotone    h(z) = ½ (1 + z/√(z²+τ))                                     (the same tails, no jump)

The first is the paper's (section 3.2), the second is ours (method, section 2.5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from underfire.core import UnderfireError

SLOPES = ("monotone", "published")
"""Kinds of slopes."""
CHUNK = 1 << 16
"""Elements that are worked on at a time: so the few element-wise passes of a slope stay in the cache of the core."""


@dataclass(frozen=True)
class Kinks:
    """A piecewise-linear function, by its derivative ``base + Σ gain_i · step(z − at_i)``.

    Args:
        base: slope left of all kinks.
        at: positions of the kinks.
        gain: change of the slope at each kink.
    """

    base: float
    at: tuple[float, ...]
    gain: tuple[float, ...]


@dataclass(frozen=True)
class Slope:
    """The smooth stand-in for the step function.

    Args:
        kind: 'monotone' or 'published'.
        tau: τ > 0, in units of z²; the smaller, the sharper.

    Raises:
        UnderfireError: an unknown kind, or τ is not above 0.
    """

    kind: str = "monotone"
    tau: float = 1e-2

    def __post_init__(self) -> None:
        if self.kind not in SLOPES:
            raise UnderfireError(f"There is no slope '{self.kind}'. Known: {', '.join(SLOPES)}.")
        if not self.tau > 0:
            raise UnderfireError(f"τ = {self.tau}: it must be above 0.")

    def h(self, z: Tensor) -> Tensor:
        """Compute the smooth step at each element of ``z``."""
        tilt = z * torch.rsqrt(z * z + self.tau)
        return (1 + tilt) / 2 if self.kind == "monotone" else tilt + (z < 0)

    def dh(self, z: Tensor) -> Tensor:
        """Compute its derivative. The jump of the published form at 0 is left out, as in the published attack."""
        return (0.5 if self.kind == "monotone" else 1.0) * self.tau * torch.rsqrt(z * z + self.tau) ** 3


def kinked(z: Tensor, exact: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
    """Return the exact values of a kinked function, with smooth slopes in the backward.

    Args:
        z: input of the function, any shape.
        exact: its values.
        kinks: its kinks.
        slope: the stand-in for the step function.
    """
    out: Tensor = _Kinked.apply(z, exact.detach(), kinks, slope)
    return out


class _Kinked(torch.autograd.Function):
    """The kinked function. Forward: the exact value. Backward: g · slope(z)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, exact: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
        ctx.save_for_backward(z)
        ctx.kinks, ctx.slope, ctx.known = kinks, slope, []
        return exact.view_as(exact)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (z,) = ctx.saved_tensors
        twice = torch.is_grad_enabled()
        # A second-order step comes here twice: the slope is kept from the first time to the second, and no longer.
        h, dh = ctx.known.pop() if ctx.known else slopes_at(z.detach(), ctx.kinks, ctx.slope, twice)
        if twice:
            ctx.known.append((h, dh))
        grad: Tensor = _KinkedBackward.apply(z, grads[0], h, dh)
        return grad, None, None, None


class _KinkedBackward(torch.autograd.Function):
    """The gradient. Forward: g · slope(z). Backward: g′ · g · slope′(z) to z, and g′ · slope(z) to g.

    It is written out, since autograd would keep each of its element-wise steps for every activation of the network.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, g: Tensor, h: Tensor, dh: Tensor | None) -> Tensor:
        ctx.save_for_backward(g, h, dh)
        return g * h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g, h, dh = ctx.saved_tensors
        return dh * (g * grads[0]), h * grads[0], None, None


def slopes_at(z: Tensor, kinks: Kinks, slope: Slope, twice: bool) -> tuple[Tensor, Tensor | None]:
    """Compute the slope base + Σ gain · h(z − at) and, if ``twice``, its derivative Σ gain · h′(z − at); else None.

    These are the formulas of `Slope`, chunk by chunk and in place. Both share √(z²+τ), the slowest step of each.
    """
    half = 0.5 if slope.kind == "monotone" else 1.0
    z = z.contiguous()
    tau = z.new_full((1,), slope.tau)
    h = torch.full_like(z, kinks.base + (half * sum(kinks.gain) if slope.kind == "monotone" else 0.0))
    dh = torch.zeros_like(z) if twice else None
    dhs = [None] * len(_chunks(z)) if dh is None else _chunks(dh)
    for h_part, z_part, dh_part in zip(_chunks(h), _chunks(z), dhs, strict=True):
        for at, gain in zip(kinks.at, kinks.gain, strict=True):
            u = z_part - at if at else z_part
            if slope.kind == "published":
                h_part.add_(u < 0, alpha=gain)
            r = torch.addcmul(tau, u, u).rsqrt_()
            h_part.addcmul_(u, r, value=half * gain)
            if dh_part is not None:
                dh_part.addcmul_(r, r * r, value=half * slope.tau * gain)
    return h, dh


def _chunks(t: Tensor) -> tuple[Tensor, ...]:
    flat = t.view(-1)
    return torch.split(flat, CHUNK) if t.device.type == "cpu" else (flat,)
