"""Check an attack: its budget, the 8-bit grid, and that an image's result is its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable

import torch
from torch import Tensor

from underfire.core import COLUMNS, LEVELS, Attack, Found, Goal, Images, Victim
from underfire.testing.contract import SLACK, largest, pictures_for, require, spent

WHOLE = 0.01
"""How far a level may be from a whole number: float32 has an error of 1e-5 levels."""
FIRST_ORDER = 3.0
"""F of a step on the prediction alone."""


def check_attack(attack: Attack, victim: Victim, x: Images | None = None, *, tolerance: float | None = None) -> None:
    """Hold an attack against its protocol.

    Args:
        attack: with its settings; few steps are enough.
        victim: a small classifier, and the interpreter that the attack is made against, if any.
        x: (N, 3, H, W) images on the 8-bit grid, in [0, 1], two or more; by default three soft random pictures in
            float32.
        tolerance: share of the levels that may differ between an image alone and in a batch. By default none in
            float64, and one in a hundred else: there rounding turns the sign of a gradient that is nearly 0.

    Raises:
        ContractError: for the first rule that is broken: 'frozen', 'shape', 'grid', 'range', 'budget', 'steps',
            'extras', 'repeat', 'batch', 'metered' or 'cost'.

    Example:
        >>> classifier = underfire.classifier("efficientnet-lite0")
        >>> check_attack(MyAttack(eps=8, steps=3), Victim(classifier))
    """
    x = pictures_for(victim.classifier) if x is None else x
    found = "its settings are no frozen dataclass, so they cannot go into the key of a result"
    require(_frozen(attack), attack.name, "frozen", found)
    x, goal = x.detach(), _goal(victim, x)
    results: list[Found] = []
    passes = spent(attack.name, victim.classifier, len(x), lambda: results.append(_run(attack, victim, x, goal)))
    result = results[0]
    _check_images(attack, x, result)
    _check_columns(attack, len(x), result)
    _check_independence(attack, victim, x, goal, result, tolerance)
    most = attack.bound(victim.interpreters[0].step_passes if victim.interpreters else FIRST_ORDER)
    require(passes <= most * (1 + SLACK), attack.name, "cost", f"it took {passes:g} F, and bound says {most:g}")


def _frozen(attack: object) -> bool:
    return dataclasses.is_dataclass(attack) and isinstance(attack, Hashable)


def _goal(victim: Victim, x: Images) -> Goal:
    """The runner-up classes, and the maps of the clean images for their own."""
    order = victim.classifier.logits(x).detach().argsort(1, descending=True)
    maps = {one.name: one.explain(x, order[:, 0]).detach().to(x) for one in victim.interpreters}
    return Goal(order[:, 1], order[:, 0], maps)


def _run(attack: Attack, victim: Victim, x: Images, goal: Goal, first: int = 0) -> Found:
    return attack.run(victim, x.clone(), goal, range(first, first + len(x)))


def _check_images(attack: Attack, x: Images, found: Found) -> None:
    name, images = attack.name, found.images.detach()
    require(images.shape == x.shape, name, "shape", f"of images {tuple(x.shape)} it makes {tuple(images.shape)}")
    levels = images.double() * LEVELS
    off = largest(levels - levels.round())
    require(off <= WHOLE, name, "grid", f"its images are {off:g} away from whole levels of {LEVELS}")
    low, high = float(levels.min()), float(levels.max())
    in_range = low >= -WHOLE and high <= LEVELS + WHOLE
    require(in_range, name, "range", f"its levels go from {low:g} to {high:g}, not 0 to {LEVELS}")
    if attack.eps is not None:
        far = largest(levels.round() - (x.double() * LEVELS).round())
        require(far <= attack.eps, name, "budget", f"a pixel is moved by {far:g} levels, and eps is {attack.eps}")


def _check_columns(attack: Attack, n: int, found: Found) -> None:
    name, steps = attack.name, found.steps
    counted = steps.shape == (n,) and not steps.is_floating_point() and bool((steps >= 0).all())
    require(counted, name, "steps", f"the steps of {n} images are {steps.tolist()}")
    for column, values in found.extras.items():
        require(column in COLUMNS, name, "extras", f"'{column}' is no column of a record")
        require(values.shape == (n,), name, "extras", f"'{column}' of {n} images has the shape {tuple(values.shape)}")


def _check_independence(
    attack: Attack, victim: Victim, x: Images, goal: Goal, found: Found, tolerance: float | None
) -> None:
    again = _differ(_run(attack, victim, x, goal).images, found.images)
    require(again == 0, attack.name, "repeat", f"run twice, {again:.2%} of the levels differ")
    most = tolerance if tolerance is not None else 0.0 if x.dtype == torch.float64 else 0.01
    for n in range(len(x)):
        rows = torch.tensor([n], device=x.device)
        alone = _run(attack, victim, x[rows], goal.select(rows), first=n).images
        share = _differ(alone, found.images[rows])
        told = f"alone and in a batch, {share:.2%} of an image's levels differ; {most:.2%} are allowed"
        require(share <= most, attack.name, "batch", told)


def _differ(a: Tensor, b: Tensor) -> float:
    """Tell which share of the levels of two batches differ."""
    return float(((a.detach() - b.detach()).mul(LEVELS).abs() > 0.5).double().mean())
