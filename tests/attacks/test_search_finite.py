"""What is not finite in a search is an error of that image, with its place."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.toys import SIZE, STD, ToyNet, goal_for, pictures, seeded, toy
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.attacks.search import Ball, Flow, Schedule
from underfire.attacks.search.finite import POSITION, NotFinite
from underfire.attacks.stadv import adv2_stadv, stadv
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import Goal, ImageErrors, Images, Terms, Victim
from underfire.interpreters.cam import Cam, CamSurrogate
from underfire.interpreters.grad import Grad


class Before(nn.Module):
    """A toy behind a function of its own."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function, self.base = function, seeded(ToyNet(), 1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.base((self.function(x) - 0.5) / STD)
        return logits


class Faulty(nn.Module):
    """The identity, but for its slope or its value where the first pixel is exactly 0."""

    def __init__(self, value: bool) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        bad = (x[:, :1, :1, :1] == 0).to(x)
        return x + bad / (1 - bad) if self.value else x + (x + 1 - bad).abs().sqrt()


def wrapped(module: nn.Module) -> TorchClassifier:
    return wrap(module, input_size=SIZE, resize=SIZE, mean=(0, 0, 0), std=(1, 1, 1), name="strange")


def with_black(n: int = 3, row: int = 1) -> Images:
    x = pictures(n)
    x[row, :, :2, :2] = 0
    return x


def runner_up(classifier: TorchClassifier, x: Images) -> Tensor:
    return classifier.logits(x).argsort(1, descending=True)[:, 1]


@pytest.mark.parametrize("maker", [pgd, stadv])
def test_an_infinite_slope_at_black_is_an_error_of_that_image(maker: Any) -> None:
    classifier = wrapped(Before(lambda x: x ** (1 / 2.2)))
    x = with_black()
    goal = Goal(runner_up(classifier, x), x[:, 0, 0, 0].long())
    with pytest.raises(ImageErrors) as caught:
        maker.make("fast", None, 8, steps=5).run(Victim(classifier), x, goal, range(3))
    assert caught.value.by_row == {
        1: "in the search the gradient of ℓ_prd is not finite from what comes before the first layer on."
    }


@pytest.mark.parametrize("maker", [adv2, adv2_stadv])
def test_the_same_with_a_map(maker: Any) -> None:
    classifier = wrapped(Before(lambda x: x ** (1 / 2.2)))
    grad = Grad(classifier, resolution="full")
    x = with_black().clamp_min(1 / 255)
    goal = Goal(runner_up(classifier, x), x[:, 0, 0, 0].long(), {"grad": grad.explain(x, runner_up(classifier, x))})
    x = with_black()
    with pytest.raises(ImageErrors, match=r"in the search the gradient .*is not finite") as caught:
        maker.make("fast", "grad", 8, steps=5, warmup=0).run(Victim(classifier, (grad,)), x, goal, range(3))
    assert list(caught.value.by_row) == [1]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (True, "in the search the output of layer 'first.0' (Faulty) is not finite."),
        (False, "in the search the gradient of ℓ_prd is not finite from layer 'first.0' (Faulty) on."),
    ],
)
def test_the_layer_is_named(value: bool, why: str) -> None:
    module = seeded(ToyNet(), 1)
    module.add_module("first", nn.Sequential(Faulty(value), module.get_submodule("first")))
    classifier = wrapped(module)
    x = with_black()
    goal = Goal(torch.tensor([0, 1, 2]), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ImageErrors) as caught:
        pgd.make("fast", None, 8, steps=5).run(Victim(classifier), x, goal, range(3))
    assert caught.value.by_row == {1: why}


def test_scores_that_stop_being_finite_on_the_way_are_told_too() -> None:
    classifier = toy()
    x = pictures(3)
    goal = Goal(runner_up(classifier, x), x[:, 0, 0, 0].long())
    known = x[1:2].clone()

    class Moved(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            far = (z - known).abs().amax((1, 2, 3), keepdim=True)
            return classifier.logits(torch.where((far > 3 / 255) & (far < 20 / 255), math.nan, z))

    with pytest.raises(ImageErrors) as caught:
        pgd.make("fast", None, 8, steps=40, stop_confidence=None).run(Victim(wrapped(Moved())), x, goal, range(3))
    assert caught.value.by_row == {1: "in the search the input of layer 'first' (Conv2d) is not finite."}


def test_a_map_loss_that_is_not_finite_is_told_as_such() -> None:
    x = pictures(2)
    goal = goal_for(Cam(toy()), x)

    class Lost(CamSurrogate):
        def terms(self, x: Images) -> Terms:
            terms = super().terms(x)
            return terms._replace(loss=terms.loss * torch.tensor([1.0, math.nan]))

    class LostCam(Cam):
        def surrogate(self, x: Images, goal: Goal, **options: object) -> CamSurrogate:
            return Lost(self, goal)

    lost = LostCam(toy())
    with pytest.raises(ImageErrors) as caught:
        adv2.make("fast", "cam", 8, steps=5).run(Victim(lost.classifier, (lost,)), x, goal, range(2))
    assert caught.value.by_row == {1: "in the search ℓ_int is not finite."}


@pytest.mark.parametrize("broken", [{"step": Schedule(math.nan)}, {"smooth": math.nan}, {"momentum": math.inf}])
def test_a_flow_that_is_not_finite_never_reaches_the_sampler(broken: dict[str, Any]) -> None:
    walk = Flow(2.0, **broken).walk(pictures(2))
    with pytest.raises(NotFinite) as caught:
        walk.step(walk.images().sum((1, 2, 3)), 0.0)
    assert caught.value.what == POSITION
    assert bool(walk.flow.isfinite().all())


@pytest.mark.parametrize("space", [Ball(8), Ball(8, momentum=0.75), Flow(2.0)])
@pytest.mark.parametrize("slope", [math.nan, math.inf, -math.inf])
def test_a_walk_refuses_a_gradient_that_is_not_finite(space: Ball | Flow, slope: float) -> None:
    walk = space.walk(pictures(3))
    weights = torch.ones(3, 3, SIZE, SIZE, dtype=torch.float64)
    weights[1, 2, 3, 4] = slope
    with pytest.raises(NotFinite) as caught:
        walk.step((walk.images() * weights).sum((1, 2, 3)), 0.0)
    assert list(caught.value.by_row) == [1]


def test_looking_for_the_layer_leaves_nothing_behind() -> None:
    test_an_infinite_slope_at_black_is_an_error_of_that_image(pgd)
    registry = torch.nn.modules.module
    assert not registry._global_forward_hooks
    assert not registry._global_forward_pre_hooks


@pytest.mark.parametrize("against", ["cam", "grad"])
def test_a_step_on_the_map_may_be_halved_where_one_forward_serves_both(against: str) -> None:
    classifier = toy()
    one: Any = {"cam": Cam, "grad": Grad}[against](classifier)
    x = pictures(2)
    goal = Goal(runner_up(classifier, x), x[:, 0, 0, 0].long(), {against: one.explain(x, runner_up(classifier, x))})
    made = adv2.make("fast", against, 8, steps=8, warmup=0, margin=1.0, bisect=3)
    found = made.run(Victim(classifier, (one,)), x, goal, range(2))
    assert found.steps.tolist() == [8, 8]
    assert float((found.images - x).abs().max()) > 0
