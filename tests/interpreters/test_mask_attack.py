"""The attacks on MASK: gradients against finite differences, the victim's own steps, costs, and whole searches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from test_mask import predicted
from torch import Tensor, nn

from support.toys import SIDE, pictures, small
from support.toys import SMALL as SIZE
from underfire import wrap
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.attacks.search import Ball, BallWalk, Schedule, SearchSettings, search
from underfire.attacks.search.halving import halve
from underfire.attacks.stadv import adv2_stadv
from underfire.classifiers.base import TorchClassifier
from underfire.core import LEVELS, Goal, Images, Photo, UnderfireError, UnknownNameError, Victim
from underfire.core.precision import searching
from underfire.heads import Softmax
from underfire.images import maps, pixels, targets
from underfire.interpreters.mask.bilevel import Bilevel
from underfire.interpreters.mask.mask import Mask
from underfire.interpreters.mask.match import FALL, Match, surplus
from underfire.interpreters.mask.recent import BATCHES
from underfire.interpreters.mask.walk import BETA1, BETA2, Process


def masked(steps: int = 40) -> tuple[TorchClassifier, Mask]:
    classifier = small()
    return classifier, Mask(classifier, size=SIDE, steps=steps)


def goal_of(classifier: TorchClassifier, mask: Mask, x: Images) -> Goal:
    order = classifier.logits(x).argsort(1, descending=True)
    return Goal(order[:, 1], order[:, 0], {"mask": mask.explain(x, order[:, 0])})


def slope_along(f: Any, x: Tensor, direction: Tensor, step: float = 1e-6) -> Tensor:
    """Central difference, image by image."""
    with torch.enable_grad():
        up, down = f((x + step * direction).requires_grad_()), f((x - step * direction).requires_grad_())
    slope: Tensor = ((up - down) / (2 * step)).detach()
    return slope


# -- matching the field -----------------------------------------------------------------------------------------------


def match(mask: Mask, x: Images, goal: Goal, **options: Any) -> Match:
    found = mask.surrogate(x, goal, **{"record": 20, **options})
    assert isinstance(found, Match)
    return found


@pytest.mark.parametrize("jitter", [0, 4])
def test_the_clean_image_matches_itself(jitter: int) -> None:
    classifier = small()
    mask = Mask(classifier, size=SIDE, steps=40, jitter=jitter)
    x = pictures(2, size=SIZE)
    y = predicted(classifier, x)
    surrogate = match(mask, x, Goal(y, y, {"mask": mask.explain(x, y)}), path=2, shadows=((4,),))
    for _ in range(6):
        terms = surrogate.terms(x.clone().requires_grad_())
        assert float(terms.loss.detach().max()) < 1e-6
        surrogate.advance(x, 0.0)
    torch.testing.assert_close(terms.logits, classifier.logits(x))


def test_a_shadow_walks_as_the_victim_does() -> None:
    classifier, mask = masked()
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    surrogate = match(mask, x, goal, path=1, shadows=((6, 9),))
    visits = list(mask.process.visits(x, goal.labels, mask.process.start(x), 9))
    for k in [*range(6), *range(9)]:
        torch.testing.assert_close(surrogate.shadows[0].walk.m, visits[k].m)
        surrogate.terms(x.clone().requires_grad_())
        surrogate.advance(x, 0.0)


@pytest.mark.parametrize("options", [{"record": 20}, {"kind": "bilevel", "free": 0}])
def test_a_kinked_network_is_looked_at_with_smooth_slopes(options: dict[str, Any]) -> None:
    classifier = small(activation=nn.ReLU)
    mask = Mask(classifier, size=SIDE, steps=10)
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    loss = []
    for tau in (1e-1, 1e-16, 1e-17):
        surrogate = mask.surrogate(x, goal, tau=tau, **options)
        for _ in range(2):  # at the first mask of all, ½ everywhere, and after a step
            terms = surrogate.terms(x.clone().requires_grad_())
        loss.append(terms.loss.detach())
    torch.testing.assert_close(loss[1], loss[2])
    assert float((loss[0] - loss[1]).abs().max()) > 1e-4


def test_what_a_look_and_its_gradient_cost() -> None:
    classifier, mask = masked()
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    with classifier.meter.counting(2) as spent:
        surrogate = match(mask, x, goal, path=2, shadows=((4,),), record=10)
    assert spent.passes.tolist() == [30, 30]
    leaf = x.clone().requires_grad_()
    with classifier.meter.counting(2) as spent:
        terms = surrogate.terms(leaf)
        torch.autograd.grad(terms.loss.sum() + terms.logits.sum(), leaf)
    assert spent.passes.tolist() == [27, 27]  # 3 masks at 7, 3 for the benign side of the shadow, 3 for the image


@pytest.mark.parametrize("path", [1, 2, 3])
def test_half_of_the_looks_are_at_the_fall_and_half_at_the_rest_of_the_walk(path: int) -> None:
    classifier, mask = masked()
    x = pictures(1, size=SIZE)
    surrogate = match(mask, x, goal_of(classifier, mask, x), path=path, record=300)
    seen: list[int] = []
    for surrogate.looks in range(200):
        seen += surrogate.times()
    early, late = (np.array([k for k in seen if (k < FALL) == first]) for first in (True, False))
    assert abs(len(early) - len(late)) <= 1
    assert early.min() == 0
    assert early.max() == FALL - 1
    assert 0.3 < np.mean(early < 3) < 0.6  # log-uniform
    assert FALL <= late.min() < 30
    assert 290 < late.max() < 300
    assert abs(late.mean() - (FALL + 300) / 2) < 10


def test_a_walk_shorter_than_the_fall_is_looked_at_as_it_is() -> None:
    classifier, mask = masked()
    x = pictures(1, size=SIZE)
    surrogate = match(mask, x, goal_of(classifier, mask, x), record=5)
    seen = [k for surrogate.looks in range(50) for k in surrogate.times()]
    assert set(seen) == set(range(5))


def test_log_odds_are_the_logit_of_the_probability() -> None:
    z, y = torch.randn(4, 6, dtype=torch.float64, generator=torch.manual_seed(0)), torch.tensor([0, 5, 2, 2])
    p = z.softmax(1).gather(1, y[:, None])[:, 0]
    torch.testing.assert_close(Softmax().log_odds(z, y), p.logit())


def test_log_odds_beyond_nine_need_not_be_matched() -> None:
    odds, wanted = torch.tensor([12.0, 3.0, -12.0, 0.0, 2.0]), torch.tensor([15.0, 15.0, -10.0, -10.0, 1.5])
    assert surplus(odds, wanted).tolist() == [0, -6, 0, 9, 0.5]


# -- the published attack ---------------------------------------------------------------------------------------------


def test_the_bilevel_loss_is_the_mask_some_steps_ahead() -> None:
    classifier, mask = masked()
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    surrogate = mask.surrogate(x, goal, kind="bilevel", free=2, held=3, reset=2)
    assert isinstance(surrogate, Bilevel)
    walk = mask.process.start(x)
    for _ in mask.process.visits(x, goal.labels, walk):
        pass
    for look in range(2):
        terms = surrogate.terms(x.clone().requires_grad_())
        assert (terms.maps is None) == (look == 1)
        for _ in mask.process.visits(x, goal.labels, walk, 5):
            pass
        torch.testing.assert_close(terms.loss.detach(), maps.l2(1 - walk.m, goal.maps["mask"]))
    real = surrogate.terms(x.clone().requires_grad_()).maps
    assert real is not None
    torch.testing.assert_close(real, mask.explain(x, goal.labels))


def held_steps(process: Process, x: Tensor, y: Tensor, m: Tensor, powers: list[Tensor]) -> Tensor:
    """Two of the victim's steps from ½, with the second moments given (collected where there are none yet)."""
    first = torch.zeros_like(m)
    second = torch.zeros_like(m)
    for k in (1, 2):
        leaf = m.detach().requires_grad_()
        blend_score = next(iter(process.visits(x, y, _at(process, leaf), 1))).gradient
        gradient = blend_score + process.objective.slope(leaf).detach()
        first, second = BETA1 * first + (1 - BETA1) * gradient, BETA2 * second + (1 - BETA2) * gradient**2
        if len(powers) < 2:
            powers.append((second / (1 - BETA2**k)).sqrt() + 1e-8)
        m = (m - process.lr * first / (1 - BETA1**k) / powers[k - 1]).clamp(0, 1).detach()
    return m


def _at(process: Process, m: Tensor) -> Any:
    walk = process.start(m.new_zeros(len(m), 3, SIZE, SIZE))
    walk.m = m.detach()
    return walk


def test_the_bilevel_gradient_is_the_finite_difference_with_the_second_moments_held() -> None:
    classifier, mask = masked(steps=1)
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    surrogate = Bilevel(mask.process, goal.labels, goal.maps["mask"], free=0, held=2, reset=10**6)
    start, powers = mask.process.start(x), list[Tensor]()
    held_steps(mask.process, x, goal.labels, start.m, powers)

    def slow(v: Tensor) -> Tensor:
        m = held_steps(mask.process, v.detach(), goal.labels, start.m, powers)
        return maps.l2(1 - m, goal.maps["mask"])

    surrogate.looks, surrogate.walk = 1, start
    leaf = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate.terms(leaf).loss.sum(), leaf)
    direction = torch.randn(x.shape, dtype=x.dtype, generator=torch.manual_seed(6))
    torch.testing.assert_close(
        (gradient * direction).sum((1, 2, 3)), slope_along(slow, x, direction, 1e-9), rtol=1e-3, atol=1e-6
    )


def test_a_bisected_step_is_the_largest_share_that_is_kept() -> None:
    x = torch.full((3, 3, 2, 2), 0.5, dtype=torch.float64).mul(LEVELS).round() / LEVELS
    allowed = torch.tensor([0.0, 3.0, 99.0])
    walk = Ball(8, Schedule(8.0)).walk(x)
    walk.aim(walk.images().sum((1, 2, 3)), 0.0)
    nothing = torch.zeros(3, dtype=torch.float64)
    halve(walk, lambda v: (x - v).abs().amax((1, 2, 3)) * LEVELS <= allowed + 0.01, nothing, 10)
    moved = ((x - walk.images()).amax((1, 2, 3)) * LEVELS).round().tolist()
    assert moved == [0, 3, 8]


def test_the_lead_is_over_the_best_other_class() -> None:
    z = torch.tensor([[1.0, 4.0, 2.0], [1.0, 4.0, 2.0]])
    y = torch.tensor([1, 2])
    assert Softmax().lead(z, y, y).tolist() == [2, -2]


def test_a_space_without_a_step_to_halve_says_so() -> None:
    classifier, mask = masked()
    x = pictures(1, size=SIZE)

    class Still:
        def walk(self, x: Images) -> Any:
            return self

        def images(self) -> Images:
            return x.clone().requires_grad_()

        def step(self, loss: Tensor, progress: float) -> None: ...

        def select(self, keep: Tensor) -> None: ...

        def measures(self) -> dict[str, Tensor]:
            return {}

    goal = goal_of(classifier, mask, x)
    with pytest.raises(UnderfireError, match="no step that can be halved"):
        search(Victim(classifier, (mask,)), x, goal, Still(), SearchSettings(1, margin=0.0, bisect=3), mask.surrogate)


# -- whole searches ---------------------------------------------------------------------------------------------------


def test_the_published_attack_keeps_the_target_at_the_published_cost() -> None:
    classifier, mask = masked(60)
    x = pictures(4, size=SIZE)
    goal = goal_of(classifier, mask, x)
    made = adv2.make("paper", "mask", 8, steps=40, warmup=20)
    with classifier.meter.counting(4) as spent:
        found = made.run(Victim(classifier, (mask,)), x, goal, range(4))
    step, full, last = 3 + 4 * 3 + 4 * 7 + 10, 3 * 60, 3 * 60
    # The last look takes no step (no backward, no bisection), but it takes its mask steps and asks for the real map.
    assert spent.passes.tolist() == pytest.approx([21 * 3 + 20 * step + full + last] * 4, abs=40)
    x_hat = pixels.to_tensor(pixels.to_levels(found.images)).double()
    assert predicted(classifier, x_hat).tolist() == goal.labels.tolist()


def test_the_attack_brings_the_map_nearer_than_pgd() -> None:
    classifier, mask = masked(60)
    x = pictures(6, size=SIZE)
    goal = goal_of(classifier, mask, x)
    made: Any = adv2.make("fast", "mask", 8, steps=50)
    distance = {}
    for attack in (pgd.make("fast", None, 8), made):
        found = pixels.to_levels(attack.run(Victim(classifier, (mask,)), x, goal, range(6)).images)
        x_hat = pixels.to_tensor(found).double()
        assert predicted(classifier, x_hat).tolist() == goal.labels.tolist()
        distance[attack.name] = float(maps.l1(mask.explain(x_hat, goal.labels), goal.maps["mask"]).mean())
    assert distance["adv2"] < 0.8 * distance["pgd"]


@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_pngs_do_not_depend_on_the_batch(preset: str) -> None:
    classifier, mask = masked(30)
    x = pictures(3, size=SIZE)
    steps: dict[str, Any] = {"steps": 12, "warmup": 6} if preset == "paper" else {"steps": 12}
    made: Any = adv2.make(preset, "mask", 8, **steps)

    def run(part: Images) -> np.ndarray[Any, Any]:
        goal = goal_of(classifier, mask, part)
        return pixels.to_levels(made.run(Victim(classifier, (mask,)), part, goal, range(len(part))).images)

    alone = np.concatenate([run(x[n : n + 1]) for n in range(3)])
    np.testing.assert_array_equal(run(x), alone)


def test_without_checks_the_last_confident_success_is_kept() -> None:
    classifier, mask = masked(30)
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    shown: list[Images] = []

    class Seen(Ball):
        def walk(self, x: Images) -> Any:
            walk, pixels = super().walk(x), BallWalk.images
            walk.images = lambda: shown.append(found := pixels(walk)) or found  # type: ignore[method-assign, func-returns-value]
            return walk

    options: dict[str, Any] = {"steps": 25, "check": 0, "confidence": 0.5, "stop_confidence": 0.5, "stop_l1": 1.0}
    made: Any = adv2.make("fast", "mask", 8, **options)
    made = replace(made, space=Seen(8, made.space.step, made.space.momentum))
    with classifier.meter.counting(2) as spent:
        found = made.run(Victim(classifier, (mask,)), x, goal, range(2)).images
    # No map of 90 F among them, and nothing stops before its end at a map that nobody has seen.
    assert spent.passes.tolist() == [3 * 150 + 25 * 20 + 10] * 2
    for n in range(2):
        p = [float(classifier.logits(v)[n].softmax(0)[goal.labels[n]].detach()) for v in shown]
        last = max(k for k, one in enumerate(p) if one >= made.settings.confidence)
        torch.testing.assert_close(found[n], shown[last][n].detach())


@pytest.mark.parametrize(("preset", "steps"), [("fast", 3), ("fast", 12), ("thorough", 12), ("paper", 12)])
def test_a_search_costs_no_more_than_its_estimate(preset: str, steps: int) -> None:
    classifier, mask = masked(300)
    x = pictures(1, size=SIZE)
    goal = goal_of(classifier, mask, x)
    more: dict[str, Any] = {"warmup": 2} if preset == "paper" else {}
    made: Any = adv2.make(preset, "mask", 8, steps=steps, **more)
    with classifier.meter.counting(1) as spent:
        made.run(Victim(classifier, (mask,)), x, goal, range(1))
    assert float(spent.passes[0]) <= made.bound(mask.step_passes)


def test_the_papers_estimate_has_every_full_mask() -> None:
    made = adv2.make("paper", "mask", 8)
    masks = (made.settings.steps - made.settings.warmup) // made.settings.check + 1
    assert made.bound(Mask.step_passes) >= 400 * 3 + 1000 * 53 + masks * 900 + 25


def test_a_reset_walks_to_the_jittered_map() -> None:
    classifier = small()
    mask = Mask(classifier, size=SIDE, steps=20, jitter=4)
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    real = mask.surrogate(x, goal, kind="bilevel").terms(x.clone().requires_grad_()).maps
    assert real is not None
    torch.testing.assert_close(real, mask.explain(x, goal.labels))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"record": 0}, "mask record = 0"),
        ({"path": -1}, "mask path = -1"),
        ({"path": "2"}, "mask path = '2'"),
        ({"path": 0}, "there is no mask to match at"),
        ({"shadows": [[]]}, r"mask shadows = \[\[\]\]"),
        ({"shadows": 4}, "mask shadows = 4"),
        ({"shadows": [[4, 0]]}, "mask shadows = 0"),
        ({"field": -1.0}, "mask field = -1.0"),
        ({"kind": "bilevel", "reset": 0}, "mask reset = 0"),
        ({"kind": "bilevel", "held": 0}, "mask held = 0"),
        ({"kind": "bilevel", "free": 1.5}, "mask free = 1.5"),
    ],
)
def test_settings_of_a_surrogate_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    classifier, mask = masked()
    x = pictures(1, size=SIZE)
    with pytest.raises(UnderfireError, match=told):
        mask.surrogate(x, goal_of(classifier, mask, x), **options)


def test_unknown_surrogates_and_settings_are_refused() -> None:
    classifier, mask = masked()
    x = pictures(1, size=SIZE)
    goal = goal_of(classifier, mask, x)
    with pytest.raises(UnknownNameError, match=r"'bilevle'.*'bilevel'"):
        mask.surrogate(x, goal, kind="bilevle")
    with pytest.raises(UnknownNameError, match="'held'"):
        mask.surrogate(x, goal, held=3)


def test_match_follows_the_walk_to_the_wanted_map_and_a_drawn_map_has_none() -> None:
    classifier, mask = masked()
    x = pictures(2, size=SIZE).float()
    goal = goal_of(classifier, mask, x)
    others, classes = x.flip(0), torch.tensor([2, 3])
    wanted = mask.explain(others, classes)
    surrogate = mask.surrogate(x, Goal(goal.labels, goal.source, {"mask": wanted}, (others, classes)))
    assert isinstance(surrogate, Match)
    *_, last = mask.process.visits(surrogate.x, surrogate.source, mask.process.start(x))
    torch.testing.assert_close(surrogate.benign[0].m, mask.process.start(x).m)
    torch.testing.assert_close((surrogate.x, surrogate.source), (others, classes))
    assert float((1 - last.m - wanted).abs().mean()) < 0.02  # one step before its end
    drawn = Goal(goal.labels, goal.source, {"mask": wanted}, drawn=True)
    assert isinstance(mask.surrogate(x, drawn), Bilevel)
    with pytest.raises(UnderfireError, match="a drawn map has none"):
        mask.surrogate(x, drawn, kind="match")
    kept = Goal(goal.labels, goal.source, {"mask": wanted}, (others, classes)).select(torch.tensor([False, True]))
    assert kept.references is not None
    torch.testing.assert_close(kept.references, (others[1:], classes[1:]))


# -- bends, and maps that are drawn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["fast", "thorough"])
def test_bends_cost_at_most_twice_what_the_ball_does_and_look_at_no_real_map(preset: str) -> None:
    bent, ball = adv2_stadv.make(preset, "mask", 8), adv2.make(preset, "mask", 8)
    assert bent.settings.check == 0
    assert bent.objective == ball.objective
    assert bent.bound(Mask.step_passes) <= 2 * ball.bound(Mask.step_passes)


def test_bends_reach_the_class_and_stay_in_the_estimate() -> None:
    classifier, mask = masked(30)
    x, steps = pictures(2, size=SIZE), 30
    goal = goal_of(classifier, mask, x)
    made = adv2_stadv.make("fast", "mask", 8, max_shift=9.0, steps=steps, surrogate={"record": 30})
    with classifier.meter.counting(2) as spent:
        found = pixels.to_levels(made.run(Victim(classifier, (mask,)), x, goal, range(2)).images)
    passes = float(spent.passes.max())
    x_hat = pixels.to_tensor(found).double()
    assert predicted(classifier, x_hat).tolist() == goal.labels.tolist()
    assert passes == 3 * 30 + 20 * steps + 10  # the last look takes no step
    made = adv2_stadv.make("fast", "mask", 8)
    assert made.bound(mask.step_passes) >= 3 * 150 + 20 * made.settings.steps + 10


def drawn_goal(classifier: TorchClassifier, mask: Mask, x: Images) -> Goal:
    goal = goal_of(classifier, mask, x)
    shapes = [targets.draw_shape("circle", 0, Photo(str(i), str(i)), (SIDE, SIDE)) for i in range(len(x))]
    return Goal(goal.labels, goal.source, {"mask": torch.from_numpy(np.stack(shapes))}, drawn=True)


@pytest.mark.parametrize(("preset", "full"), [("fast", 5), ("thorough", 9)])
@pytest.mark.parametrize("maker", [adv2, adv2_stadv])
def test_a_drawn_map_is_followed_and_its_estimate_has_every_full_mask(maker: Any, preset: str, full: int) -> None:
    made = maker.make(preset, "mask", 8, drawn=True)
    steps, options = made.settings.steps, dict(made.objective.surrogate)
    assert options["kind"] == "bilevel"
    assert made.settings.check == options["reset"]  # a real map chooses among the iterates, and costs nothing more
    assert steps // options["reset"] + 1 == full
    assert made.bound(Mask.step_passes) >= 43 * steps + 900 * full
    assert maker.make(preset, "mask", 8) == maker.make(preset, "mask", 8, drawn=False)
    assert maker.make(preset, "cam", 8, drawn=True) == maker.make(preset, "cam", 8)


def test_a_drawn_map_is_come_nearer_to_within_the_estimate() -> None:
    classifier, mask = masked(30)
    x = pictures(2, size=SIZE)
    goal = drawn_goal(classifier, mask, x)
    distance = {}
    for attack in (pgd.make("fast", None, 8), adv2.make("fast", "mask", 8, drawn=True, steps=50)):
        with classifier.meter.counting(2) as spent:
            found = pixels.to_levels(attack.run(Victim(classifier, (mask,)), x, goal, range(2)).images)
        passes = float(spent.passes.max())
        x_hat = pixels.to_tensor(found).double()
        assert predicted(classifier, x_hat).tolist() == goal.labels.tolist()
        distance[attack.name] = float(maps.l1(mask.explain(x_hat, goal.labels), goal.maps["mask"]).mean())
    assert distance["adv2"] < 0.7 * distance["pgd"]
    assert 43 * 50 + 3 * 90 - 43 < passes < 43 * 50 + 3 * 90 + 43  # three full masks of 30 steps each


# -- the benign walk, which the judge has just taken -----------------------------------------------------------------


def spent_on(mask: Mask, x: Images, goal: Goal) -> tuple[Match, list[float], int]:
    """Start the attacker's side; return it, the F that are counted, and the walks that were really taken."""
    walks: list[int] = []
    visits = Process.visits

    def seen(*args: Any) -> Any:
        walks.append(1)
        return visits(*args)

    with pytest.MonkeyPatch.context() as patch, mask.classifier.meter.counting(len(x)) as spent:
        patch.setattr(Process, "visits", seen)
        found = match(mask, x, goal)
    return found, spent.passes.tolist(), len(walks)


def test_the_walk_that_the_judge_has_taken_is_not_taken_again_and_is_counted() -> None:
    classifier, mask = masked()
    x = pictures(3, size=SIZE)
    goal = goal_of(classifier, mask, x)
    rows = torch.tensor([2, 0])
    some = Goal(goal.labels[rows], goal.source[rows], {"mask": goal.maps["mask"][rows]})
    known, counted, walks = spent_on(mask, x[rows], some)
    fresh, costs, taken = spent_on(Mask(classifier, size=SIDE, steps=40), x[rows], some)
    assert (walks, taken) == (0, 1)
    assert counted == costs == [60.0, 60.0]
    for ours, theirs in zip(known.benign, fresh.benign, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("change", ["a level of one pixel", "the class", "jitter", "more steps", "too long ago"])
def test_another_walk_is_taken(change: str) -> None:
    classifier = small()
    mask = Mask(classifier, size=SIDE, steps=10 if change == "more steps" else 40, jitter=4 * (change == "jitter"))
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    if change == "a level of one pixel":
        x[1, 0, 3, 3] = (x[1, 0, 3, 3] - 0.5).sign() * -1 / LEVELS + x[1, 0, 3, 3]
    if change == "the class":
        goal = replace(goal, source=goal.labels)
    for other in range(BATCHES if change == "too long ago" else 0):
        mask.explain(pictures(1, size=SIZE, seed=other + 7), goal.source[:1])
    assert spent_on(mask, x, goal)[2] == 1


def test_of_two_walks_of_an_image_the_later_one_counts() -> None:
    classifier, mask = masked()
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    first = next(p for p in classifier.module.parameters() if p.dim() == 4)
    first.data *= 1.5
    mask.explain(x, goal.source)
    found, _, walks = spent_on(mask, x, goal)
    assert walks == 0
    torch.testing.assert_close(
        found.benign[5].gradient, match(Mask(classifier, size=SIDE, steps=40), x, goal).benign[5].gradient
    )


@pytest.mark.parametrize("word", ["bf16-last", "bf16"])
def test_the_walk_is_the_judges_own_whatever_the_search_computes_in(word: str) -> None:
    classifier = wrap(small().module.float(), input_size=SIZE)  # doubles have no other precision
    mask, x = Mask(classifier, size=SIDE, steps=40), pictures(2, size=SIZE).float()
    goal = goal_of(classifier, mask, x)
    wanted = match(mask, x, goal).benign
    process = mask.process
    with searching(word):
        assert not torch.equal(
            list(process.visits(x, goal.source, process.start(x), 6))[5].gradient, wanted[5].gradient
        )
        of_this_search = Mask(classifier, size=SIDE, steps=40)
        of_this_search.explain(x, goal.source)  # not the judge's, so it is not kept
        found = match(of_this_search, x, goal).benign
    for ours, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(ours.gradient, theirs.gradient)


def test_the_walk_that_was_asked_for_last_is_the_last_to_go() -> None:
    classifier, mask = masked()
    x = pictures(2, size=SIZE)
    goal = goal_of(classifier, mask, x)
    for other in range(2 * BATCHES):
        assert spent_on(mask, x, goal)[2] == 0
        mask.explain(pictures(1, size=SIZE, seed=other + 7), goal.source[:1])
