"""Why a network has no class activation map: what stands between its last feature maps and its logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from underfire.classifiers.calls import Call, Spot, innermost, name_of, tensors, with_value
from underfire.classifiers.head import LOUD, FoundHead, find, trace
from underfire.classifiers.measure import same
from underfire.core import FAILURES, UnderfireError, UnsuitableError, refused

MIX, BENT = 0.3, 1e-4
"""A mixture of two images' tensors; difference from the same mixture of the results, as a share of the largest."""
FEW = 4
"""Tokens of their own, at most, that a head reads: a class token, one of distillation."""
SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Mixtures of two images that are looked at: few networks stack five things before a batch, and many two or three."""


def found_or_told(
    name: str, call: Call, module: nn.Module, x: Tensor, known: tuple[Call | None, Call | None]
) -> FoundHead:
    """Find the head of a network, or say why there is none.

    Args:
        name: the network's name in an error.
        call: from normalised images to outputs (N, K).
        module: the network.
        x: two normalised images (2, C, H, W) that differ.
        known: features and scores where the owner says them; see `underfire.classifiers.head.find`.

    Raises:
        UnderfireError: the logits are no linear function of averaged maps, or the network fails.
    """
    size = (int(x.shape[2]), int(x.shape[3]))
    try:
        with torch.no_grad():
            finite = bool(call(x).isfinite().all())
        if not finite:
            raise UnderfireError(f"'{name}' returns values that are not finite: check the weights and policy.")
        found = find(call, module, x, known)
        if found is not None and max(found.shape[1:]) > 1:
            return found
        reason = why(call, x, module) if found is None else f"its last feature maps have one place at {size} px"
    except FAILURES as e:
        raise refused(name, size, e) from e
    raise UnsuitableError(
        f"'{name}' has no class activation map: {reason}. Choose another interpreter for it, such as grad or mask, or "
        "a classifier whose logits are a linear function of averaged feature maps."
    )


def why(call: Call, x: Tensor, module: nn.Module) -> str:
    """Say it in words that go on after 'because'.

    Args:
        call: from normalised images to logits (N, K).
        x: two normalised images (2, C, H, W) that differ.
        module: the network.
    """
    x = torch.cat([(1 - share) * x[:1] + share * x[1:2] for share in SHARES])
    seen = trace(call, x)
    if not seen.z.requires_grad:
        return "its logits have no gradient to the input"
    found = [one for one in seen.found if one[1].shape != x.shape]
    if not found:
        return _unseen(module)
    spot, t, slope = found[0]
    last = f"the last feature maps ({' × '.join(map(str, t.shape[1:]))} numbers)"
    with torch.no_grad(), _Behind(spot) as behind:
        call(x)
    if behind.bent:
        return f"{behind.bent} stands between {last} and the logits, and is not linear"
    places = (slope.abs().amax((0, 2)) > 0).nonzero()[:, 0].tolist() if t.dim() == 3 else []
    if 0 < len(places) <= FEW and len(places) < t.shape[1]:
        read = f"one token of {t.shape[1]} (number" if len(places) == 1 else f"tokens of {t.shape[1]} (numbers"
        return f"its logits read {read} {', '.join(map(str, places))}), not an average over the picture"
    if _reads_more(call, x, spot, t.detach()):
        return f"its logits read more than the average of {last}, such as a token of their own beside it"
    return f"its logits are no function of the average of {last}: each place has a weight of its own"


def _reads_more(call: Call, x: Tensor, spot: Spot, t: Tensor) -> bool:
    """Tell whether the logits of images still differ where all have the same last feature maps."""
    z = with_value(call, spot, lambda _: t[:1].expand_as(t).contiguous(), x)
    return not same(z, z[:1].expand_as(z))


def _unseen(module: nn.Module) -> str:
    """Say why no feature maps can be seen."""
    if getattr(module, "single", False):
        return "it takes one image at a time, and they are found with two: export it with a batch that may vary"
    if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
        return "scripted code hides its feature maps"
    return "it has no feature maps of two places or more"


class _Behind(TorchFunctionMode):
    """A mode that follows a tensor, and names the first call behind it that is not linear in what came of it."""

    def __init__(self, spot: Spot) -> None:
        super().__init__()
        self.spot, self.passed = spot, 0
        self.derived: dict[int, Tensor] = {}
        self.bent = ""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs, name = kwargs or {}, name_of(func)
        if name == self.spot.call and not self.spot.made:
            self._arrive(name, False, args)
        mine = {id(t) for t in tensors(args) if id(t) in self.derived}
        if mine and not self.bent and _bent(func, args, kwargs, mine):
            where = innermost()
            self.bent = f"'{name}' in {where}" if where else f"'{name}'"
        out = func(*args, **kwargs)
        if mine:
            self.derived |= {id(t): t for t in tensors(out)}
        if name == self.spot.call and self.spot.made:
            self._arrive(name, True, out)
        return out

    def _arrive(self, name: str, made: bool, values: Any) -> None:
        for i, t in enumerate(tensors(values)):
            if self.spot.fits(name, made, i, t):
                self.passed += 1
                if self.passed == self.spot.before + 1:
                    self.derived[id(t)] = t


def _bent(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], mine: set[int]) -> bool:
    """Tell whether a call of a mixture differs from the mixture of two calls."""
    if any(id(t) in mine and not t.is_floating_point() for t in tensors(args)):
        return True  # a mask that was made of the maps

    def at(share: float, scale: float) -> Any:
        return next(tensors(func(*_swapped(args, mine, share, scale), **kwargs)), None)

    try:
        return any(_apart(at(0.0, scale), at(1.0, scale), at(MIX, scale)) for scale in (1.0, LOUD))
    except (RuntimeError, ValueError, TypeError, IndexError):  # what cannot be asked twice is not named
        return False


def _apart(one: Any, other: Any, between: Any) -> bool:
    if one is None or not one.is_floating_point() or not one.numel():
        return False
    straight = (1 - MIX) * one + MIX * other
    return not bool((between - straight).abs().amax() <= BENT * straight.abs().amax())


def _swapped(value: Any, mine: set[int], share: float, scale: float) -> Any:
    """Copy a call's arguments, with each followed tensor mixed with that of the other image, and scaled."""
    if isinstance(value, tuple | list):
        return type(value)(_swapped(one, mine, share, scale) for one in value)
    if not isinstance(value, Tensor) or id(value) not in mine:
        return value
    return scale * ((1 - share) * value + share * value.flip(0))
