"""The precision and the batch size that an audit chooses where they are left open."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from underfire.audit import batch, speed
from underfire.audit.batch import fastest
from underfire.audit.speed import OPEN, ChosenSpeed, plan_of, with_speed
from underfire.audit.steps import Steps, TakenStep
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


def chosen(monkeypatch: pytest.MonkeyPatch, by: float, seconds: dict[str, float], passes: float = 1e9) -> ChosenSpeed:
    """What is chosen where a step in each precision takes so many seconds."""
    take = Steps.take

    def timed(self: Any, step: Any, word: str) -> Any:
        found = take(self, step, word)
        return TakenStep(seconds[word], found.loss, found.gradient)

    monkeypatch.setattr(Steps, "take", timed)
    system = System(wrap(Flat(by), input_size=32, mean=0.0, std=1.0), {})
    plan: Any = SimpleNamespace(image_passes=passes, attacked=1, job=SimpleNamespace(cells=(), precision="fp32"))
    return speed._chosen([plan], frozenset({"precision"}), Steps(system, X))


FAST = {"fp32": 1.0, "bf16-last": 0.5, "fp32-last": 0.7}


def test_the_fastest_that_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1.0, FAST)
    assert choice.precision == "bf16-last"
    assert choice.facts["prediction, bf16-last"].startswith("2.00 times as fast, ")


def test_what_is_far_faster_is_taken_and_float32_measured_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1.0, {"fp32": 1.0, "bf16-last": 0.3, "fp32-last": 0.9})
    assert choice.precision == "bf16-last"
    assert choice.facts["prediction, bf16-last"].startswith("3.33 times as fast, ")


def test_not_what_has_another_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1e-3, FAST)
    assert choice.precision == "fp32-last"
    kept = re.match(r"2\.00 times as fast, (\d+) ?% of the descent", choice.facts["prediction, bf16-last"])
    assert kept is not None
    assert int(kept[1]) < 20


def test_not_what_gains_little(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, 1.0, {"fp32": 1.0, "bf16-last": 0.9, "fp32-last": 1.5}).precision == "fp32"


def test_a_little_is_enough_for_what_does_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, 1.0, {"fp32": 1.0, "bf16-last": 0.85, "fp32-last": 0.87}).precision == "fp32-last"


def against(first: speed.Against, last: speed.Against, prediction: float = 1.0) -> str:
    """What a map is searched for in, by what bf16-last and fp32-last gain and keep."""
    on_map = {"bf16-last": first, "fp32-last": last}
    return speed._fastest(speed._settled(on_map, {"bf16-last": speed.Against(2.0, prediction)}))


def test_a_map_is_settled_in_float32_where_bfloat16_keeps_too_little() -> None:
    exact = speed.Against(1.2, 1.0)
    assert against(speed.Against(2.0, 0.95), exact) == "bf16-last"
    assert against(speed.Against(2.0, 0.95), exact, prediction=0.8) == "bf16-fp32-last"
    assert against(speed.Against(2.0, 0.8), exact) == "bf16-fp32-last"
    assert against(speed.Against(2.0, 0.4), exact) == "bf16-fp32-last"
    assert against(speed.Against(2.0, 0.2), exact) == "fp32-last"
    assert against(speed.Against(1.3, 0.8), exact) == "bf16-fp32-last"  # 1.27 times as fast
    assert against(speed.Against(1.2, 0.8), exact) == "fp32-last"
    assert against(speed.Against(2.0, 0.6), speed.Against(1.3, 0.35)) == "fp32"  # nor is its end right
    assert against(speed.Against(2.0, 0.8), speed.Against(0.0, 0.0)) == "fp32"  # nothing to settle in
    assert speed._fastest(speed._settled({}, {})) == "fp32"


def test_a_short_audit_is_not_measured_for(monkeypatch: pytest.MonkeyPatch) -> None:
    choice = chosen(monkeypatch, 1.0, FAST, passes=100)
    assert choice.precision is None and "too little to measure for" in choice.facts["why"]


def test_kept_is_the_share_of_the_descent() -> None:
    g, loss = torch.tensor([[3.0, -1.0, 2.0, -4.0]]).view(1, 1, 2, 2), torch.ones(1)
    full = TakenStep(1.0, loss, g)
    assert full.kept(full) == 1.0
    other = TakenStep(1.0, loss, g * torch.tensor([1.0, -1.0, 1.0, 1.0]).view(1, 1, 2, 2))
    assert full.kept(other) == pytest.approx((3 - 1 + 2 + 4) / 10)
    assert full.kept(TakenStep(1.0, loss + 1, g)) == 0.0
    assert full.kept(TakenStep(1.0, loss, g * torch.nan)) == 0.0


def test_an_open_plan_of_float32_has_the_key_of_a_plan_that_says_so() -> None:
    plan = plan_of(Settings.parse(SMALL), None)
    said = make_plan(Settings.parse({**SMALL, "precision": "fp32"}))
    assert plan.job.precision == "fp32" and plan.digest == said.digest
    assert "why" in yaml.safe_load(plan.dump())["resolved"]["speed"]


def test_the_choice_is_in_the_key_and_an_earlier_plan_keeps_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    before = make_plan(Settings.parse({**SMALL, "precision": "fp32"}))
    plan = with_speed(before, ChosenSpeed("bf16-last", facts={"why": "it is faster"}))
    assert plan.digest != before.digest
    assert all(unit.job.precision == "bf16-last" for unit in plan.units())
    stored = Settings.parse(yaml.safe_load(plan.dump()))
    monkeypatch.setattr(speed, "choose", lambda *_: pytest.fail("it is chosen once"))
    again = plan_of(Settings.parse(SMALL), stored)
    assert again.digest == plan.digest


def sizes(usual: int, most: int, whole: float = 1e9, **seconds: float) -> tuple[int | None, list[int]]:
    """The size that is chosen where an image takes so many seconds at n8, n16, …, and the sizes that were tried."""
    tried: list[int] = []

    def timed(n: int) -> float | None:
        tried.append(n)
        return seconds.get(f"n{n}")

    found = fastest(timed, usual, most, whole)
    return (found.size if found else None), tried


def test_the_size_is_doubled_while_that_gains() -> None:
    assert sizes(8, 999, n8=1.0, n16=0.8, n32=0.6, n64=0.59, n128=0.1) == (32, [8, 16, 32, 64])
    assert sizes(8, 999, n8=1.0, n16=0.8) == (16, [8, 16, 32])  # 32 cannot be had
    assert sizes(8, 16, n8=1.0, n16=0.5, n32=0.1) == (16, [8, 16])


def test_else_it_is_halved() -> None:
    assert sizes(8, 999, n8=1.0, n16=1.0, n4=0.8, n2=0.7, n1=0.69) == (2, [8, 16, 4, 2, 1])
    assert sizes(8, 8, n8=1.0, n4=0.95) == (8, [8, 4])
    assert sizes(1, 1, n1=1.0) == (1, [1])


def test_what_costs_too_much_to_measure_is_not_tried() -> None:
    whole = (batch.ROUNDS + 1) * 16 * 1.0 / batch.SHARE
    assert sizes(8, 999, whole * 0.99, n8=1.0, n16=0.5, n4=1.0) == (8, [8, 4])
    assert sizes(8, 999, whole * 1.01, n8=1.0, n16=0.5, n4=1.0)[0] == 16
    assert sizes(8, 999, n16=0.5) == (None, [8])


def test_a_size_that_was_said_is_kept_and_one_that_was_not_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def choose(plans: Any, left: frozenset[str]) -> ChosenSpeed:
        asked.append(left)
        return ChosenSpeed("bf16", 4, {"batch": "4"}).only(left)

    monkeypatch.setattr(speed, "choose", choose)
    free = plan_of(Settings.parse(SMALL), None)
    said = plan_of(Settings.parse({**SMALL, "batch_size": 8, "precision": "fp32"}), None)
    sized = plan_of(Settings.parse({**SMALL, "batch_size": 8}), None)
    assert asked == [frozenset(OPEN), frozenset({"precision"})]
    assert [one.settings.batch_size for one in (free, said, sized)] == [4, 8, 8]
    assert [lane.batch for lane in free.lanes] == [4] and [lane.batch for lane in sized.lanes] == [8]
    assert said.digest == make_plan(Settings.parse({**SMALL, "batch_size": 8, "precision": "fp32"})).digest
    assert [yaml.safe_load(one.dump())["resolved"]["speed"] for one in (free, sized)] == [{"batch": "4"}, {}]
    stored = Settings.parse(yaml.safe_load(free.dump()))
    assert plan_of(Settings.parse(SMALL), stored).digest == free.digest


def test_a_size_that_no_audit_fills_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(speed, "SHORTEST", 0.0)
    monkeypatch.setattr(speed, "measured_batch", lambda steps, *_: asked.append(len(steps.x)))

    def said(*limits: int) -> str:
        plans = [make_plan(Settings.parse({**SMALL, "limit": limit, "precision": "fp32"})) for limit in limits]
        return speed.choose(plans, frozenset({"batch_size"})).facts["batch"]

    assert said(2, 5) == "8: 5 at most share one, so none was measured" and not asked
    with monkeypatch.context() as patch:
        patch.setattr(speed, "dearest", lambda cells: (with_speed(cells[-1][0], ChosenSpeed(batch_size=4)), None))
        assert said(2, 5) == "it could not be measured" and asked.pop()  # five photos fill the dearest attack's size
    plans = [with_speed(make_plan(Settings.parse({**SMALL, "limit": 2})), ChosenSpeed(batch_size=2))]
    assert speed.choose(plans, frozenset({"batch_size"})).facts["batch"] == "it could not be measured" and asked == [2]


def test_the_dearest_attack_is_what_a_size_is_measured_by(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = make_plan(Settings.parse({"images": "demo", "interpreter": ("cam", "grad"), "precision": "fp32"}))
    made: list[Any] = []

    def step_of(self: Steps, plan: Any, cell: Any) -> Any:
        made.append((cell.against, len(self.x)))
        return self.on_prediction()

    monkeypatch.setattr(Steps, "step_of", step_of)
    monkeypatch.setattr(batch, "batch_that_fits", lambda *_: 2)
    plan = with_speed(plan, ChosenSpeed(batch_size=2))
    system = System.of_job(plan.job)
    found = batch.measured_batch(
        Steps(system, torch.rand(2, 3, 224, 224)), [(plan, cell) for cell in plan.job.cells], "fp32", 1e9
    )
    assert found is not None and found.size in (1, 2) and set(found.seconds) == {1, 2}
    assert made == [("grad", 2), ("grad", 1)]
