"""The slopes of a kinked function in one pass over memory, compiled where a C++ compiler is there.

`bend` takes the same formulas a step at a time, ten passes over each activation's chunks; the two differ by rounding.
"""

from __future__ import annotations

import functools
import logging
import types
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import torch
from torch import Tensor

from underfire.core import FAILURES
from underfire.core.precision import channels_last, precision
from underfire.interpreters.smooth.step import step, step_slope
from underfire.passes import line

if TYPE_CHECKING:
    from underfire.interpreters.smooth.bend import Kinks, Slope

OPTIONS: dict[str, Any] = {"cpp.dynamic_threads": True}
"""As many threads as the process has when it runs, and not those it had when the code was made."""
HALF = (torch.bfloat16, torch.float16)
Steps: TypeAlias = tuple[tuple[float, float], ...]
"""(at, gain) of each kink."""


class Fused(NamedTuple):
    """A function of (τ, z, …), compiled and as it is written."""

    compiled: Callable[..., Any]
    written: Callable[..., Any]

    def __call__(self, slope: Slope, z: Tensor, *more: Tensor) -> Any:
        """Call it on tensors that lie alike, without gaps."""
        tau = torch.full((1,), slope.tau, dtype=torch.float32 if z.dtype in HALF else z.dtype, device=z.device)
        lines = [line(t.detach()) for t in (z, *more)]
        if self not in _failed:
            try:  # the twin lets compiled modules run as they are written, but not this
                with torch.no_grad(), torch.compiler.set_stance("default"):
                    return self.compiled(tau, *lines)
            except (MemoryError, torch.OutOfMemoryError):
                raise
            except Exception:  # torch._dynamo has errors of its own, such as for too many types of one function
                _failed.add(self)
        return self.written(tau, *lines)


_failed: set[Fused] = set()
"""What could be compiled no longer: it is taken as it is written from then on."""


def fuses(z: Tensor) -> bool:
    """Tell whether slopes at ``z`` are compiled: in a search that has its channels last, on a CPU with a compiler."""
    return channels_last(precision()) and z.device.type == "cpu" and _works()


def sloped(z: Tensor, g: Tensor, kinks: Kinks, slope: Slope) -> Tensor:
    """Compute g · slope(z) of two tensors of one shape that lie alike, without gaps."""
    return _as(z, _sloped(kinks, slope.kind)(slope, z, g))


def curved(z: Tensor, g: Tensor, other: Tensor, kinks: Kinks, slope: Slope) -> tuple[Tensor, Tensor]:
    """Compute slope′(z) · g · g′ and slope(z) · g′ of tensors of one shape that lie alike, without gaps."""
    to_z, to_g = _curved(kinks, slope.kind)(slope, z, g, other)
    return _as(z, to_z), _as(z, to_g)


@functools.cache
def _sloped(kinks: Kinks, kind: str) -> Fused:
    base, steps = _steps(kinks)

    def product(tau: Tensor, z: Tensor, g: Tensor) -> Tensor:
        return (_wide(g) * _slope(_wide(z), tau, base, steps, kind)).to(g.dtype)

    return _fused(product)


@functools.cache
def _curved(kinks: Kinks, kind: str) -> Fused:
    base, steps = _steps(kinks)

    def products(tau: Tensor, z: Tensor, g: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
        u, wide = _wide(z), _wide(other)
        bend = torch.zeros_like(u)
        for at, gain in steps:
            bend = bend + gain * step_slope(u - at, tau, kind)
        return (bend * _wide(g) * wide).to(g.dtype), (_slope(u, tau, base, steps, kind) * wide).to(g.dtype)

    return _fused(products)


def _slope(z: Tensor, tau: Tensor, base: float, steps: Steps, kind: str) -> Tensor:
    h = torch.full_like(z, base)
    for at, gain in steps:
        h = h + gain * step(z - at, tau, kind)
    return h


def _steps(kinks: Kinks) -> tuple[float, Steps]:
    """Give base, and (at, gain) of each kink, as numbers of one type: another one would be compiled anew."""
    return float(kinks.base), tuple((float(a), float(g)) for a, g in zip(kinks.at, kinks.gain, strict=True))


def _fused(written: Callable[..., Any]) -> Fused:
    """Compile a function; with a code of its own, since the compiler counts the types and kinks of each code."""
    own = types.FunctionType(written.__code__.replace(), written.__globals__, closure=written.__closure__)
    return Fused(torch.compile(own, dynamic=True, fullgraph=True, options=OPTIONS), written)


def _wide(t: Tensor) -> Tensor:
    """Compute in float32 where less is stored."""
    return t.float() if t.dtype in HALF else t


def _as(like: Tensor, flat: Tensor) -> Tensor:
    return flat.as_strided(like.shape, like.stride())


@functools.cache
def _works() -> bool:
    """Compile a small one, once a process: without a compiler, or where it fails, there is the way without."""
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns that there is no GPU
    try:
        doubled = torch.compile(lambda z: z * 2 + 1, dynamic=True, options=OPTIONS)
        with torch.no_grad(), torch.compiler.set_stance("default"):
            return bool(doubled(torch.ones(4)).eq(3).all())
    except (*FAILURES, OSError, ImportError):  # no compiler, or no place to write to
        return False
