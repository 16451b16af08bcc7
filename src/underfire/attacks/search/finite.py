"""Not finite is an error: a NaN in a search is no success, so the clean image would come back as if it had held.

Where it came from is found once it has happened, by a second pass whose layers are watched.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from underfire.core import ImageErrors

GRADIENT, POSITION = "gradient", "position"


class NotFinite(ImageErrors):
    """A walk met what is not finite, and has not moved.

    Args:
        rows: which of its images.
        what: `GRADIENT` or `POSITION`.
    """

    def __init__(self, rows: list[int], what: str) -> None:
        self.what = what
        super().__init__(dict.fromkeys(rows, f"the {what} of the search is not finite."))


def rows_of(bad: Tensor) -> list[int]:
    """Give the rows of a mask (bool (N,))."""
    found: list[int] = bad.nonzero()[:, 0].tolist()
    return found


def refuse(sums: Tensor, what: str) -> None:
    """Raise `NotFinite` for rows whose sum (N,) is not finite, as a sum over anything not finite is not either."""
    bad = ~sums.isfinite()
    if bool(bad.any()):
        raise NotFinite(rows_of(bad), what)


@dataclass
class Watched:
    """What a pass met first that is not finite.

    Attributes:
        names: id of a layer -> its name in the network.
        value: the first input or output of a layer that is not finite.
        gradient: the layer that the backward pass left with a gradient that is not finite, first of all.
    """

    names: dict[int, str]
    value: str = ""
    gradient: str = ""

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        """Name the layers of an outermost module, and watch the gradient by a layer's input."""
        if id(module) not in self.names:
            self.names |= {id(part): name for name, part in module.named_modules()}
        if not any(module.children()):
            for arg in args:
                self._watch(arg, self._called(module))

    def leave(self, module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        """Look at a layer's output, and watch the gradient by it."""
        if any(module.children()):
            return
        if not self.value and any(isinstance(t, Tensor) and not bool(t.isfinite().all()) for t in (*args, out)):
            side = "output" if all(bool(t.isfinite().all()) for t in args if isinstance(t, Tensor)) else "input"
            self.value = f"the {side} of {self._called(module)}"
        self._watch(out, f"what follows {self._called(module)}")

    def _watch(self, at: Any, called: str) -> None:
        def look(gradient: Tensor) -> None:
            if not self.gradient and not bool(gradient.isfinite().all()):
                self.gradient = called

        if isinstance(at, Tensor) and at.requires_grad:
            at.register_hook(look)  # type: ignore[no-untyped-call]

    def _called(self, module: nn.Module) -> str:
        name = self.names.get(id(module))
        return f"layer '{name}' ({type(module).__name__})" if name else f"the network ({type(module).__name__})"


@contextmanager
def watching(names: dict[int, str]) -> Iterator[Watched]:
    """Watch all layers that this thread calls inside, and the backward passes through them.

    ``names`` are those of `Watched`.
    """
    watched, own = Watched(names), threading.get_ident()

    def enter(module: nn.Module, args: tuple[Any, ...]) -> None:
        if threading.get_ident() == own:
            watched.enter(module, args)

    def leave(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        if threading.get_ident() == own:
            watched.leave(module, args, out)

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield watched
    finally:
        for handle in handles:
            handle.remove()


@runtime_checkable
class HasModule(Protocol):
    """A classifier around a torch module."""

    module: nn.Module


def origin(classifier: object, x: Tensor, losses: Callable[[Tensor], dict[str, Tensor]], seen: str) -> str:
    """Say what is not finite at ``x``: which layer's output, or which term's gradient, and from which layer on.

    Args:
        classifier: under attack.
        x: (N, 3, H, W) images.
        losses: images -> terms (N,), by what a sentence calls them.
        seen: what is known already, for what cannot be found.
    """
    if not bool(x.isfinite().all()):
        return "the position of the search is not finite."
    known = classifier.module.named_modules() if isinstance(classifier, HasModule) else ()
    names = {id(part): name for name, part in known}
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        with watching(names) as forward:
            terms = losses(x)
        if forward.value:
            return f"{forward.value} is not finite."
        if forward.gradient:  # a map that is a gradient itself
            return f"the gradient in a map is not finite from {forward.gradient} on."
        for name, term in terms.items():
            if not bool(term.isfinite().all()):
                return f"{name} is not finite."
            gradient = torch.autograd.grad(term.sum(), x, retain_graph=True, allow_unused=True)[0]
            if gradient is not None and not bool(gradient.isfinite().all()):
                where = forward.gradient or "what comes before the first layer"
                return f"the gradient of {name} is not finite from {where} on."
    return seen
