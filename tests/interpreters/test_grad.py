"""GRAD: the map, its options, its errors, and the attack on it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from captum.attr import Saliency
from torch import Tensor, nn

from support.toys import KINKED as SIZE
from support.toys import kinked, pictures
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.classifiers.base import TorchClassifier, wrap
from underfire.core import Goal, ImageErrors, UnderfireError, Victim
from underfire.images import maps
from underfire.interpreters.grad import Grad


def test_the_paper_s_probability_gives_the_same_map_until_float32_gives_up() -> None:
    classifier, x, y = kinked(), pictures(2, size=SIZE), torch.tensor([1, 2])
    leaf = x.clone().requires_grad_()
    p = classifier.logits(leaf).softmax(1).gather(1, y[:, None]).sum()
    grad = Grad(classifier)
    torch.testing.assert_close(grad.explain(x, y), grad.of_gradient(torch.autograd.grad(p, leaf)[0]))


def test_map_survives_saturated_float32_logits_where_the_probability_does_not() -> None:
    classifier = kinked()
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    head.bias.data[0] = 60.0  # log-odds far above 17
    x, y = pictures(1, size=SIZE), torch.tensor([0])
    truth = Grad(classifier).explain(x, y)
    single = wrap(classifier.module.float(), input_size=SIZE, mean=(0.5,) * 3, std=(0.25,) * 3, name="single")
    leaf = x.float().requires_grad_()
    p = torch.autograd.grad(single.logits(leaf).softmax(1)[0, 0], leaf)[0]
    grad = Grad(single)
    assert float(maps.l1(grad.of_gradient(p), truth)) > 0.05
    assert float(maps.l1(grad.explain(x.float(), y), truth)) < 1e-4


def test_logit_at_full_resolution_equals_captum() -> None:
    classifier, x, y = kinked(), pictures(2, size=SIZE), torch.tensor([1, 2])
    theirs = Saliency(classifier.logits).attribute(x.clone().requires_grad_(), target=y, abs=True)
    ours = Grad(classifier, score="logit", resolution="full").explain(x, y)
    assert ours.shape == (2, SIZE, SIZE)
    torch.testing.assert_close(ours, maps.unit_scale(theirs.amax(1)))


def test_a_gradient_that_is_zero_is_an_error_of_that_image_alone() -> None:
    classifier = kinked()
    original = classifier.logits

    def dead_for_white(x: Tensor) -> Tensor:
        return torch.where((x.mean((1, 2, 3)) < 1)[:, None], original(x), original(x).detach())

    classifier.logits = dead_for_white  # type: ignore[method-assign]
    x = torch.cat([pictures(1, size=SIZE), torch.ones(1, 3, SIZE, SIZE, dtype=torch.float64)])
    with pytest.raises(ImageErrors, match="no saliency map") as e:
        Grad(classifier).explain(x, torch.tensor([0, 1]))
    assert list(e.value.by_row) == [1]


def test_unknown_options_name_the_known_ones() -> None:
    with pytest.raises(UnderfireError, match="'logodds'"):
        Grad(kinked(), score="logods")
    with pytest.raises(UnderfireError, match="full"):
        Grad(kinked(), resolution=64)


def goal_of(classifier: TorchClassifier, grad: Grad, x: Tensor) -> Goal:
    order = classifier.logits(x).argsort(1, descending=True)
    m = grad.explain(x, order[:, 0])
    return Goal(order[:, 1], order[:, 0], {"grad": m})


def test_a_step_costs_seven_passes_and_a_check_three() -> None:
    classifier, x = kinked(), pictures(2, size=SIZE)
    grad = Grad(classifier)
    attack = adv2.make("fast", "grad", 8, steps=4, warmup=0, check=2, rescue=False)
    goal = goal_of(classifier, grad, x)
    with classifier.meter.counting(len(x)) as spent:
        attack.run(Victim(classifier, (grad,)), x, goal, [0, 0])
    # 4 steps; a last look without a step: forward and first backward; the real map at 2 and 4
    assert spent.passes.tolist() == [4 * 7 + 3 + 2 * 3] * 2


def test_the_surrogate_s_gradient_reaches_the_map() -> None:
    classifier, x = kinked(), pictures(2, size=SIZE)
    grad = Grad(classifier)
    goal = goal_of(classifier, grad, x)
    leaf = (x + 0.05).clamp(0, 1).requires_grad_()
    terms = grad.surrogate(x, goal).terms(leaf)
    assert terms.maps is None
    assert bool(torch.autograd.grad(terms.loss.sum(), leaf)[0].flatten(1).any(1).all())


def test_adv2_ends_nearer_to_the_benign_map_than_pgd() -> None:
    classifier, x = kinked(20.0), pictures(4, size=SIZE)
    grad = Grad(classifier)
    goal = goal_of(classifier, grad, x)
    runs: dict[str, Any] = {
        "pgd": partial(pgd.make("fast", None, 32).run, Victim(classifier)),
        "adv2": partial(adv2.make("fast", "grad", 32, steps=100, lam=100).run, Victim(classifier, (grad,))),
    }
    distance = {}
    for name, run in runs.items():
        found = run(x, goal, [0] * 4)
        distance[name] = float(maps.l1(grad.explain(found.images, goal.labels), goal.maps["grad"]).mean())
    assert distance["adv2"] < 0.5 * distance["pgd"]  # measured: 0.05 and 0.26


def test_tau_moves_from_its_start_to_its_end() -> None:
    classifier, x = kinked(), pictures(1, size=SIZE)
    grad = Grad(classifier)
    surrogate = grad.surrogate(x, goal_of(classifier, grad, x), tau=1e-1, tau_end=1e-3)
    seen = []
    for progress in (0.0, 0.5, 1.0):
        surrogate.advance(x, progress)
        seen.append(surrogate.slope.tau)
    assert seen == pytest.approx([1e-1, 1e-2, 1e-3])


def test_an_unknown_setting_of_the_twin_is_named() -> None:
    classifier, x = kinked(), pictures(1, size=SIZE)
    grad = Grad(classifier)
    with pytest.raises(UnderfireError, match="taus"):
        grad.surrogate(x, goal_of(classifier, grad, x), taus=1.0)
