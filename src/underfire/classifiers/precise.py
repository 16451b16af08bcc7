"""A network's passes in the precision of a search: its weights lie ready, cast, laid out and folded, beside its own.

A plain autocast casts every weight at each pass, and leaves the channels where they are: two thirds of what bfloat16
could gain on a CPU. Here the modules are handed other tensors for the time of a pass. A graph holds the tensors that it
was made with, so its backward may come after the pass. Batch norms are folded into the convolutions before them in the
same way, where the outputs change by no more than rounding; a pair is not folded while a hook reads one of the two.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from underfire.classifiers.folding import Pair, pairs, same
from underfire.core import FAILURES
from underfire.core.precision import FULL, channels_last, precision
from underfire.passes import Depthwise

CAST = (nn.Conv2d, nn.Linear)
"""Modules whose weights an autocast would cast at each pass."""


class Handed(NamedTuple):
    """A weight or a module by its place, as it is and as a search wants it."""

    place: dict[str, Any]
    name: str
    own: Any
    fast: Any


class Ready(NamedTuple):
    """What is handed to a network in one precision: its weights, and each pair that may be folded."""

    weights: list[Handed]
    folded: list[tuple[Pair, list[Handed]]]
    depthwise: bool
    """Whether depthwise convolutions gain by a gradient of our own; in a compiled module nobody sees them."""


class Precise:
    """The passes of one network.

    Args:
        module: the network, on its device.
        outputs: computes its outputs on some images.
    """

    def __init__(self, module: nn.Module, outputs: Callable[[], Tensor]) -> None:
        self._module, self._outputs = module, outputs
        self._ready: dict[str, Ready] = {}
        self._pairs: list[Pair] | None = None
        self._inside = False

    @contextmanager
    def passing(self, device: torch.device) -> Iterator[None]:
        """Pass through the network in the precision in force for the time of a `with` block."""
        word = precision()
        if word == FULL or self._inside:
            yield
            return
        ready, self._inside = self._made(word), True
        folded = (handed for pair, handed in ready.folded if not (_hooked(pair.conv) or _hooked(pair.norm)))
        try:
            with (
                _handed([*ready.weights, *(one for pair in folded for one in pair)]),
                torch.autocast(device.type, torch.bfloat16, enabled=half(word)),
                Depthwise() if ready.depthwise and device.type == "cpu" else contextlib.nullcontext(),
            ):
                yield
        finally:
            self._inside = False

    def _made(self, word: str) -> Ready:
        if word not in self._ready:
            self._ready.clear()  # one beside the network's own is enough
            weights = [
                Handed(m._parameters, name, own, fast)
                for m in self._module.modules()
                if not isinstance(m, torch.jit.ScriptModule)
                for name, own in m._parameters.items()
                if own is not None and (fast := _as(own, word, isinstance(m, CAST))) is not own
            ]
            depthwise = half(word) and channels_last(word) and not _compiled(self._module)
            self._ready[word] = Ready(weights, [(pair, _of(pair, word)) for pair in self._foldable()], depthwise)
        return self._ready[word]

    @torch.no_grad()
    def _foldable(self) -> list[Pair]:
        """Find the pairs that may be folded, the first time by two forwards; none where the outputs would change."""
        if self._pairs is None:
            self._pairs = []
            # a weight that is computed (a parametrised or pruned one) is not where weights are handed over
            found = [p for p in _found(self._module, self._outputs) if "weight" in p.conv._parameters]
            if not found:
                return self._pairs
            try:
                before = self._outputs()
                with _handed([one for pair in found for one in _of(pair, FULL)]):
                    after = self._outputs()
            except FAILURES:
                return self._pairs
            self._pairs = found if same(after, before) else []
        return self._pairs


def _found(module: nn.Module, outputs: Callable[[], Tensor]) -> list[Pair]:
    try:
        return [] if isinstance(module, torch.jit.ScriptModule) else pairs(module, outputs)
    except FAILURES:
        return []


def _of(pair: Pair, word: str) -> list[Handed]:
    own = pair.conv._parameters
    return [
        Handed(own, "weight", own["weight"], _as(pair.weight, word, True)),
        Handed(own, "bias", own["bias"], _as(pair.bias, word, True)),
        Handed(pair.parent._modules, pair.name, pair.norm, pair.rest),
    ]


def _compiled(module: nn.Module) -> bool:
    dynamo = sys.modules.get("torch._dynamo")
    return dynamo is not None and any(isinstance(m, dynamo.OptimizedModule) for m in module.modules())


def _hooked(part: nn.Module) -> bool:
    """Tell whether somebody reads or writes what goes into a module or comes out of it."""
    return bool(part._forward_hooks or part._forward_pre_hooks)


@contextmanager
def _handed(all_of_it: list[Handed]) -> Iterator[None]:
    try:
        for one in all_of_it:
            one.place[one.name] = one.fast
        yield
    finally:
        for one in all_of_it:
            one.place[one.name] = one.own


def half(word: str) -> bool:
    """Tell whether a precision is bfloat16."""
    return word.startswith("bf16")


def laid(x: Tensor) -> Tensor:
    """Lay images (N, C, H, W) out as the precision in force wants them."""
    return x.contiguous(memory_format=torch.channels_last) if channels_last(precision()) else x


def whole(z: Tensor) -> Tensor:
    """Give an output in float32, where it is in bfloat16: a probability near 1 has eight bits there."""
    return z.float() if z.dtype == torch.bfloat16 else z


@torch.no_grad()
def _as(own: Tensor, word: str, cast: bool) -> Tensor:
    fast = own.detach()
    if cast and half(word) and own.dtype == torch.float32:
        fast = fast.bfloat16()
    if channels_last(word) and own.dim() == 4:
        fast = fast.contiguous(memory_format=torch.channels_last)
    unchanged = fast.dtype == own.dtype and fast.stride() == own.stride()
    return own if unchanged else nn.Parameter(fast, requires_grad=False)
