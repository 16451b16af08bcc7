"""A rule for each function with a kink, by its name: the same in `torch`, `Tensor`, `F` and `torch.ops.aten`.

A rule gets the mode, the function, whether the function works in place, and its arguments. It returns what the function
would return, with smooth slopes; or NotImplemented where it has nothing to change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from underfire.interpreters.smooth import choices, maxima, piecewise
from underfire.interpreters.smooth.bend import Rule
from underfire.interpreters.smooth.choices import ABOVE, BELOW
from underfire.passes import conv2d

if TYPE_CHECKING:
    from underfire.interpreters.smooth.mode import Smoothed

COMPARISONS = frozenset({*ABOVE, *BELOW, "heaviside", "detach", "logical_not", "bitwise_not", "__invert__"})
"""Functions whose rules count under `no_grad` too: a mask is often made there."""


@functools.cache
def rule_of(func: Callable[..., Any], slopes: bool = True) -> Rule | None:
    """Find the rule of a torch function; None where it has no kink.

    Args:
        func: the function.
        slopes: whether gradients are wanted; without them only comparisons have rules.
    """
    if isinstance(func, torch._ops.OpOverload | torch._ops.OpOverloadPacket) and not str(func).startswith("aten."):
        return None
    name = getattr(func, "__name__", "").partition(".")[0]
    written = (name.endswith("_") and not name.endswith("__")) or name in ("__imul__", "__setitem__")
    rule = _RULES.get(name.strip("_")) if slopes or name in COMPARISONS else None
    return None if rule is None else functools.partial(_called, rule, written)


def _called(rule: Rule, written: bool, mode: Smoothed, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a rule, with the first argument by position."""
    if not args:
        key = next((key for key in ("condition", "input", "self") if key in kwargs), "")
        if not key:
            return NotImplemented
        args = (kwargs.pop(key),)
    if kwargs.get("out") is not None:
        return NotImplemented
    return rule(mode, func, written, *args, **kwargs)


def _conv2d(mode: Smoothed, func: Any, written: bool, *args: Any, **kwargs: Any) -> Any:
    return conv2d(func, *args, **kwargs)


_RULES: dict[str, Rule] = {**piecewise.RULES, **choices.RULES, **maxima.RULES, "conv2d": _conv2d}
