"""The precision that an audit chooses where it is left open."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from underfire.audit import speed
from underfire.audit.speed import ChosenPrecision, plan_of, with_precision
from underfire.classifiers.base import wrap
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings
from underfire.trial.system import System

SMALL = {"images": "demo", "limit": 1, "attack": "pgd", "options": {"pgd": {"steps": 1}}}
X = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Flat(nn.Module):
    """Logits W·x whose weights differ by less than bfloat16 can tell."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 32 * 32, 4)
        noise = torch.randn(4, 3 * 32 * 32, generator=torch.Generator().manual_seed(0))
        self.linear.weight.data = (1 + by * noise) / 512  # a power of two: as many bits as before

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits."""
        out: Tensor = self.linear(x.flatten(1))
        return out


def chosen(
    monkeypatch: pytest.MonkeyPatch, by: float, seconds: dict[str, float], passes: float = 1e9
) -> ChosenPrecision:
    """What is chosen where a step in each precision takes so many seconds."""
    asked = speed._Timing._asked

    def timed(self: Any, step: Any, word: str) -> Any:
        found = asked(self, step, word)
        return speed._Step(seconds[word], found.loss, found.gradient)

    monkeypatch.setattr(speed._Timing, "_asked", timed)
    system = System(wrap(Flat(by), input_size=32, mean=0.0, std=1.0), {})
    return speed._Timing(system, X, passes).choice([])


FAST = {"fp32": 1.0, "bf16-last": 0.5, "fp32-last": 0.7}


def test_the_fastest_that_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1.0, FAST)
    assert choice.words == "bf16-last"
    assert choice.facts["prediction, bf16-last"].startswith("2.00 times as fast, ")


def test_what_is_far_faster_is_taken_and_float32_measured_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1.0, {"fp32": 1.0, "bf16-last": 0.3, "fp32-last": 0.9})
    assert choice.words == "bf16-last"
    assert choice.facts["prediction, bf16-last"].startswith("3.33 times as fast, ")


def test_not_what_has_another_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1e-3, FAST)
    assert choice.words == "fp32-last"
    assert choice.facts["prediction, bf16-last"].startswith("2.00 times as fast, 1")  # of a hundred


def test_not_what_gains_little(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, 1.0, {"fp32": 1.0, "bf16-last": 0.9, "fp32-last": 1.5}).words == "fp32"


def test_a_little_is_enough_for_what_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, 1.0, {"fp32": 1.0, "bf16-last": 0.85, "fp32-last": 0.87}).words == "fp32-last"


def test_a_short_audit_is_not_measured_for(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1.0, FAST, passes=100)
    assert choice.words == "fp32" and "too little to measure for" in choice.facts["why"]


def test_kept_is_the_share_of_the_descent() -> None:
    g, loss = torch.tensor([[3.0, -1.0, 2.0, -4.0]]).view(1, 1, 2, 2), torch.ones(1)
    full = speed._Step(1.0, loss, g)
    assert full.kept(full) == 1.0
    other = speed._Step(1.0, loss, g * torch.tensor([1.0, -1.0, 1.0, 1.0]).view(1, 1, 2, 2))
    assert full.kept(other) == pytest.approx((3 - 1 + 2 + 4) / 10)
    assert full.kept(speed._Step(1.0, loss + 1, g)) == 0.0
    assert full.kept(speed._Step(1.0, loss, g * torch.nan)) == 0.0


def test_an_open_plan_of_float32_has_the_key_of_a_plan_that_says_so() -> None:
    plan = plan_of(Settings.parse(SMALL), None)
    said = make_plan(Settings.parse({**SMALL, "precision": "fp32"}))
    assert plan.job.precision == "fp32" and plan.digest == said.digest
    assert "why" in yaml.safe_load(plan.dump())["resolved"]["speed"]


def test_the_choice_is_in_the_key_and_an_earlier_plan_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_plan(Settings.parse({**SMALL, "precision": "fp32"}))
    plan = with_precision(before, ChosenPrecision("bf16-last", {"why": "it is faster"}))
    assert plan.digest != before.digest
    assert all(unit.job.precision == "bf16-last" for unit in plan.units())
    stored = Settings.parse(yaml.safe_load(plan.dump()))
    monkeypatch.setattr(speed, "choose", lambda plans: pytest.fail("it is chosen once"))
    again = plan_of(Settings.parse(SMALL), stored)
    assert again.digest == plan.digest
