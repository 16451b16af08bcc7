"""The checks themselves: each rule, broken once, is told by its name and with the part's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from support import toys
from underfire import testing
from underfire.classifiers.base import TorchClassifier
from underfire.core import Found, Goal, Images, Labels, Maps, Outcome, Terms, Unit, Victim
from underfire.interpreters.cam import Cam, CamSurrogate

X = toys.pictures(3)
Change = Callable[..., Any]


def behind_the_meter(classifier: Any, x: Images) -> int:
    """0, after a forward pass that nobody counts."""
    classifier.module((x.double() - 0.5) / toys.STD)
    return 0


def counted_twice(classifier: Any, x: Images) -> int:
    """0, after a charge for nothing."""
    classifier.meter.charge(len(x))
    return 0


# -- interpreters -----------------------------------------------------------------------------------------------------


class BrokenCam(Cam):
    """CAM with maps, terms or rows that are changed."""

    def __init__(self, maps: Change | None = None, terms: Change | None = None, rows: Change | None = None) -> None:
        super().__init__(toys.toy())
        self.maps, self.changed, self.rows, self.asked = maps, terms, rows, 0

    def explain(self, x: Images, y: Labels) -> Maps:
        self.asked += 1
        m = super().explain(x, y)
        return m if self.maps is None else self.maps(self, m, x)

    def surrogate(self, x: Images, goal: Goal, **options: object) -> BrokenSurrogate:
        return BrokenSurrogate(self, goal)


class BrokenSurrogate(CamSurrogate):
    cam: BrokenCam

    def terms(self, x: Images) -> Terms:
        t = super().terms(x)
        return t if self.cam.changed is None else self.cam.changed(self, t, x)

    def select(self, keep: Tensor) -> None:
        super().select(keep if self.cam.rows is None else self.cam.rows(keep))


def saying(map_passes: float, step_passes: float) -> BrokenCam:
    """CAM that costs 1 F a map and 3 F a step, whatever it says."""
    cam = BrokenCam()
    cam.map_passes, cam.step_passes = map_passes, step_passes
    return cam


MAPS: list[tuple[str, Change]] = [
    ("shape", lambda cam, m, x: m[:, None]),
    ("shape", lambda cam, m, x: m.mean(0, keepdim=True)),
    ("type", lambda cam, m, x: (255 * m).byte()),
    ("type", lambda cam, m, x: m.clone().requires_grad_()),
    ("range", lambda cam, m, x: 2 * m),
    ("range", lambda cam, m, x: m - 0.5),
    ("range", lambda cam, m, x: m + math.nan),
    ("repeat", lambda cam, m, x: m * (1 - 1e-6 * cam.asked)),
    ("batch", lambda cam, m, x: m * x.mean()),
    ("metered", lambda cam, m, x: m + behind_the_meter(cam.classifier, x)),
]
TERMS: list[tuple[str, Change]] = [
    ("logits", lambda s, t, x: t._replace(logits=2 * t.logits)),
    ("loss", lambda s, t, x: t._replace(loss=t.loss.mean())),
    ("loss", lambda s, t, x: t._replace(loss=t.loss * math.nan)),
    ("shown", lambda s, t, x: t._replace(maps=None)),
    ("shown", lambda s, t, x: t._replace(maps=t.maps.square())),
    ("gradient", lambda s, t, x: t._replace(loss=t.loss.detach() + 0 * t.loss)),
    ("gradient", lambda s, t, x: t._replace(loss=0.99 * t.loss + 0.01 * t.loss.detach())),
    ("metered", lambda s, t, x: t._replace(loss=t.loss + behind_the_meter(s.cam.classifier, x))),
]


def broken_cams() -> Iterator[tuple[str, BrokenCam]]:
    yield from ((rule, BrokenCam(maps=change)) for rule, change in MAPS)
    yield from ((rule, BrokenCam(terms=change)) for rule, change in TERMS)
    yield "select", BrokenCam(rows=lambda keep: keep.flip(0))
    yield from (("cost", saying(*passes)) for passes in ((0.9, 3.0), (1.2, 3.0), (1.0, 2.9)))


def told(check: Callable[[], None], part: str) -> str:
    """The rule that a check says a part breaks."""
    with pytest.raises(testing.ContractError, match=f"'{part}'") as e:
        check()
    return e.value.rule


@pytest.mark.parametrize(("rule", "cam"), list(broken_cams()))
def test_an_interpreter_that_breaks_a_rule_is_told(rule: str, cam: BrokenCam) -> None:
    assert told(lambda: testing.check_interpreter(cam, cam.classifier, X), "cam") == rule


def test_slopes_that_are_not_the_values_own_can_be_allowed() -> None:
    cam = BrokenCam(terms=lambda s, t, x: t._replace(loss=0.5 * t.loss + 0.5 * t.loss.detach()))
    testing.check_interpreter(cam, cam.classifier, X, smooth=False)


# -- attacks ----------------------------------------------------------------------------------------------------------


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


# -- classifiers ------------------------------------------------------------------------------------------------------


class BrokenToy(TorchClassifier):
    """A toy whose answers are changed."""

    def __init__(self, logits: Change | None = None, features: Change | None = None, frozen: bool = True) -> None:
        whole = toys.toy()
        super().__init__(whole.module, name="toy", preprocess=whole.preprocess, classes=whole.classes)
        self.module.requires_grad_(not frozen)
        self.z, self.f = logits, features
        self._pyramid = lambda x: [torch.zeros(1), torch.zeros(1)]

    def logits(self, x: Images) -> Tensor:
        z = super().logits(x)
        return z if self.z is None else self.z(self, z, x)

    def features(self, x: Images) -> Tensor:
        f = super().features(x)
        return f if self.f is None else self.f(self, f, x)


CLASSIFIERS = [
    ("answers", BrokenToy(lambda c, z, x: z.softmax(1))),
    ("frozen", BrokenToy(frozen=False)),
    ("batch", BrokenToy(lambda c, z, x: z + x.mean())),
    ("metered", BrokenToy(lambda c, z, x: z + counted_twice(c, x))),
    ("metered", BrokenToy(lambda c, z, x: z + behind_the_meter(c, x))),
    ("features", BrokenToy(features=lambda c, f, x: f.square())),
    ("pyramid", BrokenToy()),
]


@pytest.mark.parametrize(("rule", "classifier"), CLASSIFIERS)
def test_a_classifier_that_breaks_a_rule_is_told(rule: str, classifier: BrokenToy) -> None:
    assert told(lambda: testing.check_classifier(classifier, X), "toy") == rule


# -- defenses ---------------------------------------------------------------------------------------------------------


class Alarm:
    """Raises an alarm for dark images, or for something else."""

    name, digest, passes = "dark", "", 1.0

    def __init__(self, change: Change | None = None, threshold: float = 0.5, passes: float = 1.0) -> None:
        self.classifier, self.change = toys.toy(), change
        self.threshold, self.passes, self.asked = threshold, passes, 0

    def scores(self, x: Images) -> tuple[Tensor, Tensor, dict[str, Any]]:
        self.asked += 1
        z, s = self.classifier.logits(x), 1 - x.mean((1, 2, 3))
        return (z, s, {}) if self.change is None else self.change(self, z, s, x)


DEFENSES = [
    ("threshold", Alarm(threshold=math.nan)),
    ("logits", Alarm(lambda a, z, s, x: (-z, s, {}))),
    ("shape", Alarm(lambda a, z, s, x: (z, s[:, None], {}))),
    ("numbers", Alarm(lambda a, z, s, x: (z, s * math.nan, {}))),
    ("repeat", Alarm(lambda a, z, s, x: (z, s * a.asked, {}))),
    ("batch", Alarm(lambda a, z, s, x: (z, s - s.mean(), {}))),
    ("metered", Alarm(lambda a, z, s, x: (z, s + behind_the_meter(a.classifier, x), {}))),
    ("cost", Alarm(passes=0.5)),
]


@pytest.mark.parametrize(("rule", "defense"), DEFENSES)
def test_a_defense_that_breaks_a_rule_is_told(rule: str, defense: Alarm) -> None:
    assert told(lambda: testing.check_defense(defense, defense.classifier, X), "dark") == rule


def test_a_defense_may_say_of_an_image_that_it_cannot_be_scored() -> None:
    alarm = Alarm(lambda a, z, s, x: (z, s.where(x.mean((1, 2, 3)) < 0.5, math.inf), {}))
    testing.check_defense(alarm, alarm.classifier, X)


# -- executors --------------------------------------------------------------------------------------------------------


class Clerk:
    """An executor in this process."""

    def __init__(self, change: Change = lambda outcomes: outcomes) -> None:
        self.change = change

    def map(self, fn: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Iterator[Outcome]:
        outcomes: Iterator[Outcome] = self.change(map(fn, units))
        return outcomes

    def close(self) -> None:
        """Nothing to end."""


def twice(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    for outcome in outcomes:
        yield from (outcome, outcome)


def without_the_first(outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
    next(outcomes)
    yield from outcomes


EXECUTORS = [
    ("lazy", Clerk(lambda outcomes: iter(list(outcomes)))),
    ("once", Clerk(twice)),
    ("once", Clerk(without_the_first)),
    ("error", Clerk(lambda outcomes: (replace(one, error="lost") for one in outcomes))),
]


@pytest.mark.parametrize(("rule", "executor"), EXECUTORS)
def test_an_executor_that_breaks_a_rule_is_told(rule: str, executor: Clerk) -> None:
    assert told(lambda: testing.check_executor(executor), "Clerk") == rule
