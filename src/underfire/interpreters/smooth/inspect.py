"""A look below the twin: every core operator that runs, also those of scripted code, which Python does not see."""

from __future__ import annotations

import sys
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from underfire.interpreters.smooth.mode import Smoothed

SHARP = frozenset(
    {
        "relu",
        "clamp",
        "clamp_min",
        "clamp_max",
        "threshold",
        "leaky_relu",
        "hardtanh",
        "hardswish",
        "hardsigmoid",
        "hardshrink",
        "softshrink",
        "_prelu_kernel",
        "rrelu_with_noise",
        "abs",
        "sign",
        "heaviside",
        "maximum",
        "minimum",
        "fmax",
        "fmin",
        "max",
        "min",
        "amax",
        "amin",
        "aminmax",
        "max_pool2d",
        "max_pool2d_with_indices",
        "max_pool3d_with_indices",
        "adaptive_max_pool2d",
        "adaptive_max_pool3d",
        "fractional_max_pool2d",
        "gt",
        "ge",
        "lt",
        "le",
    }
)
"""Core operators that have a kink, or make one."""


class Inspector(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A mode that notes kinks that run outside of the twin's rules.

    Args:
        mode: the twin, entered.
    """

    def __init__(self, mode: Smoothed) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.mode = mode
        self.found: dict[str, None] = {}
        """Kinks that have stayed sharp, each once, such as 'relu in body.1 (TopLevelTracedModule)'."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = func.overloadpacket.__name__
        if name.rstrip("_") in SHARP and not self.mode.inside:
            floats = [a for a in args if isinstance(a, Tensor) and a.is_floating_point()]
            path, module = _where()
            if any(a.requires_grad for a in floats) or (floats and isinstance(module, torch.jit.ScriptModule)):
                self.found[f"{name.rstrip('_')} in {path}"] = None
        return func(*args, **(kwargs or {}))


def _where() -> tuple[str, nn.Module | None]:
    """Find the module that is being called, and its path from the outermost one."""
    called: list[nn.Module] = []
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        if frame.f_code.co_name in ("forward", "_call_impl") and isinstance(frame.f_locals.get("self"), nn.Module):
            called.append(frame.f_locals["self"])
    if not called:
        return "the network", None
    names = [name for name, part in called[-1].named_modules() if part is called[0]]
    kind = type(called[0]).__name__
    return (f"{names[0]} ({kind})" if names and names[0] else kind), called[0]
