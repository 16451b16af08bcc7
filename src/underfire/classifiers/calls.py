"""The calls of a network's forward: each torch function that runs, however the network writes it.

A function mode belongs to the thread that entered it, sees modules, functions, methods and graphs alike, and leaves
nothing behind. Only scripted code is hidden from it: of that, it sees what goes in and what comes out.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from underfire.core import UnderfireError

Call = Callable[[Tensor], Tensor]
"""A function from normalised images to feature maps, or from these to logits."""


@dataclass(frozen=True)
class Spot:
    """Where in a forward a tensor is made or first seen.

    Args:
        call: name of the torch function.
        made: whether it is among the results of the call; else among its arguments.
        position: which of them.
        shape: of one image's part.
        behind: number of tensors of the same call, position and shape that come after it.
        before: number of those that come before it.
    """

    call: str
    made: bool
    position: int
    shape: tuple[int, ...]
    behind: int
    before: int

    def fits(self, name: str, made: bool, position: int, t: Tensor) -> bool:
        """Tell whether a tensor is this one, or one of those that come before or after it."""
        return (name, made, position, tuple(t.shape[1:])) == (self.call, self.made, self.position, self.shape)


class Recorder(TorchFunctionMode):
    """A mode that keeps every tensor of a forward whose first axis is the batch.

    Args:
        n: images in the batch.
    """

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n = n
        self.seen: list[tuple[str, bool, int, Tensor]] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for made, value in ((False, args), (True, out)):
            for i, t in enumerate(tensors(value)):
                if t.dim() > 1 and len(t) == self.n and t.is_floating_point():
                    self.seen.append((name_of(func), made, i, t))
        return out

    def spots(self) -> list[tuple[Spot, Tensor]]:
        """List each tensor once, where it was made last: a tensor that is written to in place is what it became."""
        last: dict[int, int] = {}
        for k, (_, made, _, t) in enumerate(self.seen):
            if made or id(t) not in last:
                last[id(t)] = k
        alike: dict[tuple[Any, ...], list[int]] = {}
        for k, (name, made, i, t) in enumerate(self.seen):
            alike.setdefault((name, made, i, tuple(t.shape[1:])), []).append(k)
        found = []
        for k in sorted(last.values()):
            name, made, i, t = self.seen[k]
            group = alike[name, made, i, tuple(t.shape[1:])]
            at = group.index(k)
            found.append((Spot(name, made, i, tuple(t.shape[1:]), len(group) - 1 - at, at), t))
        return found


class Catcher(TorchFunctionMode):
    """A mode that keeps the tensor at a spot, with its graph.

    Args:
        spot: where.
        named: whether the module is named too, which takes time.
    """

    def __init__(self, spot: Spot, named: bool = False) -> None:
        super().__init__()
        self.spot, self.named = spot, named
        self._last: deque[tuple[Tensor, str]] = deque(maxlen=spot.behind + 1)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if name_of(func) == self.spot.call:
            for i, t in enumerate(tensors(out if self.spot.made else args)):
                if self.spot.fits(self.spot.call, self.spot.made, i, t):
                    self._last.append((t, innermost() if self.named else ""))
        return out

    def caught(self) -> tuple[Tensor, str]:
        """Return the tensor, and the module in which it is made.

        Raises:
            UnderfireError: the network has taken another way than when the spot was found.
        """
        if len(self._last) <= self.spot.behind:
            raise UnderfireError(
                "The network does not make the same calls for each image, so its last feature maps cannot be followed: "
                "give features= and scores=."
            )
        return self._last[0]


class Replacer(TorchFunctionMode):
    """A mode that puts another tensor at a spot, and lets the network go on from there.

    Args:
        spot: where.
        value: makes it from what is there.
        instead: whether the call is left out; it has one tensor as argument then, and ``value`` gets that.
    """

    def __init__(self, spot: Spot, value: Call, instead: bool = False) -> None:
        super().__init__()
        self.spot, self.value, self.instead = spot, value, instead
        self._passed = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if name_of(func) != self.spot.call:
            return func(*args, **kwargs)
        if self.instead and self._here(next(tensors((args, list(kwargs.values())))), 0):
            return self.value(next(tensors((args, list(kwargs.values())))))
        if not self.spot.made:
            return func(*self._swapped(args), **kwargs)
        out = func(*args, **kwargs)
        return out if self.instead else self._swapped((out,))[0]

    def _here(self, t: Tensor, i: int) -> bool:
        if not self.spot.fits(self.spot.call, self.spot.made, i, t):
            return False
        self._passed += 1
        return self._passed == self.spot.before + 1

    def _swapped(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        found = list(tensors(values))
        swaps = {id(t): self.value(t) for i, t in enumerate(found) if self._here(t, i)}
        return tuple(_with(value, swaps) for value in values)


def _with(value: Any, swaps: dict[int, Tensor]) -> Any:
    if isinstance(value, tuple | list):
        return type(value)(_with(one, swaps) for one in value)
    return swaps.get(id(value), value)


def tensors(value: Any) -> Iterator[Tensor]:
    """Yield the tensors among a call's arguments or results."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from tensors(one)


def name_of(func: Callable[..., Any]) -> str:
    """Return the name of a torch function or method."""
    return getattr(func, "__name__", "")


def innermost() -> str:
    """Name the module whose forward is running, from the outermost module on; '' outside of all."""
    called: list[nn.Module] = []
    frame = sys._getframe(1)
    while frame.f_back is not None:
        frame = frame.f_back
        owner = frame.f_locals.get("self") if frame.f_code.co_name in ("forward", "_call_impl") else None
        if isinstance(owner, nn.Module):
            called.append(owner)
    if not called:
        return ""
    name = next((name for name, part in called[-1].named_modules() if part is called[0]), "")
    kind = type(called[0]).__name__
    return f"{name} ({kind})" if name else f"the forward of {kind}"


@torch.no_grad()
def with_value(call: Call, spot: Spot, value: Call, x: Tensor) -> Tensor:
    """Compute the logits of a network that goes on from another tensor at a spot."""
    with Replacer(spot, value):
        return call(x)
