"""The rules of products and choices: what a comparison chooses gets its share of the slope."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.interpreters.smooth.bend import Kinks, Rule, bends, bent, gated

HARDSIGMOID = Kinks(0.0, (-3.0, 3.0), (1 / 6, -1 / 6))
ABOVE, BELOW = ("gt", "ge", "greater", "greater_equal"), ("lt", "le", "less", "less_equal")
"""Names of comparisons."""

if TYPE_CHECKING:
    from underfire.interpreters.smooth.mode import Smoothed


def _hardswish(mode: Smoothed, func: Any, written: bool, z: Any, inplace: bool = False) -> Any:
    if not bends(z):
        return NotImplemented
    kept = z.clone() if written or inplace else z
    y = kept * bent(kept, F.hardsigmoid, HARDSIGMOID, mode.slope_at(kept))
    return z.copy_(y) if written or inplace else y


def _prelu(mode: Smoothed, func: Any, written: bool, z: Any, weight: Tensor) -> Any:
    if not bends(z):
        return NotImplemented
    with torch.no_grad():
        exact = func(z, weight)
    shape = [1, -1, *[1] * (z.dim() - 2)] if weight.numel() > 1 else [1] * z.dim()
    return gated(z, z, weight.view(shape) * z, exact, mode.slope_at(z))


def _elu(
    alpha: float = 1.0, scale: float = 1.0, input_scale: float = 1.0, inplace: bool = False
) -> tuple[float, float, float, bool]:
    return alpha, scale, input_scale, inplace


def _selu(inplace: bool = False) -> tuple[float, float, float, bool]:
    return 1.6732632423543772, 1.0507009873554805, 1.0, inplace


def _exponential(shape: Callable[..., tuple[float, float, float, bool]]) -> Rule:
    def rule(mode: Smoothed, func: Any, written: bool, z: Any, *args: Any, **kwargs: Any) -> Any:
        alpha, scale, input_scale, inplace = shape(*args, **kwargs)
        if not bends(z) or alpha * input_scale == 1.0:  # the slopes of both sides are equal
            return NotImplemented
        kept = z.clone() if written or inplace else z
        with torch.no_grad():
            exact = func(z, *args, **kwargs).clone()
        below = scale * alpha * torch.expm1(kept.clamp_max(0) * input_scale)
        y = gated(kept, scale * kept, below, exact, mode.slope_at(kept))
        return z.copy_(y) if written or inplace else y

    return rule


def larger(mode: Smoothed, a: Tensor, b: Tensor, largest: bool = True) -> Tensor:
    """Return the larger, or the smaller, of two tensors; where they are equal, both slopes meet smoothly."""
    u = a - b
    with torch.no_grad():
        exact = torch.maximum(a, b) if largest else torch.minimum(a, b)
    return gated(u, *((a, b) if largest else (b, a)), exact, mode.slope_at(u))


def of_two(largest: bool) -> Rule:
    """Make the rule of `maximum` or of `minimum`."""

    def rule(mode: Smoothed, func: Any, written: bool, a: Any, b: Any = None, *, other: Any = None) -> Any:
        b = other if b is None else b
        return larger(mode, a, b, largest) if bends(a) or bends(b) else NotImplemented

    return rule


def _compared(above: bool) -> Rule:
    def rule(mode: Smoothed, func: Any, written: bool, z: Any, t: Any = None, *, other: Any = None) -> Any:
        given, z, t = (z, other if t is None else t), mode.source(z), mode.source(other if t is None else t)
        if written or not (bends(z) or bends(t)):
            return NotImplemented
        with torch.enable_grad():
            return mode.remember(func(*given), z - t, not above)

    return rule


def _heaviside(mode: Smoothed, func: Any, written: bool, z: Any, values: Any) -> Any:
    source = mode.source(z)
    return mode.remember(func(z, values), source * 1, False) if bends(source) and not written else NotImplemented


def _detach(mode: Smoothed, func: Any, written: bool, z: Any) -> Any:
    return mode.detached(func(z), z) if bends(z) and not written else _cast(mode, func, written, z)


def _cast(mode: Smoothed, func: Any, written: bool, mask: Any, *args: Any, **kwargs: Any) -> Any:
    gate = mode.gate(mask)
    if gate is None or written:
        return NotImplemented
    return mode.remember(func(mask, *args, **kwargs), gate.u, gate.below)


def _inverted(mode: Smoothed, func: Any, written: bool, mask: Any) -> Any:
    gate = mode.gate(mask)
    return NotImplemented if gate is None or written else mode.remember(func(mask), gate.u, not gate.below)


def _rsub(mode: Smoothed, func: Any, written: bool, mask: Any, one: Any, *args: Any) -> Any:
    gate = mode.gate(mask)
    if gate is None or isinstance(one, Tensor) or one != 1 or args:
        return NotImplemented
    return mode.remember(func(mask, one), gate.u, not gate.below)


def _mul(mode: Smoothed, func: Any, written: bool, a: Any, b: Any = None, *, other: Any = None) -> Any:
    b = other if b is None else b
    gate, factor = (mode.gate(a), b) if mode.gate(b) is None else (mode.gate(b), a)
    if gate is None or not bends(factor):
        return NotImplemented
    with torch.no_grad():
        exact = a * b
    y = gated(gate.u, *gate.sides(factor, None), exact, mode.slope_at(gate.u))
    return a.copy_(y) if written else y


def _where(mode: Smoothed, func: Any, written: bool, *args: Any, **kwargs: Any) -> Any:
    """Choose, as `torch.where(mask, a, b)` and `a.where(mask, b)` do."""
    if len(args) + len(kwargs) != 3:
        return NotImplemented
    method = isinstance(args[0], Tensor) and args[0].dtype != torch.bool
    names = ("self", "condition", "other") if method else ("condition", "input", "other")
    first, second, third = (*args, *(kwargs[name] for name in names[len(args) :] if name in kwargs))
    mask, a, b = (second, first, third) if method else (first, second, third)
    gate = mode.gate(mask)
    if gate is None or not (bends(a) or bends(b)):
        return NotImplemented
    with torch.no_grad():
        exact = torch.where(mask, a, b)
    return gated(gate.u, *gate.sides(a, b), exact, mode.slope_at(gate.u))


def _masked_fill(mode: Smoothed, func: Any, written: bool, z: Any, mask: Any, value: Any) -> Any:
    """Fill, as `z.masked_fill(mask, value)` and `z[mask] = value` do."""
    gate = mode.gate(mask)
    if gate is None or not bends(z) or (isinstance(value, Tensor) and value.dim()):
        return NotImplemented
    with torch.no_grad():
        exact = z.masked_fill(mask, value)
    y = gated(gate.u, *gate.sides(value, z.clone() if written else z), exact, mode.slope_at(gate.u))
    return z.copy_(y) if written else y


RULES: dict[str, Rule] = {
    "hardswish": _hardswish,
    "prelu": _prelu,
    "elu": _exponential(_elu),
    "selu": _exponential(_selu),
    **dict.fromkeys(("maximum", "fmax"), of_two(largest=True)),
    **dict.fromkeys(("minimum", "fmin"), of_two(largest=False)),
    **dict.fromkeys(ABOVE, _compared(above=True)),
    **dict.fromkeys(BELOW, _compared(above=False)),
    "heaviside": _heaviside,
    "detach": _detach,
    **dict.fromkeys(("to", "type", "type_as", "float", "double", "half", "bfloat16", "bool", "int"), _cast),
    **dict.fromkeys(("clone", "contiguous"), _cast),
    **dict.fromkeys(("logical_not", "bitwise_not", "invert"), _inverted),
    "rsub": _rsub,
    **dict.fromkeys(("mul", "multiply", "rmul", "imul"), _mul),
    "where": _where,
    **dict.fromkeys(("masked_fill", "setitem"), _masked_fill),
}
"""Name of a function -> its rule."""
