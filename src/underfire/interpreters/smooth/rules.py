"""A rule for each function with a kink, by its name: the same in `torch`, `Tensor`, `F` and `torch.ops.aten`.

A rule gets the mode, the function and its arguments. It returns what the function would, with smooth slopes; or
NotImplemented where it has nothing to say.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.interpreters.smooth import pool
from underfire.interpreters.smooth.bend import Kinks, bent, gated
from underfire.interpreters.smooth.convolution import conv2d

if TYPE_CHECKING:
    from underfire.interpreters.smooth.mode import Smoothed

Rule = Callable[..., Any]
RELU = Kinks(0.0, (0.0,), (1.0,))
ABOVE, BELOW = ("gt", "ge", "greater", "greater_equal"), ("lt", "le", "less", "less_equal")
COMPARISONS = frozenset({*ABOVE, *BELOW, "heaviside", "detach", "logical_not", "bitwise_not", "__invert__"})
"""These count under `no_grad` too: a mask is often made there."""


@functools.cache
def rule_of(func: Callable[..., Any], slopes: bool = True) -> Rule | None:
    """The rule for a torch function, None where it has no kink; without ``slopes`` only comparisons count."""
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket) and not str(func).startswith("aten."):
        return None
    name = getattr(func, "__name__", "").partition(".")[0]
    written = (name.endswith("_") and not name.endswith("__")) or name in ("__imul__", "__setitem__")
    rule = _RULES.get(name.strip("_")) if slopes or name in COMPARISONS else None
    return None if rule is None else functools.partial(_called, rule, written)


def _called(rule: Rule, written: bool, mode: Smoothed, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a rule; of an in-place function, the input as it was is kept for the slopes."""
    if not args:
        key = next((key for key in ("condition", "input", "self") if key in kwargs), "")
        if not key:
            return NotImplemented
        args = (kwargs.pop(key),)
    if kwargs.get("out") is not None:
        return NotImplemented
    return rule(mode, func, written, *args, **kwargs)


def bends(z: Any) -> bool:
    """Whether a slope at ``z`` matters."""
    return isinstance(z, Tensor) and z.is_floating_point() and z.requires_grad


# -- piecewise-linear functions of one input ---------------------------------------------------------------------------


def _relu(inplace: bool = False) -> tuple[Kinks, bool]:
    return RELU, inplace


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
    return Kinks(0.0, (-3.0, 3.0), (1 / 6, -1 / 6)), inplace


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
    """A clamp whose edges are tensors."""
    y = z.clone() if written else z
    for edge, larger in ((low, True), (high, False)):
        if edge is not None:
            y = _larger(mode, y, torch.as_tensor(edge, dtype=z.dtype, device=z.device), larger)
    return z.copy_(y) if written else y


# -- products and choices ----------------------------------------------------------------------------------------------


def _hardswish(mode: Smoothed, func: Any, written: bool, z: Any, inplace: bool = False) -> Any:
    if not bends(z):
        return NotImplemented
    kept = z.clone() if written or inplace else z
    y = kept * bent(kept, F.hardsigmoid, _hardsigmoid()[0], mode.slope_at(kept))
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
        if not bends(z) or alpha * input_scale == 1.0:  # one slope from both sides
            return NotImplemented
        kept = z.clone() if written or inplace else z
        with torch.no_grad():
            exact = func(z, *args, **kwargs).clone()
        below = scale * alpha * torch.expm1(kept.clamp_max(0) * input_scale)
        y = gated(kept, scale * kept, below, exact, mode.slope_at(kept))
        return z.copy_(y) if written or inplace else y

    return rule


def _larger(mode: Smoothed, a: Tensor, b: Tensor, larger: bool = True) -> Tensor:
    u = a - b
    with torch.no_grad():
        exact = torch.maximum(a, b) if larger else torch.minimum(a, b)
    return gated(u, *((a, b) if larger else (b, a)), exact, mode.slope_at(u))


def _of_two(larger: bool) -> Rule:
    def rule(mode: Smoothed, func: Any, written: bool, a: Any, b: Any = None, *, other: Any = None) -> Any:
        b = other if b is None else b
        return _larger(mode, a, b, larger) if bends(a) or bends(b) else NotImplemented

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
    """`torch.where(mask, a, b)`, `a.where(mask, b)`."""
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
    """`z.masked_fill(mask, value)`, `z[mask] = value`."""
    gate = mode.gate(mask)
    if gate is None or not bends(z) or (isinstance(value, Tensor) and value.dim()):
        return NotImplemented
    with torch.no_grad():
        exact = z.masked_fill(mask, value)
    y = gated(gate.u, *gate.sides(value, z.clone() if written else z), exact, mode.slope_at(gate.u))
    return z.copy_(y) if written else y


# -- maxima ------------------------------------------------------------------------------------------------------------


def _max_pool2d(
    mode: Smoothed,
    func: Any,
    written: bool,
    z: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    if not bends(z):
        return NotImplemented
    slope = mode.slope_at(z)
    if not mode.pool:
        return NotImplemented
    both = F.max_pool2d_with_indices if z.dim() >= 3 else F.max_pool1d_with_indices
    with torch.no_grad():
        y, where = both(z, kernel_size, stride, padding, dilation, ceil_mode)
    geometry = [_pair(value) for value in (kernel_size, stride or kernel_size, padding, dilation)]
    batch = z if z.dim() == 4 else z[None]
    soft = pool.max_pool2d(batch, y.view(-1, *y.shape[-3:]), geometry, slope).view(y.shape)
    return (soft, where) if return_indices or "with_indices" in func.__name__ else soft


def _max_pool1d(mode: Smoothed, func: Any, written: bool, z: Any, *args: Any, **kwargs: Any) -> Any:
    if not bends(z) or "with_indices" in func.__name__ or kwargs.get("return_indices"):
        return NotImplemented
    slope = mode.slope_at(z)
    if not mode.pool:
        return NotImplemented
    with torch.no_grad():
        y = func(z, *args, **kwargs)
    names = ("kernel_size", "stride", "padding", "dilation")
    given = {"stride": None, "padding": 0, "dilation": 1, **dict(zip(names, args, strict=False)), **kwargs}
    given["stride"] = given["stride"] or given["kernel_size"]
    flat = [[rest, _pair(given[name])[0]] for name, rest in zip(names, (1, 1, 0, 1), strict=True)]
    rows, outs = (t.view(-1, 1, 1, t.shape[-1]) for t in (z.contiguous(), y))
    return pool.max_pool2d(rows, outs, flat, slope).view(y.shape)


def _adaptive_max_pool2d(
    mode: Smoothed, func: Any, written: bool, z: Any, output_size: Any, return_indices: bool = False
) -> Any:
    if not bends(z):
        return NotImplemented
    slope = mode.slope_at(z)
    if not mode.pool:
        return NotImplemented
    with torch.no_grad():
        y, where = F.adaptive_max_pool2d_with_indices(z, output_size)
    batch = z if z.dim() == 4 else z[None]
    soft = pool.adaptive_max_pool2d(batch, y.view(-1, *y.shape[-3:]), slope).view(y.shape)
    aten = not isinstance(func, type(F.adaptive_max_pool2d))
    return (soft, where) if return_indices or aten or "with_indices" in func.__name__ else soft


def _along(largest: bool) -> Rule:
    """`amax` and `max` along dimensions, of everything, or of two tensors."""

    def rule(mode: Smoothed, func: Any, written: bool, z: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(args[0] if args else kwargs.get("other"), Tensor):
            return _of_two(largest)(mode, func, written, z, *args, **kwargs)
        if not bends(z):
            return NotImplemented
        slope = mode.slope_at(z)
        if not mode.pool:
            return NotImplemented
        with torch.no_grad():
            out = func(z, *args, **kwargs)
        dims = args[0] if args else kwargs.get("dim", ())
        keepdim = bool(args[1] if len(args) > 1 else kwargs.get("keepdim", False))
        dims = (dims,) if isinstance(dims, int) else tuple(dims or ())
        sign = 1 if largest else -1
        y = out if isinstance(out, Tensor) else out[0]
        soft = sign * pool.maximum_along(sign * z, sign * y, dims, keepdim, slope)
        return soft if isinstance(out, Tensor) else type(out)((soft, out[1]))

    return rule


def _pair(value: Any) -> list[int]:
    given = [value] if isinstance(value, int) else list(value)
    return given * 2 if len(given) == 1 else given


def _conv2d(mode: Smoothed, func: Any, written: bool, *args: Any, **kwargs: Any) -> Any:
    return conv2d(func, *args, **kwargs)


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

_RULES: dict[str, Rule] = {
    **{name: _piecewise(kinks_of) for name, kinks_of in _PIECEWISE.items()},
    **dict.fromkeys(("clamp", "clip"), _clamp),
    "clamp_min": _clamp_one(lower=True),
    "clamp_max": _clamp_one(lower=False),
    "hardswish": _hardswish,
    "prelu": _prelu,
    "elu": _exponential(_elu),
    "selu": _exponential(_selu),
    **dict.fromkeys(("maximum", "fmax"), _of_two(larger=True)),
    **dict.fromkeys(("minimum", "fmin"), _of_two(larger=False)),
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
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _max_pool2d),
    **dict.fromkeys(("max_pool1d", "max_pool1d_with_indices"), _max_pool1d),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool2d_with_indices"), _adaptive_max_pool2d),
    **dict.fromkeys(("amax", "max"), _along(largest=True)),
    **dict.fromkeys(("amin", "min"), _along(largest=False)),
    "conv2d": _conv2d,
}
