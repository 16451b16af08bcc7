"""The rules of maxima: of windows, along dimensions, of everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.interpreters.smooth import pool
from underfire.interpreters.smooth.bend import Rule, bends
from underfire.interpreters.smooth.choices import of_two

if TYPE_CHECKING:
    from underfire.interpreters.smooth.mode import Smoothed


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
    """Make the rule of `amax` and `max`, or `amin` and `min`: along dimensions, of everything, or of two tensors."""

    def rule(mode: Smoothed, func: Any, written: bool, z: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(args[0] if args else kwargs.get("other"), Tensor):
            return of_two(largest)(mode, func, written, z, *args, **kwargs)
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


RULES: dict[str, Rule] = {
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _max_pool2d),
    **dict.fromkeys(("max_pool1d", "max_pool1d_with_indices"), _max_pool1d),
    **dict.fromkeys(("adaptive_max_pool2d", "adaptive_max_pool2d_with_indices"), _adaptive_max_pool2d),
    **dict.fromkeys(("amax", "max"), _along(largest=True)),
    **dict.fromkeys(("amin", "min"), _along(largest=False)),
}
"""Name of a function -> its rule."""
