"""The pass meter: what a search costs, counted where it is spent (method, section 4).

F is one forward pass of the classifier on one image; a backward pass to the input counts 2 F, a double backward 4 F.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from underfire.core import Images


class PassMeter:
    """Counts F per image; see `underfire.core.Meter`.

    The count sits in the graph itself, at the input: an identity whose backward adds 2 F, and whose double backward
    adds 2 F more and then passes through the first again, which makes the 4 F of the paper's count.
    """

    def __init__(self) -> None:
        self.open(1)

    def open(self, n: int) -> None:
        """Start a new ledger for ``n`` images."""
        self._spent = torch.zeros(n, dtype=torch.float64)
        self._live = torch.arange(n)

    def select(self, keep: Tensor) -> None:
        """Keep only some of the live images."""
        self._live = self._live[keep.cpu()]

    def charge(self, rows: int, cost: float = 1.0) -> None:
        """Add ``rows * cost`` F, shared equally by the live images."""
        if len(self._live):
            self._spent[self._live] += rows * cost / len(self._live)

    def tap(self, x: Images, cost: float = 1.0) -> Images:
        """Charge a forward now and the backwards through the returned tensor when they come."""
        self.charge(len(x), cost)
        if not (x.requires_grad and torch.is_grad_enabled()):
            return x
        tapped: Tensor = _Tap.apply(x, self, cost)
        return tapped

    def close(self) -> list[float]:
        """F spent on each image since `open`."""
        spent: list[float] = self._spent.tolist()
        self.open(1)
        return spent


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
