"""The preset `paper` of the bending attacks against a slow copy of the authors' recipe, on a toy network."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from support.toys import goal_for, pictures, victim
from underfire.attacks.search import Flow
from underfire.attacks.search.flow import FlowWalk, warp
from underfire.attacks.stadv import adv2_stadv, stadv
from underfire.core import LEVELS, Goal, Images
from underfire.interpreters.cam import Cam

TAU, RATE, START = 5e-4, 0.01, 0.1


def flow_loss(flow: Tensor) -> Tensor:
    """Sum over pixels of the distances to the four diagonal neighbours, the border going on outside."""
    wide = F.pad(flow, (1, 1, 1, 1), mode="replicate")
    total = torch.zeros(len(flow), dtype=flow.dtype)
    for corner in (wide[:, :, 2:, 2:], wide[:, :, 2:, :-2], wide[:, :, :-2, 2:], wide[:, :, :-2, :-2]):
        total = total + ((flow - corner).square().sum(1) + 1e-8).sqrt().sum((1, 2))
    return total


def by_the_recipe(cam: Cam, x: Images, goal: Goal, flow: Tensor, first: int, second: int) -> Tensor:
    """The two stages, each with its own Adam; τ and the rate scale with the input, and pictures are rounded."""
    size = x.shape[-1]
    tau = TAU * 224 * 224 / size**2
    flow = flow.clone().requires_grad_()
    for steps, both in ((first, False), (second, True)):
        adam = torch.optim.Adam([flow], lr=RATE * size / 224, amsgrad=True, eps=1e-30)
        for step in range(steps):
            bent = warp(x, flow)
            seen = bent + ((bent * LEVELS).round() / LEVELS - bent).detach()
            features = cam.classifier.features(seen)
            loss = F.cross_entropy(cam.classifier.scores(features), goal.labels, reduction="none")
            if both:
                c = 5 + 5 * step / second
                m = cam.of_features(features, goal.labels)
                loss = 2 * loss + c * (m - goal.maps[cam.name]).square().flatten(1).mean(1)
            adam.zero_grad()
            (loss + tau * flow_loss(flow)).sum().backward()  # type: ignore[no-untyped-call]
            adam.step()
    return flow.detach()


@pytest.mark.parametrize(("attack", "steps", "warmup"), [("stadv", 7, 7), ("adv2-stadv", 11, 5)])
def test_paper_is_the_authors_recipe(attack: str, steps: int, warmup: int, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[FlowWalk] = []
    started: list[Tensor] = []
    walk_of = Flow.walk

    def noticed(self: Flow, x: Images, seeds: tuple[int, ...] = ()) -> FlowWalk:
        walks.append(walk_of(self, x, seeds))
        started.append(walks[-1].flow.detach().clone())
        return walks[-1]

    monkeypatch.setattr(Flow, "walk", noticed)
    system, cam = victim()
    x = pictures(3)
    goal = goal_for(cam, x)
    maker = stadv if attack == "stadv" else adv2_stadv
    more = {} if attack == "stadv" else {"warmup": warmup}
    made = maker.make("paper", "cam", 8, max_shift=50.0, steps=steps, **more)
    with cam.classifier.meter.counting(len(x)) as spent:
        found = made.run(system, x, goal, [11, 12, 13])
    wanted = by_the_recipe(cam, x, goal, started[0], warmup, steps - warmup)
    torch.testing.assert_close(walks[0].flow.detach(), wanted, rtol=0, atol=1e-9)
    assert found.steps.tolist() == [steps] * 3, "there is no early stop"
    assert spent.passes.tolist() == [3.0 * steps + 1] * 3 == [made.bound(3.0)] * 3


def test_the_start_is_the_photos_own_and_lies_in_its_range() -> None:
    space = stadv.make("paper", None, 8).space
    assert isinstance(space, Flow)
    x = pictures(2)
    flow = space.walk(x, [5, 6]).flow
    again = space.walk(x[1:], [6]).flow
    torch.testing.assert_close(flow[1:], again, rtol=0, atol=0)
    reach = START * x.shape[-1] / 224
    assert 0.8 * reach < float(flow.abs().max()) <= reach
    assert abs(float(flow.mean())) < 0.2 * reach
    assert not torch.equal(flow[0], flow[1])


def test_published_numbers() -> None:
    prediction, both = stadv.make("paper", None, 8), adv2_stadv.make("paper", "cam", 8)
    assert (prediction.settings.steps, both.settings.steps, both.settings.warmup) == (300, 800, 200)
    assert both.settings.prediction == 2 and both.settings.lam.at(0) == 5 and both.settings.lam.at(1) == 10
    assert isinstance(both.space, Flow)
    assert (both.space.step.start, both.space.amsgrad, both.space.start) == (0.01, True, 0.1)
    assert both.space.smooth / (224 * 224) == pytest.approx(5e-4)
    assert both.draws and not stadv.make("fast", None, 8).draws
