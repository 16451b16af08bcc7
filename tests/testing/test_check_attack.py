"""An attack that breaks a rule is told by the rule's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from support import toys
from support.broken import Change, X, behind_the_meter, told
from underfire import testing
from underfire.core import Found, Goal, Images, Victim


@dataclass(frozen=True)
class Still:
    """An attack that gives the clean images back, or what is made of them."""

    name: ClassVar[str] = "still"
    fools_interpreter: ClassVar[bool] = False
    change: Change = lambda found, victim, x: found
    eps: int | None = 8
    limit: float = 3.0

    def bound(self, step_passes: float) -> float:
        return self.limit

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        victim.classifier.logits(x)
        found: Found = self.change(Found(x, torch.zeros(len(x), dtype=torch.int64)), victim, x)
        return found


class Melted(Still):
    """Its fields may change, so they are no key."""

    __hash__ = None  # type: ignore[assignment]


def moved(by: Callable[[Images], Tensor | float]) -> Change:
    """Images that are so many levels away."""
    return lambda found, victim, x: replace(found, images=(x + by(x) / 255))


def columns(**extras: Tensor) -> Change:
    return lambda found, victim, x: replace(found, extras=extras)


def noise(x: Images) -> Tensor:
    return torch.rand_like(x).round()


ATTACKS = [
    ("frozen", Melted()),
    ("shape", Still(lambda found, victim, x: replace(found, images=x[:1]))),
    ("grid", Still(moved(lambda x: 0.25))),
    ("range", Still(moved(lambda x: 300.0))),
    ("budget", Still(moved(lambda x: 9.0 * (x < 0.5)))),
    ("steps", Still(lambda found, victim, x: replace(found, steps=torch.zeros(len(x))))),
    ("steps", Still(lambda found, victim, x: replace(found, steps=torch.tensor([1])))),
    ("extras", Still(columns(bend=torch.zeros(3)))),
    ("extras", Still(columns(flow_max_px=torch.zeros(1)))),
    ("repeat", Still(moved(lambda x: noise(x) * (x < 0.9)))),
    ("batch", Still(moved(lambda x: (x < 0.9) * float(len(x) > 1)))),
    (
        "metered",
        Still(lambda found, victim, x: replace(found, steps=found.steps + behind_the_meter(victim.classifier, x))),
    ),
    ("cost", Still(limit=0.5)),
]


@pytest.mark.parametrize(("rule", "attack"), ATTACKS)
def test_an_attack_that_breaks_a_rule_is_told(rule: str, attack: Still) -> None:
    assert told(lambda: testing.check_attack(attack, Victim(toys.toy()), X), "still") == rule


def test_an_attack_without_a_budget_of_levels_may_move_a_pixel_far() -> None:
    testing.check_attack(Still(moved(lambda x: 100.0 * (x < 0.5)), eps=None), Victim(toys.toy()), X)
