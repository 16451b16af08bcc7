"""A classifier, a defense or an executor that breaks a rule is told by the rule's name."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from support import toys
from support.broken import Change, X, behind_the_meter, counted_twice, told
from underfire import testing
from underfire.classifiers.base import TorchClassifier
from underfire.core import Images, Outcome, Unit

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
    expected: float | None = None
    bound: float | None = None

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
    ("once", Clerk(lambda outcomes: itertools.islice(outcomes, 10))),
    ("error", Clerk(lambda outcomes: (replace(one, error="lost") for one in outcomes))),
]


@pytest.mark.parametrize(("rule", "executor"), EXECUTORS)
def test_an_executor_that_breaks_a_rule_is_told(rule: str, executor: Clerk) -> None:
    assert told(lambda: testing.check_executor(executor), "Clerk") == rule
