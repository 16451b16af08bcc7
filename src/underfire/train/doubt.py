"""The doubt of a network (`Doubt`): the part that learns in adversarial training, and how it is held back.

Benign maps move where benign features are doubted and nowhere else. So what an epoch has learnt is judged, and kept,
with the doubt lowered until the maps of photos that it has not learnt from stay where the teacher's are.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from underfire.core import Maps
from underfire.images.maps import l1
from underfire.interpreters.rts.net import Doubt, MaskNet
from underfire.interpreters.rts.rts import maps_of
from underfire.train.evaluate import Evaluator
from underfire.train.photos import LabelledPhoto, seed_of

KEPT = 0.02
"""How far benign maps may move from the teacher's, L1: those of further photos move some more, and 0.03 is the
paper's figure."""
WIDE = 1008
"""Weights of an output of EfficientNet-Lite0's widest look, which the rate is for. What Adam's step does to an output
grows with them: at the same rate ResNet-50's doubt, with up to 9,216, fell in its first epoch to where it has no
slope."""
LOWEST = -40.0
"""A shift of the doubt's logit at which nothing is doubted."""
HALVINGS = 12
"""Of the interval in which the shift is searched: a hundredth of a logit."""


def doubt_of(net: MaskNet) -> Doubt:
    """Return the part of a network that learns in adversarial training."""
    if net.doubt is None:
        raise TypeError("This network has no doubt.")
    return net.doubt


def doubting(teacher: MaskNet, seed: int) -> MaskNet:
    """Copy a plain network and give it a doubt, which alone learns and starts near 0."""
    torch.manual_seed(seed_of(seed, "doubt"))
    net = MaskNet(teacher.channels, doubts=True)
    net.load_state_dict(net.state_dict() | teacher.state_dict())
    net.requires_grad_(False)
    doubt_of(net).requires_grad_(True)
    return net


def optimizer_of(doubt: Doubt, rate: float) -> torch.optim.Optimizer:
    """Make the optimiser of a doubt; each group says how many weights an output has, for `set_rates`."""
    groups: list[dict[str, Any]] = [
        {"params": list(look.parameters()), "fan_in": next(look.parameters())[0].numel()} for look in doubt.look
    ]
    groups.append({"params": [*doubt.think.parameters(), *doubt.weigh.parameters()], "fan_in": 1})
    return torch.optim.AdamW(groups, lr=rate, weight_decay=1e-3)


def set_rates(optimizer: torch.optim.Optimizer, rate: float, step: int, total: int) -> None:
    """Set the rates of one of ``total`` steps: a cosine down to a twentieth, and shorter steps for a wide look."""
    cosine = 0.05 + 0.95 * (1 + math.cos(math.pi * step / total)) / 2
    for group in optimizer.param_groups:
        group["lr"] = min(1.0, WIDE / group["fan_in"]) * rate * cosine


@contextlib.contextmanager
def lowered(net: MaskNet, teacher: MaskNet, photos: Sequence[LabelledPhoto], evaluator: Evaluator) -> Iterator[None]:
    """Lower the doubt, while it is judged, until the maps of these photos move by `KEPT` at most; then put it back."""
    bias = doubt_of(net).weigh.bias
    learnt = bias.detach().clone()
    _lower(bias, _movement(net, teacher, photos, evaluator))
    try:
        yield
    finally:
        with torch.no_grad():
            bias.copy_(learnt)


def _movement(
    net: MaskNet, teacher: MaskNet, photos: Sequence[LabelledPhoto], evaluator: Evaluator
) -> Callable[[], float]:
    """Prepare to measure how far the maps are from the teacher's, L1: the classifier sees the photos once."""
    seen: list[tuple[list[Tensor], Tensor, Maps]] = []
    classifier = evaluator.classifier
    net.eval()
    for _, x, y in evaluator.photos.batches(photos, evaluator.batch_size):
        with torch.no_grad():
            levels, w = classifier.pyramid(x), classifier.head[y]
            seen.append((levels, w, maps_of(teacher, levels, w)))

    def moved() -> float:
        return float(torch.cat([l1(maps_of(net, levels, w), m) for levels, w, m in seen]).mean())

    return moved


@torch.no_grad()
def _lower(bias: Tensor, moved: Callable[[], float]) -> None:
    """Shift the doubt's logit down, no farther than it takes."""
    learnt = bias.clone()

    def at(shift: float) -> float:
        bias.copy_(learnt + shift)
        return moved()

    if at(0.0) <= KEPT:
        return
    low, high = LOWEST, 0.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if at(middle) > KEPT else (middle, high)
    bias.copy_(learnt + low)
