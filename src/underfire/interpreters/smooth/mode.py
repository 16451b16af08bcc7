"""The twin as a torch function mode: it sees every call of a torch function, however the network writes it.

It belongs to the thread that entered it, needs no second copy of the weights, and leaves nothing behind, also after an
exception. A call computes exactly what it does without the mode, also in place: only the slopes are replaced (`rules`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

from underfire.core import UnderfireError
from underfire.interpreters.smooth.bend import Slope
from underfire.interpreters.smooth.rules import rule_of

GUARDED = frozenset({"normalize", "cosine_similarity", "layer_norm", "group_norm", "softsign", "softmax"})
"""Functions whose clamps and norms only keep a divisor from 0: they are smooth for every possible image."""


@dataclass
class Gate:
    """A comparison whose result is ``mask``: true where ``u`` > 0, or where it is not if ``below``."""

    mask: Tensor
    u: Tensor
    below: bool

    def sides(self, a: Any, b: Any) -> tuple[Any, Any]:
        """Return what is chosen above and below u = 0, of ``a`` where the mask is true and ``b`` elsewhere."""
        return (b, a) if self.below else (a, b)


class Smoothed(TorchFunctionMode):
    """The mode in which kinked functions have smooth slopes.

    Args:
        slope: the stand-in for the step function; its τ is in units of the squared spread of a kink's input.
        pool: whether max-pooling is smoothed too.
        spreads: spread of the input of each kink, in the order of the calls; by default 1.
    """

    def __init__(self, slope: Slope, pool: bool = True, spreads: Sequence[float] | None = None) -> None:
        super().__init__()
        self.slope, self.pool, self.spreads = slope, pool, spreads
        self.kinks = 0
        """Number of kinks so far."""
        self.inside = False
        """Whether a rule is at work."""
        self.loose: list[str] = []
        """Functions that use a comparison in a way that no rule knows."""
        self._gates: dict[int, Gate] = {}  # holds the masks, so that no other tensor gets their ids
        self._odd: dict[int, Tensor] = {}  # other results of a comparison
        self._sources: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        rule = rule_of(func, torch.is_grad_enabled())
        if rule is not None:
            out = self._apart(rule, self, func, *args, **kwargs)
            if out is not NotImplemented:
                return out
        if getattr(func, "__name__", "") in GUARDED:
            return self._apart(func, *args, **kwargs)
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and any(id(v) in self._gates or id(v) in self._odd for v in args):
            if out.requires_grad:
                self.loose.append(func.__name__)
            else:
                self._odd[id(out)] = out
        return out

    def _apart(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.inside = True
        try:
            return call(*args, **kwargs)
        finally:
            self.inside = False

    def slope_at(self, z: Tensor) -> Slope:
        """Return the slope of the next kink, whose input is ``z``.

        Raises:
            UnderfireError: the network takes more kinks than when their spreads were measured.
        """
        k, self.kinks = self.kinks, self.kinks + 1
        if self.spreads is None:
            return self.slope
        if k >= len(self.spreads):
            raise UnderfireError(
                "The network does not call the same activations for each image, so they have no spreads of their own, "
                "and its twin has no slopes: attack its prediction alone (pgd)."
            )
        return Slope(self.slope.kind, self.slope.tau * self.spreads[k] ** 2)

    def remember(self, mask: Tensor, u: Tensor, below: bool) -> Tensor:
        """Note that ``mask`` is true where ``u`` > 0, or where it is not if ``below``."""
        self._gates[id(mask)] = Gate(mask, u, below)
        return mask

    def gate(self, mask: Any) -> Gate | None:
        """Find the comparison that has made ``mask``."""
        return self._gates.get(id(mask))

    def detached(self, z: Tensor, source: Tensor) -> Tensor:
        """Note that ``z`` is ``source`` without its gradient: a comparison of ``z`` is one of the source."""
        self._sources[id(z)] = z, source
        return z

    def source(self, z: Any) -> Any:
        """Find the tensor that ``z`` was detached from; else ``z`` itself."""
        return self._sources.get(id(z), (z, z))[1]


def smoothed(
    slope: Slope, pool: bool = True, spreads: Sequence[float] | None = None
) -> AbstractContextManager[Smoothed]:
    """Smooth the slopes for the time of a `with` block; arguments as in `Smoothed`."""
    return entered(Smoothed(slope, pool, spreads))


@contextmanager
def entered(mode: Smoothed) -> Iterator[Smoothed]:
    """Enter a mode, with attention in the form that can be differentiated twice, and compiled modules as written."""
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # else nothing is compiled
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        yield stack.enter_context(mode)
