"""The layers of a network by name: which there are, how their outputs lie, and the output of one in a forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from underfire.classifiers.attention import Recording, global_ones
from underfire.core import FAILURES, Images, Layer, Meter, Preprocess, UnsuitableError, refused, unknown
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


class Layered:
    """The part of a classifier that shows its layers; see `underfire.core.LayeredClassifier`."""

    _listed: Listing | None = None

    def layers(self: LayeredSelf) -> Sequence[Layer]:
        """List the layers in the order in which a forward pass leaves them."""
        return self._listing().layers

    def _listing(self: LayeredSelf) -> Listing:
        if self._listed is None:
            self._listed = listing_of(self)
        return self._listed

    def layer(self: LayeredSelf, word: str) -> Layer:
        """Find a layer: 'auto', 'strideN' for the last grid at that stride, or a module's name.

        'auto' is where the library grad-cam says to look: the input of the last attention (in a transformer, the tokens
        after the last block's first normalisation); without attention, the last grid of the network.

        Raises:
            UnderfireError: there is none, or it has no grid.
        """
        listing, grids = self._listing(), [layer for layer in self.layers() if layer.stride]
        if word == "auto" and (listing.auto or grids):
            return listing.auto or grids[-1]
        if word.startswith("stride") and (at := [g for g in grids if f"stride{g.stride}" == word]):
            return main_ones(at)[-1]
        if (named := {layer.name: layer for layer in self.layers()}.get(word)) is None:
            strides = [f"stride{s}" for s in sorted({g.stride for g in grids})]
            raise unknown(f"layer with a grid in '{self.name}' named", word, ["auto", *strides, *by_depth(grids)])
        if not named.stride:
            raise UnsuitableError(
                f"Layer '{word}' of '{self.name}' gives {named.shape} for an image, which is no grid of places: choose "
                f"one with rows and columns, such as '{grids[-1].name if grids else 'none'}'."
            )
        return named

    def activations(
        self: LayeredSelf,
        x: Images,
        layer: Layer,
        behind: Callable[[], AbstractContextManager[object]] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the logits (N, K) and a layer's output; see `underfire.core.LayeredClassifier`."""
        with torch.enable_grad(), _caught(self.module.get_submodule(layer.name), behind) as caught:
            z = self.logits(x)
        return z, caught[-1]

    def attention(self: LayeredSelf, x: Images) -> tuple[Tensor, list[Tensor]]:
        """Compute the logits (N, K) and the attention of each block; see `underfire.core.LayeredClassifier`."""
        h, w = self.patches()
        with Recording(len(x)) as recording:
            z = self.logits(x)
        if not (found := global_ones(recording.found, len(x), h * w)):
            raise no_attention(self.name)
        return z, found

    def patches(self: LayeredSelf) -> tuple[int, int]:
        """Give rows and columns of the patch grid; UnderfireError as in `attention`."""
        listing = self._listing()
        if listing.auto is None or listing.auto.kind != "tokens":
            raise no_attention(self.name)
        return listing.auto.grid


class LayeredSelf(Network, Protocol):
    """A network with the methods of `Layered`."""

    _listed: Listing | None

    def layers(self) -> Sequence[Layer]:
        """List the layers."""

    def _listing(self) -> Listing: ...


def no_attention(name: str) -> UnsuitableError:
    """Make the error for a network whose tokens do not all attend to each other."""
    return UnsuitableError(
        f"'{name}' has no attention between all of its tokens (a vision transformer has), so there is no attention map: "
        "choose another interpreter for it, such as gradcam."
    )


def depth(layer: Layer) -> int:
    """Count the modules around a layer."""
    return layer.name.count(".")


def main_ones(layers: Sequence[Layer]) -> list[Layer]:
    """Keep those that are nearest to the network's top level: whole stages, where there are any."""
    return [layer for layer in layers if depth(layer) == min(map(depth, layers))]


def by_depth(layers: Sequence[Layer]) -> list[str]:
    """Name the layers, those nearest to the network's top level first."""
    return [layer.name for layer in sorted(layers, key=depth)]


def _tensor(out: Any) -> Tensor | None:
    """Find the tensor of a layer's output: itself, or the first one of a tuple."""
    first = out[0] if isinstance(out, tuple | list) and out else out
    return first if isinstance(first, Tensor) else None


@contextmanager
def _caught(module: nn.Module, behind: Callable[[], AbstractContextManager[object]] | None) -> Iterator[list[Tensor]]:
    """Catch the output of a module; what follows gets a copy, since it may write in place."""
    caught: list[Tensor] = []
    own = threading.get_ident()
    with ExitStack() as stack:

        def catch(_module: nn.Module, _args: object, out: Any) -> Any:
            if threading.get_ident() != own:
                return out
            a = _tensor(out)
            assert a is not None  # the listing has seen it
            a = a if a.requires_grad else a.detach().requires_grad_()
            if behind is not None and not caught:
                stack.enter_context(behind())
            caught.append(a)
            return a.clone() if isinstance(out, Tensor) else type(out)((a.clone(), *out[1:]))

        hook = module.register_forward_hook(catch)
        stack.callback(hook.remove)
        yield caught


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
        a = _tensor(out)
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
    side = network.preprocess.input_size
    x = torch.full((LOOKED, 3, side, side), 0.5, device=network.device)
    x = x.to(next((p.dtype for p in network.module.parameters() if p.is_floating_point()), x.dtype))
    own = threading.get_ident()
    with ExitStack() as stack:
        stack.enter_context(network.meter.aside())
        counter = stack.enter_context(FlopCounterMode(display=False))
        listing = Listing((side, side), counter.get_total_flops)
        for name, module in network.module.named_modules():
            stack.callback(module.register_forward_pre_hook(_mine(own, listing.enter)).remove)
            leave = _mine(own, lambda _module, _args, out, name=name: listing.leave(name, out))
            stack.callback(module.register_forward_hook(leave).remove)
        stack.enter_context(Recording(LOOKED, listing.attends))
        try:
            network.logits(x)
        except FAILURES as e:
            raise refused(network.name, side, e) from e
        listing.finish()
    return listing


def _mine(own: int, hook: Callable[..., None]) -> Callable[..., None]:
    """Call a hook in one thread only."""

    def called(*args: Any) -> None:
        if threading.get_ident() == own:
            hook(*args)

    return called
