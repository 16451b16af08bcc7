"""Smooth slopes in place of a kink's step, and functions that bend by them.

    published   h(z) = 1 + z/√(z²+τ)  for z < 0,   z/√(z²+τ)  for z ≥ 0      (jumps from 1 to 0 at the kink)
    monotone    h(z) = ½ (1 + z/√(z²+τ))                                     (the same tails, no jump)

Any piecewise-linear activation is a sum of ReLUs, so each of its kinks gets the slope of one (`bent`). Where two
branches meet at a comparison, each gets its share of the slope (`gated`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from underfire.core import UnderfireError

SLOPES = ("monotone", "published")
CHUNK = 1 << 16
"""Elements worked on at a time: the handful of element-wise passes of a slope then stay in the core's own cache."""


@dataclass(frozen=True)
class Kinks:
    """A piecewise-linear function by its derivative: ``base + Σ gain_i · step(z − at_i)``.

    Args:
        base: slope left of all kinks.
        at: where the kinks are.
        gain: by how much the slope changes there.
    """

    base: float
    at: tuple[float, ...]
    gain: tuple[float, ...]


@dataclass(frozen=True)
class Slope:
    """The smooth stand-in for the step function.

    Args:
        kind: 'monotone' or 'published'.
        tau: τ, in units of z²; the smaller, the sharper.
    """

    kind: str = "monotone"
    tau: float = 1e-2

    def __post_init__(self) -> None:
        if self.kind not in SLOPES:
            raise UnderfireError(f"There is no slope '{self.kind}'. Known: {', '.join(SLOPES)}.")
        if not self.tau > 0:
            raise UnderfireError(f"τ = {self.tau}: it must be above 0.")

    def h(self, z: Tensor) -> Tensor:
        """The smooth step at z, element-wise."""
        tilt = z * torch.rsqrt(z * z + self.tau)
        return (1 + tilt) / 2 if self.kind == "monotone" else tilt + (z < 0)

    def dh(self, z: Tensor) -> Tensor:
        """Its derivative; the published form's jump at 0 is left out, as it is in the published attack."""
        return (0.5 if self.kind == "monotone" else 1.0) * self.tau * torch.rsqrt(z * z + self.tau) ** 3


def bent(z: Tensor, call: Callable[[Tensor], Tensor], kinks: Kinks, slope: Slope, written: bool = False) -> Tensor:
    """What ``call`` makes of ``z``, with smooth slopes in place of its kinks; ``written`` if it does so in ``z``."""
    out: Tensor = _Bent.apply(z.clone() if written else z, z if written else None, call, kinks, slope)
    return out


def gated(u: Tensor, a: Any, b: Any, exact: Tensor, slope: Slope) -> Tensor:
    """``exact``, which is ``a`` where ``u`` > 0 and ``b`` elsewhere; the slopes of both meet smoothly.

    The comparison itself has no slope: a kink is bent, and a jump is not climbed.
    """
    out: Tensor = _Gated.apply(u, a, b, [exact], slope)
    return out


class _Gated(torch.autograd.Function):
    """Forward: the exact value. Backward: g · h(u) to a, g · (1 − h(u)) to b."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, a: Any, b: Any, exact: list[Tensor], slope: Slope) -> Tensor:
        ctx.save_for_backward(u)
        ctx.slope = slope
        ctx.shapes = [value.shape if isinstance(value, Tensor) and value.requires_grad else None for value in (a, b)]
        return exact.pop()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None, None, None]:
        (u,) = ctx.saved_tensors
        h, (a, b) = ctx.slope.h(u), ctx.shapes
        return (
            None,
            None if a is None else (grads[0] * h).sum_to_size(a),
            None if b is None else (grads[0] * (1 - h)).sum_to_size(b),
            None,
            None,
        )


class _Bent(torch.autograd.Function):
    """Forward: the exact value, in ``target`` where the network writes there. Backward: g · slope(z)."""

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, target: Tensor | None, call: Callable[[Tensor], Tensor], kinks: Kinks, slope: Slope
    ) -> Tensor:
        ctx.save_for_backward(z)
        ctx.kinks, ctx.slope, ctx.known = kinks, slope, []
        if target is None:
            return call(z)
        call(target)
        ctx.mark_dirty(target)
        return target

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None, None]:
        (z,) = ctx.saved_tensors
        twice = torch.is_grad_enabled()
        # A second-order step comes by twice: the slope is kept from the first time to the second, and no longer.
        bends, steep = ctx.known.pop() if ctx.known else _slopes(z.detach(), ctx.kinks, ctx.slope, twice)
        if twice:
            ctx.known.append((bends, steep))
        grad: Tensor = _BentBackward.apply(z, grads[0], bends, steep)
        return grad, None, None, None, None


class _BentBackward(torch.autograd.Function):
    """Forward: g · slope(z). Backward: g′ · g · slope′(z) to z, and g′ · slope(z) to g.

    Written out, since autograd would keep each of its element-wise steps for every activation of the network.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, g: Tensor, bent: Tensor, steep: Tensor | None) -> Tensor:
        ctx.save_for_backward(g, bent, steep)
        return g * bent

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        g, bent, steep = ctx.saved_tensors
        return steep * (g * grads[0]), bent * grads[0], None, None


def _slopes(z: Tensor, kinks: Kinks, slope: Slope, twice: bool) -> tuple[Tensor, Tensor | None]:
    """The slope base + Σ gain · h(z − at), and Σ gain · h′(z − at) where it is wanted too.

    The formulas of `Slope`, a chunk at a time and in place. Both share √(z²+τ), the dearest part of either.
    """
    half = 0.5 if slope.kind == "monotone" else 1.0
    z = z.contiguous()
    tau = z.new_full((1,), slope.tau)
    bent = torch.full_like(z, kinks.base + (half * sum(kinks.gain) if slope.kind == "monotone" else 0.0))
    steep = torch.zeros_like(z) if twice else None
    steeps = [None] * len(_chunks(z)) if steep is None else _chunks(steep)
    for part, zs, rise in zip(_chunks(bent), _chunks(z), steeps, strict=True):
        for at, gain in zip(kinks.at, kinks.gain, strict=True):
            u = zs - at if at else zs
            if slope.kind == "published":
                part.add_(u < 0, alpha=gain)
            r = torch.addcmul(tau, u, u).rsqrt_()
            part.addcmul_(u, r, value=half * gain)
            if rise is not None:
                rise.addcmul_(r, r * r, value=half * slope.tau * gain)
    return bent, steep


def _chunks(t: Tensor) -> tuple[Tensor, ...]:
    flat = t.view(-1)
    return torch.split(flat, CHUNK) if t.device.type == "cpu" else (flat,)
