"""The meter's count against the paper's weights and against hooks that count for themselves."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from support.toys import BlindCam, goal_for, pictures, toy, victim
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.classifiers.meter import PassMeter
from underfire.core import Victim
from underfire.testing.recount import recounted


def test_a_forward_costs_one() -> None:
    classifier = toy()
    with classifier.meter.counting(3) as spent:
        classifier.logits(pictures(3))
    assert spent.passes.tolist() == [1, 1, 1]


def test_a_forward_without_a_graph_costs_one() -> None:
    classifier = toy()
    with torch.no_grad(), classifier.meter.counting(2) as spent:
        classifier.features(pictures(2).requires_grad_())
    assert spent.passes.tolist() == [1, 1]


def test_forward_and_backward_cost_three() -> None:
    classifier = toy()
    x = pictures(2).requires_grad_()
    with classifier.meter.counting(2) as spent:
        torch.autograd.grad(classifier.logits(x).sum(), x)
    assert spent.passes.tolist() == [3, 3]


def test_a_double_backward_costs_seven_in_all() -> None:
    classifier = toy()
    x = pictures(2).requires_grad_()
    with classifier.meter.counting(2) as spent:
        (slope,) = torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x, create_graph=True)
        torch.autograd.grad(slope.square().sum(), x)
    assert spent.passes.tolist() == [7, 7]


def test_two_gradients_of_one_forward_cost_five() -> None:
    classifier = toy()
    x = pictures(1).requires_grad_()
    with classifier.meter.counting(1) as spent:
        z = classifier.logits(x)
        for k in range(2):
            torch.autograd.grad(z[0, k], x, retain_graph=True)
    assert spent.passes.tolist() == [5]


def test_the_tap_changes_no_gradient_of_any_order() -> None:
    meter = PassMeter()
    x = pictures(2).requires_grad_()

    def twice(tapped: torch.Tensor) -> torch.Tensor:
        (slope,) = torch.autograd.grad(tapped.pow(3).sum(), x, create_graph=True)
        return torch.autograd.grad(slope.pow(2).sum(), x)[0]

    torch.testing.assert_close(twice(meter.tap(x)), twice(x), rtol=0, atol=0)


def test_another_networks_cost_scales_forward_and_backward() -> None:
    meter = PassMeter()
    x = pictures(2).requires_grad_()
    with meter.counting(2) as spent:
        torch.autograd.grad(meter.tap(x, 0.5).sum(), x)
    assert spent.passes.tolist() == [1.5, 1.5]


def test_only_live_images_are_charged() -> None:
    meter = PassMeter()
    with meter.counting(4) as spent:
        meter.charge(4)
        meter.select(torch.tensor([True, False, True, True]))
        meter.charge(3)
        meter.select(torch.tensor([False, True, False]))  # rows of those still live
        meter.charge(1, 5)
    assert spent.passes.tolist() == [2, 1, 7, 2]


def test_totals_are_conserved_when_rows_are_not_the_live_images() -> None:
    meter = PassMeter()
    with meter.counting(3) as spent:
        meter.charge(7, 2)
    assert float(spent.passes.sum()) == pytest.approx(14)


def test_nobody_left_is_no_error() -> None:
    meter = PassMeter()
    with meter.counting(2) as spent:
        meter.select(torch.tensor([False, False]))
        meter.charge(1)
    assert spent.passes.tolist() == [0, 0]


def test_each_count_starts_anew_and_what_is_spent_between_them_is_nobodys() -> None:
    meter = PassMeter()
    with meter.counting(2) as before:
        meter.charge(2)
    meter.charge(5)
    meter.select(torch.tensor([True, False]))
    with meter.counting(2) as after:
        meter.charge(4)
    assert (before.passes.tolist(), after.passes.tolist()) == ([1, 1], [2, 2])


def test_a_count_is_not_read_before_it_is_over() -> None:
    meter = PassMeter()
    with meter.counting(2) as spent, pytest.raises(RuntimeError, match="still being counted"):
        _ = spent.passes


def test_a_count_cannot_stand_inside_another() -> None:
    meter = PassMeter()
    with meter.counting(1) as spent:
        with pytest.raises(RuntimeError, match="counted already"), meter.counting(1):
            pass
        meter.charge(3)
    assert spent.passes.tolist() == [3]


def test_a_count_that_an_error_ends_does_not_stay_open() -> None:
    meter = PassMeter()
    with pytest.raises(ZeroDivisionError), meter.counting(1):
        raise ZeroDivisionError
    with meter.counting(1) as spent:
        meter.charge(1)
    assert spent.passes.tolist() == [1]


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("attack", ["pgd", "adv2"])
def test_a_whole_search_is_counted_as_hooks_count_it(attack: str, blind: bool) -> None:
    system, cam = victim()
    classifier: Any = system.classifier
    if blind:
        cam = BlindCam(classifier)
        system = Victim(classifier, (cam,))
    x = pictures(5)
    goal = goal_for(cam, x)
    maker: Any = pgd if attack == "pgd" else adv2
    # Easy to satisfy, so that images leave at different steps.
    alone = {} if attack == "pgd" else {"rescue": False}
    made = maker.make("fast", "cam", 8, steps=8, stop_confidence=0.9, stop_l1=1.0, check=3, **alone)
    with recounted(classifier) as recount, classifier.meter.counting(len(x)) as count:
        found = made.run(system, x, goal, range(5))
    spent = count.passes.tolist()
    assert sum(spent) == pytest.approx(recount.passes)
    assert len(set(found.steps.tolist())) > 1
    if not blind:
        # k steps are k + 1 looks and k gradients; the last look of an image whose mates go on costs it a gradient too.
        for steps, passes in zip(found.steps.tolist(), spent, strict=True):
            assert passes in (3 * steps + 1, 3 * steps + 3)
