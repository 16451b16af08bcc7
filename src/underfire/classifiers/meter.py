"""The pass meter: what a search costs, counted where it is spent (method, section 4).

F is one forward pass of the classifier on one image; a backward pass to the input counts 2 F, a double backward 4 F.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from underfire.core import Images, PerImage


class PassMeter:
    """Counts F per image; see `underfire.core.Meter`.

    The count sits in the graph itself, at the input: an identity whose backward adds 2 F, and whose double backward
    adds 2 F more and then passes through the first again, which makes the 4 F of the paper's count.

    Each thread has a count of its own. A backward is charged to the count that its forward belongs to, since autograd
    may run it in another thread.
    """

    def __init__(self) -> None:
        self._counts: dict[int, Count] = {}
        """By the thread that counts."""

    @contextlib.contextmanager
    def counting(self, n: int) -> Iterator[Count]:
        """Count what this thread spends inside on ``n`` images; RuntimeError inside another count of its own."""
        if self._count is not None:
            raise RuntimeError("Passes are counted already: one count cannot stand inside another.")
        count = self._counts[threading.get_ident()] = Count(n)
        try:
            yield count
        finally:
            count.over = True
            del self._counts[threading.get_ident()]

    @property
    def _count(self) -> Count | None:
        return self._counts.get(threading.get_ident())

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Count nothing inside: what is done once for a classifier is no image's cost."""
        count = self._counts.pop(threading.get_ident(), None)
        try:
            yield
        finally:
            if count is not None:
                self._counts[threading.get_ident()] = count

    def so_far(self) -> PerImage | None:
        """Return the F spent on each image so far; None where this thread does not count."""
        return None if self._count is None else self._count.so_far

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
        if self._count is None or not (x.requires_grad and torch.is_grad_enabled()):
            return x
        tapped: Tensor = _Tap.apply(x, self._count, cost)
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

    @property
    def so_far(self) -> PerImage:
        """F spent on each image until now."""
        return self._passes.clone()

    def select(self, keep: Tensor) -> None:
        """Keep only some of the live images."""
        self._live = self._live[keep.cpu()]

    def charge(self, passes: float) -> None:
        """Add ``passes`` F, shared equally by the live images; nothing once the count is over."""
        if len(self._live) and not self.over:
            self._passes[self._live] += passes / len(self._live)


class _Tap(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, count: Count, cost: float) -> Tensor:
        ctx.count, ctx.cost = count, cost
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        ctx.count.charge(len(grads[0]) * 2 * ctx.cost)
        grad: Tensor = _TapBackward.apply(grads[0], ctx.count, ctx.cost)
        return grad, None, None


class _TapBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grad: Tensor, count: Count, cost: float) -> Tensor:
        ctx.count, ctx.cost = count, cost
        return grad.view_as(grad)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        ctx.count.charge(len(grads[0]) * 2 * ctx.cost)
        return grads[0], None, None
