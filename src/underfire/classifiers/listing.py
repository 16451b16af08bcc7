"""A list of a network's layers, as one forward pass shows them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from underfire.classifiers.attention import Recording
from underfire.core import FAILURES, Images, Layer, Meter, Preprocess, refused
from underfire.core.layers import Kind

EXTRA = 16
"""Tokens beside the patch grid, at most: a class token, a distillation token, registers."""
NO_GRID = (0, 0)
"""The grid of what has none."""
NOWHERE: tuple[Kind, tuple[int, int]] = ("other", NO_GRID)
"""How an output without places lies."""
SPOT, NEAR = (0.2, 0.7), 0.2
"""Where the spot lies in the second image, as shares of its height and width; distance that is still there."""
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


class Left(NamedTuple):
    """An output of one image as a module has left it.

    Args:
        name: of the module.
        shape: of the output.
        flops: the multiply-adds so far.
        moved: the row of a (T, C) output that the spot moves the most; −1 of others.
    """

    name: str
    shape: tuple[int, ...]
    flops: int
    moved: int


class Listing:
    """What one forward pass shows of the layers.

    Args:
        side: of the input, rows and columns, px.
        flops: counts the multiply-adds so far.
    """

    def __init__(self, side: tuple[int, int], flops: Callable[[], int]) -> None:
        self.side, self.flops = side, flops
        self.layers: tuple[Layer, ...] = ()
        self.auto: Layer | None = None
        """What the last attention looked at."""
        self.attention: tuple[tuple[int, ...], ...] = ()
        self.uneven: tuple[tuple[int, int], ...] = ()
        """As in `underfire.classifiers.attention.misfit`."""
        self._left: list[Left] = []
        self._inside: list[tuple[nn.Module, int]] = []
        self._before = 0

    def enter(self, module: nn.Module, _args: object) -> None:
        """Note that a module begins."""
        self._inside.append((module, len(self._left)))

    def leave(self, name: str, out: Any) -> None:
        """Note that a module has ended with ``out``."""
        self._inside.pop()
        a = tensor_of(out)
        if name and a is not None and a.dim() and len(a) == LOOKED:
            moved = int((a[1] - a[0]).abs().sum(-1).argmax()) if a.dim() == 3 and a.is_floating_point() else -1
            self._left.append(Left(name, tuple(a.shape[1:]), self.flops(), moved))

    def attends(self) -> None:
        """Note that attention takes place: it looks at the last grid before its module."""
        inside = [begun for module, begun in self._inside if not isinstance(module, nn.Softmax)]
        self._before = max(self._before, inside[-1] if inside else 0)

    def finish(self, recording: Recording) -> None:
        """Tell how each output lies, and which share of the network comes after it.

        A module that hands attention on, such as its dropout, leaves (heads, T, T) numbers, and a norm of its queries
        (heads, T, C). They could pass for a grid, and have none.
        """
        self.attention, self.uneven = tuple(tuple(a.shape) for a in recording.found), tuple(recording.uneven)
        heads = {whole[-3:-1] for whole in self.attention}
        total, seen = max(1, self.flops()), list[Layer]()
        for left in self._left:
            inside = len(left.shape) == 3 and (left.shape[:2] in heads or left.shape[:0:-1] in heads)
            kind, grid = NOWHERE if inside else self._lie(left.shape, seen)
            stride = round(self.side[0] / grid[0]) if grid[0] else 0
            seen.append(Layer(left.name, kind, left.shape, grid, stride, 1 - left.flops / total))
        seen = in_order(seen, [left.moved for left in self._left])
        last = {layer.name: layer for layer in seen}  # of layers that run twice the last time counts
        self.layers = tuple(last.values())
        looked = [layer for layer in seen[: self._before] if layer.stride]
        self.auto = last[looked[-1].name] if looked else None

    def _lie(self, shape: tuple[int, ...], seen: Sequence[Layer]) -> tuple[Kind, tuple[int, int]]:
        """Tell how an output of one image lies behind the layers ``seen``, and its grid."""
        if len(shape) == 3:
            grids = {"grid": shape[1:], "channels last": shape[:2]}
            off = {kind: abs(h - w * self.side[0] / self.side[1]) for kind, (h, w) in grids.items()}
            kind: Kind = "channels last" if off["channels last"] < off["grid"] else "grid"
            h, w = grids[kind]
            return NOWHERE if off[kind] > 1 or 1 in (h, w) else (kind, (h, w))
        earlier = next((layer.grid for layer in reversed(seen) if layer.stride), None)
        if len(shape) == 2 and earlier and 0 <= shape[0] - earlier[0] * earlier[1] <= EXTRA:
            return "tokens", earlier
        return NOWHERE


def in_order(layers: Sequence[Layer], moved: Sequence[int]) -> list[Layer]:
    """Take the grid from layers of tokens that do not lie in the order of the picture, as Hiera's do not.

    In trained networks single tokens may stand for the whole picture, so the layers of as many tokens vote.

    Args:
        layers: in the order of the pass.
        moved: of each layer of tokens, which token the spot moves the most.
    """
    votes: dict[tuple[int, ...], list[bool]] = {}
    for layer, token in zip(layers, moved, strict=True):
        place = token - (layer.shape[0] - layer.grid[0] * layer.grid[1]) if layer.kind == "tokens" else -1
        if place >= 0:
            found = divmod(place, layer.grid[1])
            off = [abs((k + 0.5) / n - at) for k, n, at in zip(found, layer.grid, SPOT, strict=True)]
            votes.setdefault(layer.grid, []).append(max(off) <= NEAR)
    mixed = {grid for grid, right in votes.items() if sum(right) < len(right) / 4}
    return [replace(one, kind="other", grid=NO_GRID, stride=0) if _is_in(one, mixed) else one for one in layers]


def _is_in(layer: Layer, mixed: Collection[tuple[int, ...]]) -> bool:
    return layer.kind == "tokens" and layer.grid in mixed


def grey_and_spot(network: Network) -> Tensor:
    """Make two images (2, C, H, W) in [0, 1], in the type of the weights: grey, and grey with a spot."""
    c, h, w = network.preprocess.shape
    x = torch.full((LOOKED, c, h, w), 0.5, device=network.device)
    rows, columns = (slice(int((at - 0.1) * n), int((at + 0.1) * n)) for at, n in zip(SPOT, (h, w), strict=True))
    x[1, :, rows, columns] = torch.linspace(0, 1, c, device=network.device)[:, None, None]
    return x.to(next((p.dtype for p in network.module.parameters() if p.is_floating_point()), x.dtype))


@torch.no_grad()
def listing_of(network: Network) -> Listing:
    """List the layers of a network by one forward pass."""
    size, x = network.preprocess.size, grey_and_spot(network)
    own = threading.get_ident()
    with ExitStack() as stack:
        stack.enter_context(network.meter.aside())
        counter = stack.enter_context(FlopCounterMode(display=False))
        listing = Listing(size, counter.get_total_flops)
        for name, module in network.module.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # nothing of it can be seen
            stack.callback(module.register_forward_pre_hook(_mine(own, listing.enter)).remove)
            leave = _mine(own, lambda _module, _args, out, name=name: listing.leave(name, out))
            stack.callback(module.register_forward_hook(leave).remove)
        recording = stack.enter_context(Recording(LOOKED, listing.attends))
        try:
            network.logits(x)
        except FAILURES as e:
            raise refused(network.name, size, e) from e
        listing.finish(recording)
    return listing


def _mine(own: int, hook: Callable[..., None]) -> Callable[..., None]:
    """Call a hook in one thread only."""

    def called(*args: Any) -> None:
        if threading.get_ident() == own:
            hook(*args)

    return called
