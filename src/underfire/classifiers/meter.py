"""The pass meter: what a search costs, counted where it is spent (method, section 4).

F is one forward pass of the classifier on one image; a backward pass to the input counts 2 F, a double backward 4 F.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from underfire.core import Images, PerImage


class PassMeter:
    """Counts F per image; see `underfire.core.Meter`.

    The count sits in the graph itself, at the input: an identity whose backward adds 2 F, and whose double backward
    adds 2 F more and then passes through the first again, which makes the 4 F of the paper's count.
    """

    def __init__(self) -> None:
        self._count: Count | None = None

    @contextlib.contextmanager
    def counting(self, n: int) -> Iterator[Count]:
        """Count what is spent inside on ``n`` images; RuntimeError inside another count."""
        if self._count is not None:
            raise RuntimeError("Passes are counted already: one count cannot stand inside another.")
        count = self._count = Count(n)
        try:
            yield count
        finally:
            count.over, self._count = True, None

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Count nothing inside: what is done once for a classifier is no image's cost."""
        count, self._count = self._count, None
        try:
            yield
        finally:
            self._count = count

    def select(self, keep: Tensor) -> None:
        """Keep only some of the live images."""
        if self._count is not None:
            self._count.select(keep)

    def charge(self, rows: int, cost: float = 1.0) -> None:
        """Add ``rows * cost`` F, shared equally by the live images."""
        if self._count is not None:
            self._count.charge(rows * cost)

    def tap(self, x: Images, cost: float = 1.0) -> Images:
        """Charge a forward now and the backwards through the returned tensor when they come."""
        self.charge(len(x), cost)
        if not (x.requires_grad and torch.is_grad_enabled()):
            return x
        tapped: Tensor = _Tap.apply(x, self, cost)
        return tapped


class Count:
    """F spent on each of ``n`` images; see `underfire.core.Spent`."""

    def __init__(self, n: int) -> None:
        self.over = False
        self._passes = torch.zeros(n, dtype=torch.float64)
        self._live = torch.arange(n)

    @property
    def passes(self) -> PerImage:
        """F spent on each image; RuntimeError before the count is over."""
        if not self.over:
            raise RuntimeError("Passes are still being counted: read them after the with block.")
        return self._passes

    def select(self, keep: Tensor) -> None:
        """Keep only some of the live images."""
        self._live = self._live[keep.cpu()]

    def charge(self, passes: float) -> None:
        """Add ``passes`` F, shared equally by the live images."""
        if len(self._live):
            self._passes[self._live] += passes / len(self._live)


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, meter: PassMeter, cost: float) -> Tensor:
        ctx.meter, ctx.cost = meter, cost
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        ctx.meter.charge(len(grads[0]), 2 * ctx.cost)
        grad: Tensor = _TapBackward.apply(grads[0], ctx.meter, ctx.cost)
        return grad, None, None


class _TapBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, meter: PassMeter, cost: float) -> Tensor:
        ctx.meter, ctx.cost = meter, cost
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        ctx.meter.charge(len(grads[0]), 2 * ctx.cost)
        return grads[0], None, None
