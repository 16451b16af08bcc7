"""Smooth slopes in place of the step at a kink, and functions with such slopes.

    published   h(z) = 1 + z/√(z²+τ)  for z < 0,   z/√(z²+τ)  for z ≥ 0      (jumps from 1 to 0 at the kink)
    monotone    h(z) = ½ (1 + z/√(z²+τ))                                     (the same tails, no jump)

The first is the paper's (section 3.2), the second is ours (method, section 2.5). Any piecewise-linear activation is a
sum of ReLUs, so each of its kinks gets the slope of a ReLU (`bent`). Where two branches meet at a comparison, each gets
its share of the slope (`gated`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from underfire.core import UnderfireError
from underfire.interpreters.smooth import fused
from underfire.interpreters.smooth.step import step, step_slope
from underfire.passes import lies_last, line

Rule = Callable[..., Any]
"""What is called in place of a function with a kink (`rules`)."""
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
        return step(z, self.tau, self.kind)

    def dh(self, z: Tensor) -> Tensor:
        """Compute its derivative. The jump of the published form at 0 is left out, as in the published attack."""
        return step_slope(z, self.tau, self.kind)


def bends(z: Any) -> bool:
    """Tell whether a slope at ``z`` matters."""
    return isinstance(z, Tensor) and z.is_floating_point() and z.requires_grad


def bent(z: Tensor, call: Callable[[Tensor], Tensor], kinks: Kinks, slope: Slope, written: bool = False) -> Tensor:
    """Call a kinked function, with smooth slopes in the backward.

    Args:
        z: its input.
        call: the function.
        kinks: its kinks.
        slope: the stand-in for the step function.
        written: whether the function works in place.
    """
    out: Tensor = _Bent.apply(z.clone() if written else z, z if written else None, call, kinks, slope)
    return out


def gated(u: Tensor, a: Any, b: Any, exact: Tensor, slope: Slope) -> Tensor:
    """Return a choice between two values, whose slopes meet smoothly.

    The comparison itself has no slope: a kink becomes smooth, and a jump stays a jump.

    Args:
        u: what decides.
        a: the value where u > 0.
        b: the value elsewhere.
        exact: the choice.
        slope: the stand-in for the step function.
    """
    out: Tensor = _Gated.apply(u, a, b, [exact], slope)
    return out


class _Gated(torch.autograd.Function):
    """The choice. Forward: the exact value. Backward: g · h(u) to a, g · (1 − h(u)) to b."""

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
    """The kinked function. Forward: the exact value, in ``target`` if it works in place. Backward: g · slope(z)."""

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
        if fused.fuses(z):
            at_once: Tensor = _FusedBackward.apply(z, grads[0], ctx.kinks, ctx.slope)
            return at_once, None, None, None, None
        # A second-order step comes here twice: the slope is kept from the first time to the second, and no longer.
        h = ctx.known.pop() if ctx.known else slopes_at(z.detach(), ctx.kinks, ctx.slope)
        if torch.is_grad_enabled():
            ctx.known.append(h)
        grad: Tensor = _BentBackward.apply(z, grads[0], h, ctx.kinks, ctx.slope)
        return grad, None, None, None, None


class _BentBackward(torch.autograd.Function):
    """The gradient. Forward: g · slope(z). Backward: g′ · g · slope′(z) to z, and g′ · slope(z) to g.

    It is written out, since autograd would keep each of its element-wise steps for every activation of the network. It
    keeps z, which `_Bent` has kept already, and finds slope′ anew: to keep that as well would be one more tensor of
    each activation's size.
    """

    @staticmethod
    def forward(ctx: Any, z: Tensor, g: Tensor, h: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
        ctx.save_for_backward(z, g, h)
        ctx.kinks, ctx.slope = kinks, slope
        return g * h

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        z, g, h = ctx.saved_tensors
        return *curved(z.detach(), g, h, grads[0], ctx.kinks, ctx.slope), None, None, None


class _FusedBackward(torch.autograd.Function):
    """`_BentBackward` in one pass over memory; the slope is found anew each time, which costs less than to keep it."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, g: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
        z, g = _laid_out(z.detach(), g)
        ctx.save_for_backward(z, g)
        ctx.kinks, ctx.slope = kinks, slope
        return fused.sloped(z, g, kinks, slope)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, None, None]:
        z, g, other = _laid_out(*ctx.saved_tensors, grads[0])
        return *fused.curved(z, g, other, ctx.kinks, ctx.slope), None, None


def slopes_at(z: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
    """Compute the slope base + Σ gain · h(z − at) of each element of ``z``.

    This and `curved` are the formulas of `Slope`, chunk by chunk and in place, in the order in which z lies in memory.
    """
    half = 0.5 if slope.kind == "monotone" else 1.0
    (z,), tau = _laid_out(z), z.new_full((1,), slope.tau)
    h = torch.empty_like(z)
    for part, z_part in zip(_chunks(h), _chunks(z), strict=True):
        part.fill_(kinks.base + (half * sum(kinks.gain) if slope.kind == "monotone" else 0.0))
        for at, gain in zip(kinks.at, kinks.gain, strict=True):
            u = z_part - at if at else z_part
            if slope.kind == "published":
                part.add_(u < 0, alpha=gain)
            part.addcmul_(u, torch.addcmul(tau, u, u).rsqrt_(), value=half * gain)
    return h


def curved(z: Tensor, g: Tensor, h: Tensor, other: Tensor, kinks: Kinks, slope: Slope) -> tuple[Tensor, Tensor]:
    """Compute slope′(z) · g · g′, with slope′(z) = Σ gain · h′(z − at), and h · g′, of tensors of one shape."""
    half = 0.5 if slope.kind == "monotone" else 1.0
    (z, g, h, other), tau = _laid_out(z, g, h, other), z.new_full((1,), slope.tau)
    to_z, to_g = torch.empty_like(z), torch.empty_like(z)
    for part, beside, *given in zip(*map(_chunks, (to_z, to_g, z, g, h, other)), strict=True):
        z_part, g_part, h_part, other_part = given
        part.zero_()
        for at, gain in zip(kinks.at, kinks.gain, strict=True):
            u = z_part - at if at else z_part
            r = torch.addcmul(tau, u, u).rsqrt_()
            part.addcmul_(r, r * r, value=half * slope.tau * gain)
        part.mul_(g_part * other_part)
        torch.mul(h_part, other_part, out=beside)
    return to_z, to_g


def _laid_out(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Lay tensors of one shape out like the first one, without gaps: with the channels last where it has them there."""
    z = tensors[0]
    form = torch.channels_last if lies_last(z) else torch.contiguous_format
    return tuple(t.contiguous(memory_format=form) for t in tensors)


def _chunks(t: Tensor) -> tuple[Tensor, ...]:
    """Cut a tensor without gaps as it lies in memory; only a CPU has a cache that gains by it."""
    return torch.split(line(t), CHUNK) if t.device.type == "cpu" else (line(t),)
