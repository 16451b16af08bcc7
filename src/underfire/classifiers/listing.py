"""A list of a network's layers, as one forward pass shows them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from underfire.classifiers.attention import Recording
from underfire.core import FAILURES, Images, Layer, Meter, Preprocess, refused
from underfire.core.layers import Kind

EXTRA = 16
"""Tokens beside the patch grid, at most: a class token, a distillation token, registers."""
LOOKED = 2
"""Images of the forward pass that lists the layers: so the batch is known from the channels and the tokens."""


class Network(Protocol):
    """What the layers are listed of."""

    module: nn.Module
    name: str
    meter: Meter
    preprocess: Preprocess
    device: torch.device

    def logits(self, x: Images) -> Tensor:
        """Compute the logits (N, K)."""


def tensor_of(out: Any) -> Tensor | None:
    """Find the tensor of a layer's output: itself, or the first one of a tuple."""
    first = out[0] if isinstance(out, tuple | list) and out else out
    return first if isinstance(first, Tensor) else None


class Listing:
    """What one forward pass shows of the layers.

    Args:
        side: of the input, rows and columns, px.
        flops: counts the multiply-adds so far.
    """

    def __init__(self, side: tuple[int, int], flops: Callable[[], int]) -> None:
        self.side, self.flops = side, flops
        self.left: list[tuple[Layer, int]] = []
        self.layers: tuple[Layer, ...] = ()
        self.auto: Layer | None = None
        """What the last attention looked at."""
        self._inside: list[tuple[nn.Module, int]] = []

    def enter(self, module: nn.Module, _args: object) -> None:
        """Note that a module begins."""
        self._inside.append((module, len(self.left)))

    def leave(self, name: str, out: Any) -> None:
        """Note that a module has ended with ``out``."""
        self._inside.pop()
        a = tensor_of(out)
        if name and a is not None and len(a) == LOOKED:
            self.left.append((self._seen(name, tuple(a.shape[1:])), self.flops()))

    def attends(self) -> None:
        """Note that attention takes place: it looks at the last grid before its module."""
        inside = [begun for module, begun in self._inside if not isinstance(module, nn.Softmax)]
        before = [layer for layer, _ in self.left[: inside[-1]] if layer.stride] if inside else []
        self.auto = before[-1] if before else self.auto

    def finish(self) -> None:
        """Fill in which share of the network comes after each layer; of layers that run twice the last time counts."""
        total = max(1, self.flops())
        with_share = {n.name: Layer(n.name, n.kind, n.shape, n.grid, n.stride, 1 - f / total) for n, f in self.left}
        self.layers = tuple(with_share.values())
        self.auto = with_share[self.auto.name] if self.auto else None

    def _seen(self, name: str, shape: tuple[int, ...]) -> Layer:
        kind, grid = self._lie(shape)
        return Layer(name, kind, shape, grid, round(self.side[0] / grid[0]) if grid[0] else 0)

    def _lie(self, shape: tuple[int, ...]) -> tuple[Kind, tuple[int, int]]:
        """Tell how an output of one image lies, and its grid."""
        if len(shape) == 3:
            grids = {"grid": shape[1:], "channels last": shape[:2]}
            off = {kind: abs(h - w * self.side[0] / self.side[1]) for kind, (h, w) in grids.items()}
            kind: Kind = "channels last" if off["channels last"] < off["grid"] else "grid"
            h, w = grids[kind]
            return ("other", (0, 0)) if off[kind] > 1 or 1 in (h, w) else (kind, (h, w))
        earlier = [layer.grid for layer, _ in self.left if layer.stride]
        if len(shape) == 2 and earlier and 0 <= shape[0] - earlier[-1][0] * earlier[-1][1] <= EXTRA:
            return "tokens", earlier[-1]
        return "other", (0, 0)


@torch.no_grad()
def listing_of(network: Network) -> Listing:
    """List the layers of a network by one forward pass of grey images."""
    size = network.preprocess.size
    x = torch.full((LOOKED, *network.preprocess.shape), 0.5, device=network.device)
    x = x.to(next((p.dtype for p in network.module.parameters() if p.is_floating_point()), x.dtype))
    own = threading.get_ident()
    with ExitStack() as stack:
        stack.enter_context(network.meter.aside())
        counter = stack.enter_context(FlopCounterMode(display=False))
        listing = Listing(size, counter.get_total_flops)
        for name, module in network.module.named_modules():
            stack.callback(module.register_forward_pre_hook(_mine(own, listing.enter)).remove)
            leave = _mine(own, lambda _module, _args, out, name=name: listing.leave(name, out))
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(Recording(LOOKED, listing.attends))
        try:
            network.logits(x)
        except FAILURES as e:
            raise refused(network.name, size, e) from e
        listing.finish()
    return listing


def _mine(own: int, hook: Callable[..., None]) -> Callable[..., None]:
    """Call a hook in one thread only."""

    def called(*args: Any) -> None:
        if threading.get_ident() == own:
            hook(*args)

    return called
