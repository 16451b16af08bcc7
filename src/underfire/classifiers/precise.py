"""A network's passes in the precision of a search: its weights lie ready, cast and laid out, beside its own.

A plain autocast casts every weight at each pass, and leaves the channels where they are: two thirds of what bfloat16
could gain on a CPU. Here the modules are handed other tensors for the time of a pass. A graph holds the tensors that it
was made with, so its backward may come after the pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from underfire.core.precision import FULL, precision

CAST = (nn.Conv2d, nn.Linear)
"""Modules whose weights an autocast would cast at each pass."""


class Handed(NamedTuple):
    """A weight by its place, as it is and as a search wants it."""

    place: dict[str, Any]
    name: str
    own: Tensor
    fast: Tensor


class Precise:
    """The passes of one network.

    Args:
        module: the network, on its device.
    """

    def __init__(self, module: nn.Module) -> None:
        self._module = module
        self._ready: dict[str, list[Handed]] = {}
        self._inside = False

    @contextmanager
    def passing(self, device: torch.device) -> Iterator[None]:
        """Pass through the network in the precision in force for the time of a `with` block."""
        word = precision()
        if word == FULL or self._inside:
            yield
            return
        handed, self._inside = self._made(word), True
        try:
            for one in handed:
                one.place[one.name] = one.fast
            with torch.autocast(device.type, torch.bfloat16, enabled=half(word)):
                yield
        finally:
            self._inside = False
            for one in handed:
                one.place[one.name] = one.own

    def _made(self, word: str) -> list[Handed]:
        if word not in self._ready:
            self._ready.clear()  # one beside the network's own is enough
            self._ready[word] = [
                Handed(m._parameters, name, own, fast)
                for m in self._module.modules()
                if not isinstance(m, torch.jit.ScriptModule)
                for name, own in m._parameters.items()
                if own is not None and (fast := _as(own, word, isinstance(m, CAST))) is not own
            ]
        return self._ready[word]


def half(word: str) -> bool:
    """Tell whether a precision is bfloat16."""
    return word.startswith("bf16")


def channels_last(word: str) -> bool:
    """Tell whether a precision has the channels last in memory."""
    return word.endswith("-last")


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
