"""The search, the ball and the presets: by hand-made tables, slow loops and tiny float64 networks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import cos, log, pi
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from support.toys import CLASSES, BlindCam, goal_for, pictures, toy, victim
from underfire import registry
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.attacks.presets import PRESET_NAMES, PRESETS
from underfire.attacks.search import (
    Ball,
    LiveBatch,
    Reached,
    Schedule,
    SearchSettings,
    Stages,
    Success,
    how_far,
    ranking,
    search,
)
from underfire.attacks.stadv import adv2_stadv, stadv
from underfire.classifiers.meter import PassMeter
from underfire.core import LEVELS, Goal, ImageErrors, Images, Labels, Maps, PerImage, Terms, UnderfireError, Victim
from underfire.images import maps, pixels

# -- schedules ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "values"),
    [
        (Schedule(3.0), (3, 3, 3)),
        (Schedule(5.0, 10.0), (5, 7.5, 10)),
        (Schedule(2.0, 0.1, "cosine"), (2, 1.05, 0.1)),
        (Schedule(2.0, 0.02, "geometric"), (2, 0.2, 0.02)),
        (Schedule(2.0, 0.02, "geometric", cycles=2), (2, 2, 0.02)),
    ],
)
def test_a_schedule_at_its_start_middle_and_end(schedule: Schedule, values: tuple[float, ...]) -> None:
    assert [schedule.at(t) for t in (0, 0.5, 1)] == pytest.approx(values)


def test_a_schedule_in_cycles_starts_again() -> None:
    once, thrice = Schedule(2.0, 0.02, "geometric"), Schedule(2.0, 0.02, "geometric", cycles=3)
    assert [thrice.at(t / 12) for t in (2, 6, 10)] == pytest.approx([once.at(0.5)] * 3)
    assert thrice.at(1.0) == 0.02


def test_a_cosine_is_slow_at_both_ends() -> None:
    schedule = Schedule(0.0, 1.0, "cosine")
    assert schedule.at(0.25) == pytest.approx((1 - cos(pi / 4)) / 2)
    assert 1 - schedule.at(0.75) == pytest.approx(schedule.at(0.25))


# -- the ball -------------------------------------------------------------------------------------------------------


@given(
    eps=st.integers(0, 20),
    sizes=st.lists(st.floats(0.01, 9), min_size=1, max_size=6),
    momentum=st.sampled_from([0.0, 0.75]),
    seed=st.integers(0, 99),
)
def test_the_walk_stays_in_its_budget_in_range_and_on_the_grid(
    eps: int, sizes: list[float], momentum: float, seed: int
) -> None:
    x = pictures(2, seed, size=3)
    x[0] = x[0].round()  # black and white: the range is tighter than the budget
    for size in sizes:
        walk = Ball(eps, Schedule(size), momentum).walk(x)
        for step in range(3):
            shown = walk.images()
            walk.step((shown * pictures(2, seed + step, size=3).sub(0.5)).sum((1, 2, 3)), 0.0)
        levels = walk.images().detach() * LEVELS
        assert float((levels - levels.round()).abs().max()) < 1e-9
        assert float((levels - x * LEVELS).abs().max()) < eps + 1e-9
        assert 0 <= float(levels.min()) <= float(levels.max()) <= LEVELS


def test_the_walk_starts_at_the_clean_images() -> None:
    x = pictures(2)
    torch.testing.assert_close(Ball(8).walk(x).images().detach(), x, rtol=0, atol=1e-15)


def test_one_plain_step_is_the_sign_step() -> None:
    x = pictures(2).clamp(0.1, 0.9).mul(LEVELS).round() / LEVELS
    slope = pictures(2, 1) - 0.5
    walk = Ball(8, Schedule(2.0)).walk(x)
    walk.step((walk.images() * slope).sum((1, 2, 3)), 0.0)
    torch.testing.assert_close(walk.images().detach(), x - 2 / LEVELS * slope.sign(), rtol=0, atol=1e-12)


def test_momentum_is_the_sign_of_the_discounted_sum_of_normalised_gradients() -> None:
    mu, eta, eps = 0.75, 1.5, 4
    x, slopes = pictures(1), [pictures(1, seed) - 0.5 for seed in range(1, 6)]
    walk = Ball(eps, Schedule(eta), mu).walk(x)
    for slope in slopes:
        walk.step((walk.images() * slope).sum((1, 2, 3)), 0.0)
    sizes = [sum(abs(v) for v in slope.flatten().tolist()) for slope in slopes]
    for i, (clean, got) in enumerate(zip(x.flatten().tolist(), walk.images().flatten().tolist(), strict=True)):
        v, p, start = 0.0, round(clean * LEVELS), round(clean * LEVELS)
        for slope, size in zip(slopes, sizes, strict=True):
            v = mu * v + slope.flatten()[i].item() / size
            p -= eta * float(np.sign(v))
            p = max(p, 0, start - eps)
            p = min(p, LEVELS, start + eps)
        assert got * LEVELS == pytest.approx(np.rint(p))


def test_the_step_follows_its_schedule() -> None:
    x = torch.full((1, 3, 1, 1), 100 / LEVELS, dtype=torch.float64)
    walk = Ball(50, Schedule(8.0, 2.0)).walk(x)
    moved = []
    for progress in (0.0, 0.5, 1.0):
        before = walk.images()
        walk.step(before.sum((1, 2, 3)), progress)
        moved.append(float((before - walk.images())[0, 0, 0, 0].detach()) * LEVELS)
    assert moved == pytest.approx([8, 5, 2])


def test_the_walk_goes_on_with_the_rows_kept() -> None:
    x, slope, keep = pictures(3), pictures(3, 1) - 0.5, torch.tensor([True, False, True])
    whole, part = Ball(8, Schedule(3.0), 0.75).walk(x), Ball(8, Schedule(3.0), 0.75).walk(x)
    for walk in (whole, part):
        walk.step((walk.images() * slope).sum((1, 2, 3)), 0.0)
    part.select(keep)
    whole.step((whole.images() * slope.flip(0)).sum((1, 2, 3)), 0.0)
    part.step((part.images() * slope.flip(0)[keep]).sum((1, 2, 3)), 0.0)
    torch.testing.assert_close(part.images(), whole.images()[keep])


# -- the best iterate, by a script ----------------------------------------------------------------------------------

Script = list[list[tuple[float, float]]]  # step -> image -> (target probability, map distance)


@dataclass
class Scripted:
    """A victim, a search space and a surrogate that say what a table says; the image of step t is of level t."""

    script: Script
    blind: bool = False
    rows: list[int] = field(default_factory=list)
    step_now: int = 0
    progress: list[float] = field(default_factory=list)
    surrogates: list[int] = field(default_factory=list)
    looks: int = 0
    meter: PassMeter = field(default_factory=PassMeter)
    passes: list[float] = field(default_factory=list)
    name: str = "scripted"

    def run(self, settings: SearchSettings, *, with_map: bool = True) -> tuple[list[int], list[int]]:
        """Levels of the best images and steps taken."""
        n = len(self.script[0])
        self.rows = list(range(n))
        x = torch.zeros(n, 3, 1, 1, dtype=torch.float64)
        goal = Goal(
            torch.ones(n, dtype=torch.int64), torch.zeros(n, dtype=torch.int64), {self.name: torch.zeros(n, 1, 1)}
        )
        me: Any = self
        system = Victim(me, (me,) if with_map else ())
        with self.meter.counting(n) as spent:
            found = search(system, x, goal, me, settings, self.surrogate if with_map else None)
        self.passes = spent.passes.tolist()
        levels = pixels.to_levels(found.images)[:, 0, 0, 0].tolist()
        assert levels == found.extras["flow_mean_px"].tolist()  # measured where the image that is kept was
        return levels, found.steps.tolist()

    def logits(self, x: Images) -> torch.Tensor:
        self.meter.charge(len(x))
        assert len(x) == len(self.rows)
        p = [self.script[self.step_now][i][0] for i in self.rows]
        return torch.tensor([[0.0, log(v / (1 - v))] for v in p], dtype=torch.float64)

    def explain(self, x: Images, y: Labels) -> Maps:
        self.looks += 1
        return torch.tensor([self.script[self.step_now][i][1] for i in self.rows]).view(-1, 1, 1)

    def surrogate(self, x: Images, goal: Goal) -> Any:
        self.surrogates.append(self.step_now)
        return self

    @property
    def shows(self) -> bool:
        return not self.blind

    def terms(self, x: Images) -> Terms:
        z = self.logits(x)
        m = None if self.blind else self.explain(x, torch.zeros(0))
        return Terms(z, torch.zeros_like(z[:, 0]), m)

    def advance(self, x: Images, progress: float) -> None:
        assert len(x) == len(self.rows)

    def walk(self, x: Images) -> Any:
        return self

    def images(self) -> Images:
        return torch.full((len(self.rows), 3, 1, 1), self.step_now / LEVELS, dtype=torch.float64)

    def measures(self) -> dict[str, PerImage]:
        return {"flow_mean_px": torch.full((len(self.rows),), float(self.step_now))}

    def step(self, loss: PerImage, progress: float) -> None:
        assert len(loss) == len(self.rows)
        self.progress.append(progress)
        self.step_now += 1

    def select(self, keep: torch.Tensor) -> None:
        if len(keep) == len(self.rows):  # asked as the walk, then as the surrogate
            self.rows = [row for row, kept in zip(self.rows, keep.tolist(), strict=True) if kept]


def column(*iterates: tuple[float, float]) -> Script:
    return [[iterate] for iterate in iterates]


@pytest.mark.parametrize(
    ("iterates", "best"),
    [
        (column((0.95, 0.3), (0.92, 0.1), (0.99, 0.2)), 1),  # confident successes: the nearest map
        (column((0.6, 0.0), (0.91, 0.9)), 1),  # a confident success beats a nearer unsure one
        (column((0.4, 0.0), (0.6, 0.9)), 1),  # any success beats a failure
        (column((0.6, 0.1), (0.8, 0.9), (0.7, 0.0)), 2),  # unsure successes: by both
        (column((0.1, 0.0), (0.3, 0.9), (0.2, 0.0)), 1),  # failures: the nearest to success
        (column((0.95, 0.2), (0.95, 0.2)), 0),  # equals: the first
    ],
)
def test_the_best_iterate_is_kept(iterates: Script, best: int) -> None:
    levels, _ = Scripted(iterates).run(SearchSettings(len(iterates) - 1, confidence=0.9))
    assert levels == [best]


def test_without_a_map_the_surest_iterate_is_kept() -> None:
    script = column((0.3, 0), (0.97, 0), (0.92, 0))
    assert Scripted(script).run(SearchSettings(2), with_map=False)[0] == [1]


def test_ranks_order_as_the_docstring_says() -> None:
    p = torch.tensor([0.95, 0.95, 0.8, 0.6, 0.4, 0.1])
    top = torch.tensor([True, True, True, True, False, False])
    distance = torch.tensor([0.1, 1.0, 0.0, 0.0, 0.0, 0.0])
    rank = ranking(Reached(p, top), distance, Success(0.9)).tolist()
    assert rank == sorted(rank)
    assert len(set(rank)) == len(rank)


REACHED = Reached(torch.tensor([0.95, 0.95, 0.6, 0.95]), torch.tensor([True, True, True, False]))


def test_success_is_the_prediction_with_confidence() -> None:
    assert Success(0.9).counts(REACHED).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("success", "distance", "done"),
    [
        (Success(0.5), None, [False] * 4),  # no early stop
        (Success(0.5, stop_confidence=0.9), None, [True, True, False, False]),
        (Success(0.5, stop_confidence=0.9, with_map=True), None, [False] * 4),  # nobody has seen the map
        (Success(0.5, 0.9, stop_l1=0.1, with_map=True), torch.tensor([0.1, 0.2, 0.0, 0.0]), [True] + [False] * 3),
        (Success(0.5, 0.9, with_map=True), torch.tensor([0.1, 0.0, 0.0, 0.0]), [False, True, False, False]),
    ],
)
def test_an_image_is_done_where_prediction_and_map_are_there(
    success: Success, distance: PerImage | None, done: list[bool]
) -> None:
    assert success.done(REACHED, distance).tolist() == done


def test_how_far_a_success_is_goes_by_its_map_or_its_probability_or_what_is_left_of_the_search() -> None:
    distance = torch.tensor([0.4, 0.3, 0.2, 0.1])
    alone, seen = how_far(REACHED, None, False, 0.5), how_far(REACHED, distance, True, None)
    assert alone is not None
    assert alone.tolist() == pytest.approx([0.05, 0.05, 0.4, 0.05])
    assert seen is distance
    assert how_far(REACHED, None, with_map=True, left_unseen=None) is None
    unseen = how_far(REACHED, None, with_map=True, left_unseen=0.5)
    assert unseen is not None
    assert unseen.tolist() == [0.5] * 4
    assert how_far(REACHED, distance, with_map=True, left_unseen=0.5) is distance


def test_a_search_that_never_looks_prefers_the_later_iterate_after_its_warm_up() -> None:
    never = SearchSettings(4, warmup=1, check=0)
    assert [never.left_unseen(step) for step in range(5)] == [None, 0.75, 0.5, 0.25, 0.0]
    assert SearchSettings(4, check=2).left_unseen(3) is None
    assert not any(never.looks_at(step) for step in range(5))


def test_every_image_keeps_its_own_best() -> None:
    script: Script = [[(0.95, 0.3), (0.2, 0.5), (0.99, 0.0)], [(0.95, 0.1), (0.7, 0.5), (0.99, 0.4)]]
    assert Scripted(script).run(SearchSettings(1))[0] == [1, 1, 0]


def test_images_that_are_done_leave_and_stop_costing() -> None:
    done, busy = (0.999, 0.0), (0.3, 0.5)
    script: Script = [[busy, busy, busy], [done, busy, busy], [busy, busy, done], [busy, busy, busy]]
    scripted = Scripted(script)
    levels, steps = scripted.run(SearchSettings(3, stop_confidence=0.99, stop_l1=0.01))
    assert steps == [1, 3, 2]
    assert levels[0] == 1
    assert levels[2] == 2
    assert scripted.passes == [2, 4, 3]


def test_the_search_ends_when_all_are_done() -> None:
    scripted = Scripted([[(0.3, 0.5)], [(0.999, 0.0)], [(0.999, 0.0)]])
    assert scripted.run(SearchSettings(2, stop_confidence=0.99, stop_l1=0.01))[1] == [1]


def test_without_a_stop_all_steps_are_taken() -> None:
    scripted = Scripted([[(0.999, 0.0)]] * 4)
    assert scripted.run(SearchSettings(3))[1] == [3]


def test_a_confident_image_with_a_far_map_is_not_done() -> None:
    scripted = Scripted([[(0.999, 0.2)]] * 3)
    assert scripted.run(SearchSettings(2, stop_confidence=0.99, stop_l1=0.1))[1] == [2]


def test_the_warm_up_knows_no_map_and_its_iterates_do_not_count() -> None:
    scripted = Scripted(column((0.99, 0.0), (0.99, 0.0), (0.99, 0.3), (0.99, 0.2), (0.99, 0.4)))
    levels, _ = scripted.run(SearchSettings(4, warmup=2))
    assert scripted.surrogates == [2]
    assert scripted.looks == 3
    assert levels == [3]


def test_progress_counts_from_the_end_of_the_warm_up() -> None:
    scripted = Scripted(column(*[(0.5, 0.5)] * 7))
    scripted.run(SearchSettings(6, warmup=2))
    assert scripted.progress == pytest.approx([0, 0, 0, 0.25, 0.5, 0.75])


def test_the_real_interpreter_is_asked_now_and_then_and_at_the_end() -> None:
    scripted = Scripted(column(*[(0.95, 0.5)] * 8, (0.95, 0.1)), blind=True)
    levels, _ = scripted.run(SearchSettings(8, check=3))
    assert scripted.looks == 3  # steps 3, 6 and the last; the untouched image is no success
    assert levels == [8]


def test_the_real_map_is_looked_at_before_the_steps_graph_takes_its_memory() -> None:
    order: list[str] = []

    class Spy(Scripted):
        def explain(self, x: Images, y: Labels) -> Maps:
            order.append("look")
            return super().explain(x, y)

        def terms(self, x: Images) -> Terms:
            order.append("graph")
            return super().terms(x)

    Spy(column(*[(0.95, 0.5)] * 4), blind=True).run(SearchSettings(3, check=2))
    assert order == ["graph", "graph", "look", "graph", "look", "graph"]


def test_an_image_that_cannot_be_looked_at_is_named_by_its_row_in_the_batch() -> None:
    class Refusing(Scripted):
        def explain(self, x: Images, y: Labels) -> Maps:
            if len(self.rows) == 1:
                raise ImageErrors({0: "no map"})
            return super().explain(x, y)

    with pytest.raises(ImageErrors) as caught:
        Refusing([[(0.99, 0.0), (0.5, 0.5)]] * 5, blind=True).run(SearchSettings(4, check=2, stop_confidence=0.9))
    assert list(caught.value.by_row) == [1]


def test_lambda_weighs_the_map_on_its_schedule() -> None:
    seen: list[float] = []

    class Spy(Scripted):
        def terms(self, x: Images) -> Terms:
            return super().terms(x)._replace(loss=torch.ones(1, dtype=torch.float64))

        def step(self, loss: PerImage, progress: float) -> None:
            seen.append(float(loss) - log(2))  # the cross-entropy of two equal logits
            super().step(loss, progress)

    Spy(column(*[(0.5, 0.5)] * 3)).run(SearchSettings(2, lam=Schedule(5.0, 10.0)))
    assert seen == pytest.approx([5, 7.5])


def test_lambda_shrinks_while_the_target_is_not_predicted_with_confidence_and_recovers_after() -> None:
    weights: list[float] = []

    class Spy(Scripted):
        def terms(self, x: Images) -> Terms:
            return super().terms(x)._replace(loss=torch.ones(1, dtype=torch.float64))

        def step(self, loss: PerImage, progress: float) -> None:
            weights.append(float(loss) + log(self.script[self.step_now][0][0]))
            super().step(loss, progress)

    script = column(*[(p, 0.5) for p in (0.3, 0.8, 0.95, 0.95)])
    Spy(script).run(SearchSettings(3, lam=Schedule(10.0), confidence=0.9, yields=True))
    assert weights == pytest.approx([8.0, 6.4, 7.04])
    weights.clear()
    Spy(script).run(SearchSettings(3, lam=Schedule(10.0), confidence=0.9))
    assert weights == pytest.approx([10.0] * 3)


def test_label_smoothing_is_in_the_prediction_loss() -> None:
    seen: list[float] = []

    class Spy(Scripted):
        def step(self, loss: PerImage, progress: float) -> None:
            seen.append(float(loss))
            super().step(loss, progress)

    Spy(column((0.8, 0.5), (0.8, 0.5))).run(SearchSettings(1, smoothing=0.1))
    assert seen == pytest.approx([-0.95 * log(0.8) - 0.05 * log(0.2)])


# -- presets --------------------------------------------------------------------------------------------------------


def make(attack: str, against: str | None, preset: str, **overrides: object) -> Any:
    return registry.maker("attacks", attack).make(preset, against, 8, **overrides)


@pytest.mark.parametrize(("attack", "against", "preset"), PRESETS)
def test_every_preset_builds(attack: str, against: str | None, preset: str) -> None:
    made = make(attack, against, preset)
    assert PRESETS[attack, against, preset].why
    assert made.eps == (None if "stadv" in attack else 8)
    assert hash(made) == hash(make(attack, against, preset))


@pytest.mark.parametrize("attack", ["pgd", "adv2", "stadv", "adv2-stadv"])
@pytest.mark.parametrize("preset", PRESET_NAMES)
def test_every_preset_serves_an_interpreter_without_a_row(attack: str, preset: str) -> None:
    assert make(attack, "a-third-partys", preset) == make(attack, None, preset)


def test_the_papers_pgd() -> None:
    made = make("pgd", None, "paper")
    assert (made.space.step, made.space.momentum, made.settings.steps) == (Schedule(1.0), 0.0, 1200)
    assert made.settings.stop_confidence is None
    assert made.bound(3.0) == pytest.approx(3625, rel=0.01)


def test_the_papers_adv2_against_cam() -> None:
    made = make("adv2", "cam", "paper")
    assert (made.space.step, made.space.momentum) == (Schedule(1.0), 0.0)
    assert (made.settings.warmup, made.settings.steps - made.settings.warmup) == (400, 1200)
    assert [made.settings.lam.at(t) for t in (0, 1)] == [5, 10]
    assert made.settings.stop_confidence is None
    assert made.bound(3.0) == pytest.approx(4800, rel=0.01)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(UnderfireError, match=r"preset 'papper'. Did you mean 'paper'"):
        make("pgd", None, "papper")


def test_an_unknown_setting_lists_the_known_ones() -> None:
    with pytest.raises(UnderfireError, match=r"'adv2' has no setting 'stepz'.* steps"):
        make("adv2", None, "fast", stepz=3)


def test_overrides_replace_the_presets_numbers() -> None:
    made = make("adv2", None, "fast", steps=7, momentum=0.5, lam=3, step={"start": 2.0, "end": 1.0, "shape": "cosine"})
    assert (made.settings.steps, made.space.momentum) == (7, 0.5)
    assert (made.settings.lam, made.space.step) == (Schedule(3.0), Schedule(2.0, 1.0, "cosine"))


def test_a_word_is_no_schedule() -> None:
    with pytest.raises(UnderfireError, match=r"'much' is no schedule"):
        make("adv2", None, "fast", lam="much")


# -- whole attacks on a toy -----------------------------------------------------------------------------------------


def in_batches(size: int, attack: Callable[[Any, Images, Goal], Images]) -> np.ndarray[Any, Any]:
    system, cam = victim()
    x = pictures(7)
    parts = []
    for start in range(0, len(x), size):
        part = x[start : start + size]
        parts.append(pixels.to_levels(attack(system, part, goal_for(cam, part))))
    return np.concatenate(parts)


@pytest.mark.parametrize("maker", [pgd, adv2, stadv, adv2_stadv])
def test_pngs_do_not_depend_on_the_batch_size_where_images_leave_early(maker: Any) -> None:
    made = maker.make("fast", "cam", 8, steps=12, stop_confidence=0.9, stop_l1=0.15)

    def run(system: Victim, x: Images, goal: Goal) -> Images:
        found: Images = made.run(system, x, goal, range(len(x))).images
        return found

    np.testing.assert_array_equal(in_batches(2, run), in_batches(7, run))


def test_an_attack_moves_the_prediction_and_adv2_also_keeps_the_map() -> None:
    system, cam = victim()
    x = pictures(6)
    goal = goal_for(cam, x)
    distance = {}
    for maker in (pgd, adv2):
        made: Any = maker.make("fast", "cam", 16, stop_confidence=None, steps=30)
        x_hat = pixels.to_tensor(pixels.to_levels(made.run(system, x, goal, range(6)).images)).double()
        assert system.classifier.logits(x_hat).argmax(1).tolist() == goal.labels.tolist()
        distance[made.name] = float(maps.l1(cam.explain(x_hat, goal.labels), goal.maps["cam"]).mean())
    assert distance["adv2"] < 0.7 * distance["pgd"]


def test_no_steps_give_the_clean_images_back() -> None:
    system, cam = victim()
    x = pictures(2)
    found = adv2.make("fast", "cam", 8, steps=0, rescue=False).run(system, x, goal_for(cam, x), range(2))
    torch.testing.assert_close(found.images, x)
    assert found.steps.tolist() == [0, 0]


def test_a_surrogate_without_real_maps_asks_the_interpreter() -> None:
    classifier = toy()
    cam = BlindCam(classifier)
    x = pictures(2)
    goal = goal_for(cam, x)
    cam.asked = 0
    made = adv2.make("fast", "cam", 8, steps=10, check=5)
    made.run(Victim(classifier, (cam,)), x, goal, range(2))
    assert cam.asked == 2


def test_adv2_takes_one_interpreter() -> None:
    system, cam = victim()
    x = pictures(1)
    with pytest.raises(UnderfireError, match=r"one interpreter, not 2"):
        adv2.make("fast", "cam", 8).run(Victim(system.classifier, (cam, cam)), x, goal_for(cam, x), [0])


def test_toys_have_the_classes_they_say() -> None:
    assert toy().logits(pictures(1)).shape == (1, CLASSES)


def test_an_image_s_map_yields_while_its_target_is_not_there_and_recovers_after() -> None:
    system, cam = victim()
    x = pictures(2)
    live = LiveBatch(system, x, goal_for(cam, x), Ball(8).walk(x))
    live.yield_lambda(torch.tensor([False, True]))
    assert live.share.tolist() == pytest.approx([0.8, 1.0])
    live.yield_lambda(torch.tensor([True, True]))
    assert live.share.tolist() == pytest.approx([0.88, 1.0])


def test_stages_hold_for_their_lengths() -> None:
    stages = Stages((1.0, 4.0, 9.0), (2, 1, 1))
    assert [stages.at(t) for t in (0.0, 0.49, 0.5, 0.74, 0.75, 1.0)] == [1, 1, 4, 4, 9, 9]
