"""The head of a network: the feature maps whose average, through one linear function, gives the logits.

It is found by measuring, not by names. A is such feature maps if the logits z are

    z = W · mean_hw(A) + b

for the network's own A and for any other A that is put in its place: shuffled over the places, and damped. So it does
not matter whether the network writes this as a linear layer, a 1×1 convolution or a matrix product, with channels first
or last, or as tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from underfire.classifiers.calls import Call, Catcher, Recorder, Spot, with_value
from underfire.classifiers.lying import Lying, grids_of, lying_ways
from underfire.classifiers.measure import level, mixed, other_maps, pooled, same, slope_of, weight_of, weights_of

Features = Callable[[Tensor], Tensor]
"""A function from normalised images to feature maps, or from these to logits."""
LOUD = 1e6
"""Factor that shows bends far from 0: with untrained weights, an activation between two layers looks linear."""
LOOKED = 24
"""Candidates that are looked at, from the logits backwards."""


@dataclass(frozen=True)
class FoundHead:
    """The head of a network, found.

    Args:
        features: function from normalised images (N, 3, H, W) to the last feature maps (N, C, h, w).
        scores: function from these to logits (N, K).
        weight: W (K, C).
        where: the module or function that makes the maps, for people.
        shape: (C, h, w) of the maps.
    """

    features: Features
    scores: Features
    weight: Tensor
    where: str
    shape: tuple[int, int, int]


def find(
    call: Call, module: nn.Module, x: Tensor, given: tuple[Features | None, Features | None] = (None, None)
) -> FoundHead | None:
    """Find the head of a network; None where its logits are no linear function of averaged feature maps.

    Args:
        call: from normalised images to logits (N, K); ``module`` runs in it.
        module: the network.
        x: two or more normalised images (N, 3, H, W) that differ.
        given: functions to the maps and from them to the logits, where somebody knows them.
    """
    with torch.enable_grad():
        found = _of_given(call, module, x, *given)
        return found or next((head for head in _of_trace(call, module, x)), None)


# -- what somebody knows ----------------------------------------------------------------------------------------------


def _of_given(
    call: Call, module: nn.Module, x: Tensor, features: Features | None, scores: Features | None
) -> FoundHead | None:
    if features is None:
        return None
    with torch.no_grad():
        a, z = features(x), call(x)
    if not isinstance(a, Tensor) or len(a) != len(x):
        return None
    for way in lying_ways(a, _grids(call, x) if a.dim() == 3 else ()):
        maps = partial(_maps, features, way)
        if scores is None:
            head = _by_a_weight(module, maps, way.maps(a), z)
        else:
            head = _by_scores(module, maps, partial(_scores, scores, way), way.maps(a), z)
        if head is not None:
            return head
    return None


def _grids(call: Call, x: Tensor) -> list[tuple[int, int]]:
    with torch.no_grad(), Recorder(len(x)) as recorder:
        call(x)
    return grids_of(recorder.spots())


def _maps(features: Features, way: Lying, x: Tensor) -> Tensor:
    return way.maps(features(x))


def _scores(scores: Features, way: Lying, maps: Tensor) -> Tensor:
    return scores(way.back(maps))


def _by_a_weight(module: nn.Module, features: Features, a: Tensor, z: Tensor) -> FoundHead | None:
    """Look among the weights for the W that makes z − W mean(A) the same for all images."""
    for w in weights_of(module, z.shape[1], a.shape[1]):
        rest = z - a.mean((2, 3)) @ w.T
        if same(z, z - rest + rest.mean(0)):
            return FoundHead(features, partial(pooled, w, rest.mean(0)), w, "features=", _shape(a))
    return None


def _by_scores(module: nn.Module, features: Features, scores: Features, a: Tensor, z: Tensor) -> FoundHead | None:
    both = torch.cat([a, other_maps(a), LOUD * other_maps(a)]).requires_grad_()
    out = scores(both)
    if out.shape[0] != len(both) or not same(z, out[: len(a)].detach()) or not out.requires_grad:
        return None
    slope = slope_of(out, both)
    if slope is None or not level(slope, (2, 3)):
        return None
    w = weight_of(module, out, both, slope)
    b = (z - a.mean((2, 3)) @ w.T).mean(0)
    for got, given in zip(torch.split(out.detach(), len(a)), torch.split(both.detach(), len(a)), strict=True):
        if not same(got, pooled(w, b, given)):
            return None
    return FoundHead(features, scores, w, "", _shape(a))


# -- what a forward shows ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """What one forward shows.

    Args:
        z: the logits (N, K), with their graph.
        found: tensors that have places and reach the logits, the last first: where, value, and slope of `mixed` logits.
        grids: (h, w) of all tensors with two sides.
    """

    z: Tensor
    found: list[tuple[Spot, Tensor, Tensor]]
    grids: list[tuple[int, int]]


def trace(call: Call, x: Tensor) -> Trace:
    """Run a forward of normalised images, and look at the tensors in it."""
    with torch.enable_grad(), Recorder(len(x)) as recorder:
        z = call(x.detach().clone().requires_grad_())
    spots = recorder.spots()
    placed = [(spot, t) for spot, t in reversed(spots) if t.requires_grad and t is not z and _has_places(t)][:LOOKED]
    if not z.requires_grad or not placed:
        return Trace(z, [], grids_of(spots))
    slopes = torch.autograd.grad(mixed(z), [t for _, t in placed], retain_graph=True, allow_unused=True)
    found = [(spot, t, g) for (spot, t), g in zip(placed, slopes, strict=True) if g is not None and bool(g.any())]
    return Trace(z, found, grids_of(spots))


def _has_places(t: Tensor) -> bool:
    return t.dim() in (3, 4) and sum(side > 1 for side in t.shape[1:]) > 1


def _of_trace(call: Call, module: nn.Module, x: Tensor) -> Iterator[FoundHead]:
    seen = trace(call, x)
    for spot, t, slope in sorted(seen.found, key=lambda one: -one[1].dim()):  # maps with two sides before tokens
        for way in lying_ways(t, seen.grids):
            if not level(way.maps(slope), (2, 3)) or max(way.grid) == 1:
                continue
            head = _proved(call, module, x, spot, way, seen.z, t, slope)
            if head is not None:
                yield head


def _proved(
    call: Call, module: nn.Module, x: Tensor, spot: Spot, way: Lying, z: Tensor, t: Tensor, slope: Tensor
) -> FoundHead | None:
    """Put other maps in the place of these, and see whether the logits are still W mean(A) + b."""
    a = way.maps(t.detach())
    if not _straight(call, x, spot, way, a):
        return None
    w = weight_of(module, z, t, way.maps(slope), way)
    z = z.detach()
    b = (z - a.mean((2, 3)) @ w.T).mean(0)
    scores = partial(pooled, w, b)
    if not same(z, scores(a)):
        return None
    for other in (other_maps(a), LOUD * other_maps(a)):
        if not same(with_value(call, spot, partial(_instead, way.back(other)), x), scores(other)):
            return None
    with torch.no_grad(), Catcher(spot, named=True) as catcher:
        call(x)
    again, where = catcher.caught()
    if not same(z, scores(way.maps(again))):  # without gradients some layers take another way
        return None
    return FoundHead(partial(_caught, call, spot, way), scores, w, where or spot.call, _shape(a))


def _straight(call: Call, x: Tensor, spot: Spot, way: Lying, a: Tensor) -> bool:
    """Tell whether the logits go on in a straight line, far from the network's own maps too; W is slow to measure."""
    other = LOUD * other_maps(a)
    none, one, two = (with_value(call, spot, partial(_instead, way.back(k * other)), x) for k in (0, 1, 2))
    return same(two, 2 * one - none)


def _instead(value: Tensor, was: Tensor) -> Tensor:
    return value


def _caught(call: Call, spot: Spot, way: Lying, x: Tensor) -> Tensor:
    with Catcher(spot) as catcher:
        call(x)
    return way.maps(catcher.caught()[0])


def _shape(a: Tensor) -> tuple[int, int, int]:
    c, h, w = a.shape[1:]
    return c, h, w
