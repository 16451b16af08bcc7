"""The layers of a network by name: which there are, how their outputs lie, and the output of one in a forward pass."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from underfire.classifiers.attention import Recording, misfit
from underfire.classifiers.listing import LOOKED, NO_GRID, Listing, Network, grey_and_spot, listing_of, tensor_of
from underfire.classifiers.precise import whole
from underfire.core import Images, Layer, UnsuitableError, unknown


class Layered:
    """The part of a classifier that shows its layers; see `underfire.core.LayeredClassifier`."""

    _listed: Listing | None = None
    _read: tuple[bool, ...] | None = None

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
        if not grids:
            raise UnsuitableError(
                f"No layer of '{self.name}' was seen to have the rows and columns of the picture, so none has a map: "
                "choose another interpreter, such as grad or mask."
            )
        if word == "auto":
            return listing.auto or grids[-1]
        if word.startswith("stride") and (at := [g for g in grids if f"stride{g.stride}" == word]):
            return main_ones(at)[-1]
        if (named := {layer.name: layer for layer in self.layers()}.get(word)) is None:
            strides = [f"stride{s}" for s in sorted({g.stride for g in grids})]
            raise unknown(f"layer with a grid in '{self.name}' named", word, ["auto", *strides, *by_depth(grids)])
        if not named.stride:
            raise UnsuitableError(
                f"Layer '{word}' of '{self.name}' gives {named.shape} for an image, which is no grid of places: choose "
                f"one with rows and columns, such as '{grids[-1].name}'."
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
        shapes = [tuple(a.shape) for a in recording.found]
        if reason := misfit(shapes, recording.uneven, len(x), h * w):
            raise no_attention(self.name, reason)
        return z, recording.found

    def patches(self: LayeredSelf) -> tuple[int, int]:
        """Give rows and columns of the patch grid; UnderfireError as in `attention`."""
        listing = self._listing()
        h, w = listing.auto.grid if listing.auto is not None and listing.auto.kind == "tokens" else NO_GRID
        reason = misfit(listing.attention, listing.uneven, LOOKED, h * w)
        if reason or not h:
            raise no_attention(self.name, reason or "no layer before its last attention leaves tokens of a patch grid")
        return h, w

    def tokens_read(self: LayeredSelf) -> tuple[bool, ...]:
        """Tell which tokens the prediction reads; see `underfire.core.LayeredClassifier`."""
        if self._read is None:
            with self.meter.aside(), torch.enable_grad():
                z, attention = self.attention(grey_and_spot(self).requires_grad_())
                (g,) = torch.autograd.grad(z.max(1).values.sum(), attention[-1])
            self._read = tuple((g.abs().sum(-1).flatten(0, -2) > 0).any(0).tolist())
        return self._read


class LayeredSelf(Network, Protocol):
    """A network with the methods of `Layered`."""

    _listed: Listing | None
    _read: tuple[bool, ...] | None

    def layers(self) -> Sequence[Layer]:
        """List the layers."""

    def _listing(self) -> Listing: ...

    def attention(self, x: Images) -> tuple[Tensor, list[Tensor]]:
        """Compute logits and attention."""

    def patches(self) -> tuple[int, int]:
        """Give the patch grid."""


def no_attention(name: str, reason: str) -> UnsuitableError:
    """Make the error for a network whose tokens do not all attend to each other."""
    return UnsuitableError(
        f"'{name}' has no attention map: {reason}. Such a map needs attention between all tokens of one patch grid in "
        "each block, as a plain vision transformer has it: choose another interpreter, such as gradcam."
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


def _with_first(out: Any, copy: Tensor) -> Any:
    """Put a copy in the place of the tensor that `tensor_of` finds in a layer's output."""
    if isinstance(out, Tensor):
        return copy
    fields = getattr(out, "_fields", None)  # a named tuple is made of its fields, any other of one sequence
    return type(out)((copy, *out[1:])) if fields is None else out._replace(**{fields[0]: copy})


@contextmanager
def _caught(module: nn.Module, behind: Callable[[], AbstractContextManager[object]] | None) -> Iterator[list[Tensor]]:
    """Catch the output of a module; what follows gets a copy, since it may write in place."""
    caught: list[Tensor] = []
    own = threading.get_ident()
    with ExitStack() as stack:

        def catch(_module: nn.Module, _args: object, out: Any) -> Any:
            if threading.get_ident() != own:
                return out
            a = tensor_of(out)
            assert a is not None  # the listing has seen it
            a = a if a.requires_grad else a.detach().requires_grad_()
            type_there, a = a.dtype, whole(a)
            if behind is not None and not caught:
                stack.enter_context(behind())
            caught.append(a)
            copy = a.to(type_there, copy=True)
            return _with_first(out, copy)

        hook = module.register_forward_hook(catch)
        stack.callback(hook.remove)
        yield caught
