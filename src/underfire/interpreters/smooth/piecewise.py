"""The rules of piecewise-linear functions of one input: each of their kinks is bent."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from underfire.interpreters.smooth.bend import Kinks, Rule, bends, bent
from underfire.interpreters.smooth.choices import HARDSIGMOID, larger

if TYPE_CHECKING:
    from underfire.interpreters.smooth.mode import Smoothed


def _relu(inplace: bool = False) -> tuple[Kinks, bool]:
    return Kinks(0.0, (0.0,), (1.0,)), inplace


def _relu6(inplace: bool = False) -> tuple[Kinks, bool]:
    return Kinks(0.0, (0.0, 6.0), (1.0, -1.0)), inplace


def _hardtanh(min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> tuple[Kinks, bool]:
    return Kinks(0.0, (min_val, max_val), (1.0, -1.0)), inplace


def _leaky_relu(negative_slope: float = 0.01, inplace: bool = False) -> tuple[Kinks, bool]:
    return Kinks(negative_slope, (0.0,), (1 - negative_slope,)), inplace


def _rrelu(
    lower: float = 1 / 8, upper: float = 1 / 3, training: bool = False, inplace: bool = False
) -> tuple[Kinks, bool] | None:
    return None if training else _leaky_relu((lower + upper) / 2, inplace)


def _threshold(threshold: float, value: float, inplace: bool = False) -> tuple[Kinks, bool]:
    return Kinks(0.0, (float(threshold),), (1.0,)), inplace


def _hardsigmoid(inplace: bool = False) -> tuple[Kinks, bool]:
    return HARDSIGMOID, inplace


def _shrink(lambd: float = 0.5) -> tuple[Kinks, bool]:
    return Kinks(1.0, (-float(lambd), float(lambd)), (-1.0, 1.0)), False


def _abs() -> tuple[Kinks, bool]:
    return Kinks(-1.0, (0.0,), (2.0,)), False


def _edges(low: Any, high: Any) -> tuple[Kinks, bool] | None:
    edges = [(float(low), 1.0)] if low is not None and low != -math.inf else []
    base = 0.0 if edges else 1.0
    edges += [(float(high), -1.0)] if high is not None and high != math.inf else []
    return (Kinks(base, *zip(*edges, strict=True)), False) if edges else None


def _piecewise(kinks_of: Callable[..., tuple[Kinks, bool] | None]) -> Rule:
    def rule(mode: Smoothed, func: Any, written: bool, z: Any, *args: Any, **kwargs: Any) -> Any:
        found = kinks_of(*args, **kwargs) if bends(z) else None
        if found is None:
            return NotImplemented
        kinks, inplace = found
        return bent(z, lambda z: func(z, *args, **kwargs), kinks, mode.slope_at(z), written or inplace)

    return rule


def _clamp(
    mode: Smoothed,
    func: Any,
    written: bool,
    z: Any,
    min: Any = None,  # noqa: A002 (torch's own names)
    max: Any = None,  # noqa: A002
) -> Any:
    given = [edge for edge in (min, max) if isinstance(edge, Tensor)]
    if any(edge.numel() > 1 or edge.requires_grad for edge in given):
        return _between(mode, func, written, z, min, max)
    low, high = (float(edge) if isinstance(edge, Tensor) else edge for edge in (min, max))
    found = _edges(low, high) if bends(z) else None
    if found is None:
        return NotImplemented
    return bent(z, lambda z: func(z, min, max), found[0], mode.slope_at(z), written)


def _clamp_one(lower: bool) -> Rule:
    def rule(mode: Smoothed, func: Any, written: bool, z: Any, *args: Any, **kwargs: Any) -> Any:
        edge = args[0] if args else kwargs["min" if lower else "max"]
        whole = torch.clamp_ if written else torch.clamp
        return _clamp(mode, whole, written, z, *((edge, None) if lower else (None, edge)))

    return rule


def _between(mode: Smoothed, func: Any, written: bool, z: Tensor, low: Any, high: Any) -> Any:
    """Clamp between edges that are tensors."""
    y = z.clone() if written else z
    for edge, largest in ((low, True), (high, False)):
        if edge is not None:
            y = larger(mode, y, torch.as_tensor(edge, dtype=z.dtype, device=z.device), largest)
    return z.copy_(y) if written else y


_PIECEWISE: dict[str, Callable[..., tuple[Kinks, bool] | None]] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "rrelu": _rrelu,
    "threshold": _threshold,
    "hardsigmoid": _hardsigmoid,
    "softshrink": _shrink,
    "hardshrink": _shrink,
    "abs": _abs,
    "absolute": _abs,
}


RULES: dict[str, Rule] = {
    **{name: _piecewise(kinks_of) for name, kinks_of in _PIECEWISE.items()},
    **dict.fromkeys(("clamp", "clip"), _clamp),
    "clamp_min": _clamp_one(lower=True),
    "clamp_max": _clamp_one(lower=False),
}
"""Name of a function -> its rule."""
