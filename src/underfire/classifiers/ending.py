"""The ending of a network: a softmax or log-softmax behind the logits is taken off, and so is what compiled it."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from underfire.classifiers.calls import Call, Recorder, Replacer, Spot

ROUNDING = 1e-3
"""Distance from a sum of 1 that is rounding."""
NAMES = ("softmax", "log_softmax")
"""Names of the calls that can be left out."""


def as_written(module: nn.Module) -> nn.Module:
    """Return a network with its compiled parts as they were written: compiled graphs have no second derivative."""
    inner = getattr(module, "_orig_mod", module)
    if not isinstance(inner, nn.Module):
        return module
    for name, part in list(inner.named_children()):
        written = as_written(part)
        if written is not part:
            setattr(inner, name, written)
    return inner


def bare(call: Call, x: Tensor) -> tuple[Call, str]:
    """Take a softmax or log-softmax off the end of a network.

    It is found by its numbers, in a module, a function or a node of a graph alike. One inside scripted code stays.

    Args:
        call: from normalised images to what the network returns (N, K).
        x: two or more normalised images (N, 3, H, W) that differ.

    Returns:
        The function to the logits, and what was taken off: 'softmax', 'log-softmax' or ''.
    """
    with torch.no_grad(), Recorder(len(x)) as recorder:
        z = call(x)
    if not isinstance(z, Tensor) or z.dim() != 2 or z.shape[1] < 2:
        return call, ""
    kind = "softmax" if _sums_to_one(z) else "log-softmax" if _sums_to_one(z.exp()) else ""
    if not kind:
        return call, ""
    for spot, t in reversed(recorder.spots()):
        if spot.made and spot.call in NAMES and t.numel() == z.numel() and torch.equal(t.reshape(z.shape), z):
            logits = partial(_without, call, spot)
            if _sums_back(kind, logits, x, z):
                return logits, kind
    return call, ""


def _sums_to_one(p: Tensor) -> bool:
    return bool((p >= 0).all() and ((p.sum(1) - 1).abs() < ROUNDING).all())


def _without(call: Call, spot: Spot, x: Tensor) -> Tensor:
    with Replacer(spot, lambda u: u, instead=True):
        return call(x)


@torch.no_grad()
def _sums_back(kind: str, logits: Call, x: Tensor, z: Tensor) -> bool:
    """Tell whether the logits, through the softmax that was taken off, are what the network returns."""
    u = logits(x)
    again = u.softmax(1) if kind == "softmax" else u.log_softmax(1)
    return torch.allclose(again, z, rtol=1e-4, atol=1e-6)
