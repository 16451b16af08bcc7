"""The measuring of a head: whether logits agree, whether a slope is level, and the weights W behind it."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from underfire.classifiers.lying import Lying

EXACT, ELSEWHERE = 1e-4, 1e-2
"""Differences that are rounding, as shares of the logits' spread: on a CPU; on GPUs, which round to ten bits."""


def tolerance(x: Tensor) -> float:
    """Return the share of the logits' spread that is rounding on a device."""
    return EXACT if x.device.type == "cpu" else ELSEWHERE


def same(z: Tensor, other: Tensor) -> bool:
    """Tell whether logits are the same but for rounding."""
    spread = float(z.amax() - z.amin()) or float(z.abs().amax())
    return z.shape == other.shape and bool((z - other).abs().amax() <= tolerance(z) * spread)


def mixed(z: Tensor) -> Tensor:
    """Mix the logits (N, K) into one number, with seeded random weights."""
    w = torch.randn(z.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (z @ w.to(z)).sum()


def pooled(w: Tensor, b: Tensor, maps: Tensor) -> Tensor:
    """Compute logits (N, K) of feature maps (N, C, h, w): W (K, C) times their average, and b (K,)."""
    return F.linear(maps.mean((2, 3)), w.to(maps), b.to(maps))


def other_maps(a: Tensor) -> Tensor:
    """Make other maps of maps (N, C, h, w): each channel's values shuffled over the places and damped by a factor.

    They keep the range of an activation, such as that of a ReLU6.
    """
    generator = torch.Generator().manual_seed(1)
    n, c, h, w = a.shape
    order = torch.rand(n, c, h * w, generator=generator).argsort(2).to(a.device)
    damp = torch.rand(n, c, 1, 1, generator=generator, dtype=torch.float64).to(a)
    return a.detach().flatten(2).gather(2, order).reshape(a.shape) * damp


def slope_of(z: Tensor, t: Tensor) -> Tensor | None:
    """Compute the slope of the mixed logits ``z`` at a tensor; None where they do not depend on it."""
    return torch.autograd.grad(mixed(z), t, retain_graph=True, allow_unused=True)[0]


def level(slope: Tensor, space: tuple[int, int]) -> bool:
    """Tell whether a slope (N, C, h, w) is the same at all places and for all images."""
    largest = float(slope.abs().amax())
    limit = tolerance(slope) * largest
    return largest > 0 and bool((slope - slope.mean((0, *space), keepdim=True)).abs().amax() <= limit)


def weight_of(module: nn.Module, z: Tensor, t: Tensor, slope: Tensor, way: Lying | None = None) -> Tensor:
    """Return W (K, C): one of the network's own weights where it is that, else measured by gradients."""
    row = slope.mean(0).sum((1, 2))
    v = torch.randn(z.shape[1], generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(z)
    for w in weights_of(module, z.shape[1], len(row)):
        if bool((v @ w.to(z) - row).abs().amax() <= tolerance(z) * row.abs().amax()):
            return w
    rows = []
    for start in range(0, z.shape[1], len(z)):  # each image of the batch has a logit of its own
        chosen = range(start, min(start + len(z), z.shape[1]))
        score = torch.stack([z[n, k] for n, k in enumerate(chosen)]).sum()
        g = torch.autograd.grad(score, t, retain_graph=True)[0]
        rows.append((way.maps(g) if way else g).sum((2, 3))[: len(chosen)])
    return torch.cat(rows).detach()


def weights_of(module: nn.Module, k: int, c: int) -> Iterator[Tensor]:
    """Yield the weights and buffers of a network that could be W (K, C)."""
    for t in (*module.parameters(), *module.buffers()):
        if not t.is_floating_point() or t.numel() != k * c:
            continue
        if t.shape[:2] == (k, c):
            yield t.detach().reshape(k, c)
        elif t.shape == (c, k):
            yield t.detach().T
