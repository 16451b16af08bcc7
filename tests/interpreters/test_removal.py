"""Maps by removal against Captum, scikit-learn and slow replicas; and the one attack on all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Occlusion
from skimage.transform import resize
from sklearn.linear_model import Ridge
from torch import nn

from support import toys
from support.attacked import distance, goal_of
from underfire import registry, wrap
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.core import ImageErrors, UnderfireError, UnknownNameError
from underfire.images import maps
from underfire.interpreters.checked import explain
from underfire.interpreters.drawn import stride
from underfire.interpreters.mask.match import surplus
from underfire.interpreters.removal.matched_map import MatchedMap

Y = torch.tensor([2, 0])
KINDS = ("scores", "map")


def made(name: str, **options: Any) -> tuple[Any, torch.Tensor]:
    return registry.build_interpreter(name, toys.small(), options), toys.pictures(2, 0, toys.SMALL)


def scores(one: Any, images: torch.Tensor, y: int) -> Any:
    return one.classifier.logits(images).softmax(1)[:, y].numpy()


def test_occlusion_is_captums() -> None:
    one, x = made("occlusion", patch=8, stride=4)
    got = one.explain(x, Y)
    library = Occlusion(lambda z: one.classifier.logits(z).softmax(1))
    wanted = library.attribute(x, (3, 8, 8), (3, 4, 4), target=Y, baselines=0.5)[:, 0, 2::4, 2::4]
    assert got.shape == (2, 12, 12)
    torch.testing.assert_close(got, maps.unit_scale(wanted.double()), rtol=0, atol=1e-5)


def test_rise_is_its_slow_replica() -> None:
    one, x = made("rise", n=5, cells=3)
    masks = one.masks(x)
    total = np.zeros((toys.SMALL, toys.SMALL))
    for k in range(5):
        cells = masks.kept[1, k].numpy()  # as in the authors' code, but for the draw
        large = resize(cells, (4 * 16, 4 * 16), order=1, mode="edge", anti_aliasing=False)
        i, j = masks.places[1, k].tolist()
        mask = large[i : i + toys.SMALL, j : j + toys.SMALL]
        total += scores(one, x[1:] * torch.from_numpy(mask), 0)[0] * mask / 5 / 0.5
    wanted = total.reshape(12, 4, 12, 4).mean((1, 3))
    wanted = (wanted - wanted.min()) / (wanted.max() - wanted.min())
    torch.testing.assert_close(one.explain(x, Y)[1], torch.from_numpy(wanted), rtol=0, atol=1e-6)


def test_limes_weights_are_scikit_learns() -> None:
    one, x = made("lime", n=60, number=9)
    masks = one.masks(x)
    sets = masks.kept[0].numpy()
    p = [float(scores(one, one.masked(x[:1], masks.keep(k)[:1]), 2)[0]) for k in range(60)]
    distances = 1 - sets.sum(1) / np.maximum(np.sqrt((sets**2).sum(1) * 9), 1)
    ridge = Ridge(alpha=1.0).fit(sets, p, sample_weight=np.sqrt(np.exp(-(distances**2) / 0.25**2)))
    wanted = maps.unit_scale(torch.from_numpy(ridge.coef_.reshape(1, 3, 3)))[0]
    torch.testing.assert_close(one.explain(x, Y)[0], wanted, rtol=0, atol=1e-6)


def test_kernelshap_finds_the_parts_of_a_sum_and_fits_as_least_squares_does() -> None:
    one, x = made("kernelshap", n=80, number=9)
    sets = one.masks(x).kept[0].double()
    parts = torch.arange(9, dtype=torch.float64) - 3
    torch.testing.assert_close(one.fitted(sets, 0.2 + sets @ parts), parts, rtol=0, atol=1e-6)
    s = torch.rand(80, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    heavy = torch.ones(80, 1, dtype=torch.float64)
    heavy[1] = 1e6  # all segments: the constraint
    wanted = torch.linalg.lstsq(heavy * sets, heavy[:, 0] * (s - s[0])).solution
    torch.testing.assert_close(one.fitted(sets, s), wanted, rtol=0, atol=1e-4)


def test_what_few_sets_leave_open_is_shared_by_all_segments() -> None:
    one, x = made("kernelshap", n=9, number=16)
    sets, order = one.masks(x).kept[0].double(), torch.randperm(16, generator=torch.Generator().manual_seed(1))
    s = torch.rand(9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = one.fitted(sets, s)
    torch.testing.assert_close(one.fitted(sets[:, order], s), found[order], rtol=0, atol=1e-6)
    assert float(found.sum()) == pytest.approx(float(s[1] - s[0]))
    torch.testing.assert_close(sets[2:] @ found, s[2:] - s[0], rtol=0, atol=1e-4)
    heavy = torch.cat([sets[2:], 1e4 * torch.ones(1, 16, dtype=torch.float64)])
    least = torch.linalg.pinv(heavy) @ torch.cat([s[2:] - s[0], 1e4 * (s[1:2] - s[0])])
    torch.testing.assert_close(found, least, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("n", "number", "is_open"),
    [(400, 49, False), (60, 49, False), (49, 49, True), (400, 400, True), (10, 9, True), (80, 9, False)],
)
def test_the_maps_of_few_sets_have_a_key_of_their_own(n: int, number: int, is_open: bool) -> None:
    for segments in ("grid", "superpixels"):
        digest = made("kernelshap", n=n, number=number, segments=segments)[0].digest
        assert digest == ("draws 2 equal parts" if is_open else "draws 2")
    assert made("lime", n=n, number=number)[0].digest == "draws 2"


class Sure(nn.Module):
    """Class 0 is sure, at log-odds of 18 to 20 that move with the top left quarter."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        z = self.weight * (18 + 2 * x[:, :, :half, :half].mean((1, 2, 3)))
        return torch.stack([z / 2, -z / 2], 1)


@pytest.mark.parametrize("name", ["occlusion", "lime", "kernelshap"])
def test_the_map_of_a_sure_image_is_no_rounding_noise(name: str) -> None:
    x, y = toys.pictures(2, 0, 16), torch.tensor([0, 0])
    short, whole = (
        registry.build_interpreter(name, wrap(net, input_size=16, mean=0.5, std=0.5), {}).explain(images, y)
        for net, images in ((Sure(), x.float()), (Sure().double(), x))
    )
    assert short.dtype == torch.float32
    torch.testing.assert_close(short.double(), whole, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["lime", "kernelshap"])
def test_superpixels_are_those_of_the_picture(name: str) -> None:
    one, x = made(name, n=20, segments="superpixels", number=12)
    masks = one.masks(x)
    assert one.explain(x, Y).shape == (2, 12, 12)
    assert len(masks.segments.counts) == 2
    assert all(2 < count <= 20 for count in masks.segments.counts)
    assert masks.keep(3).unique().tolist() == [0, 1]


@pytest.mark.parametrize("number", [0, 1, toys.SMALL**2 + 1])
def test_more_superpixels_than_pixels_are_refused(number: int) -> None:
    with pytest.raises(UnderfireError, match=rf"{number}.*48×48"):
        made("lime", segments="superpixels", number=number)


@pytest.mark.parametrize("name", ["lime", "kernelshap"])
def test_a_grid_of_one_cell_is_refused(name: str) -> None:
    with pytest.raises(UnderfireError, match=rf"{name} number = 2.*one cell"):
        made(name, number=2)
    assert made(name, n=20, number=3)[0].explain(made(name)[1], Y).shape == (2, 2, 2)


@pytest.mark.parametrize("name", ["lime", "kernelshap"])
def test_a_picture_of_one_superpixel_has_no_map_and_the_others_have(name: str) -> None:
    one, x = made(name, n=20, segments="superpixels", number=12)
    x[1] = torch.rand(x[1].shape, generator=torch.Generator().manual_seed(0))  # noise: SLIC joins all specks
    found, errors = explain(one, x, Y)
    assert {row: "superpixels found one segment in it" in said for row, said in errors.items()} == {1: True}
    assert bool(found[0].isfinite().all())


def test_words_and_sizes_that_do_not_suit_are_refused() -> None:
    for words in ({"fill": "gray"}, {"segments": "slick"}):
        with pytest.raises(UnknownNameError):
            made("lime", **words)
    for name, options in (
        ("occlusion", {"patch": 8, "stride": 9}),
        ("occlusion", {"patch": 49}),
        ("occlusion", {"patch": 48}),
        ("rise", {"n": 1}),
        ("rise", {"cells": 49}),
    ):
        with pytest.raises(UnderfireError, match=str(next(iter(options.values())))):
            made(name, **options)


def test_a_score_that_nothing_changes_has_no_map() -> None:
    one, x = made("rise", n=4)
    one.classifier.module.get_submodule("head").weight.data.zero_()
    with pytest.raises(ImageErrors, match="same whatever rise removes"):
        one.explain(x, Y)


def test_a_drawn_target_map_has_no_scores_to_match() -> None:
    one, x = made("rise", n=60)
    drawn = replace(goal_of(one, x), drawn=True)
    with pytest.raises(UnderfireError, match=r"'scores'.*'map'"):
        one.surrogate(x, drawn, kind="scores")
    assert isinstance(one.surrogate(x, drawn), MatchedMap)


def test_a_kind_or_a_setting_that_is_none_is_refused_with_the_users_word() -> None:
    one, x = made("rise", n=60)
    for options in ({"kind": "mapp"}, {"kind": "map", "sure": 3.0}, {"even": 0.5}):
        with pytest.raises(UnknownNameError, match=r"mapp|sure|even"):
            one.surrogate(x, goal_of(one, x), **options)


@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernelshap"])
def test_the_matched_map_is_the_victims_where_all_masks_were_seen(name: str) -> None:
    one, x = made(name, **({"patch": 16} if name == "occlusion" else {"n": 20}))
    goal, near = goal_of(one, x), (x + 0.02).clamp(0, 1)
    found = one.surrogate(x, goal, kind="map").terms(near.requires_grad_())
    wanted = one.explain(near.detach(), goal.labels)
    torch.testing.assert_close(found.twin.detach(), wanted, rtol=0, atol=1e-5)
    torch.testing.assert_close(found.loss.detach(), maps.l2(wanted, goal.maps[name]), rtol=0, atol=1e-5)


def test_the_matched_maps_slope_is_the_maps_own_in_the_mean_over_the_masks_that_are_chosen() -> None:
    one, x = made("kernelshap", n=40, number=9)
    goal, near = goal_of(one, x), (x + 0.02).clamp(0, 1).requires_grad_()
    surrogate = one.surrogate(x, goal, kind="map", looks=1)
    surrogate.terms(near)
    slopes = [torch.autograd.grad(surrogate.terms(near).loss.sum(), near)[0] for _ in range(300)]
    head, masks = one.classifier, one.masks(x)
    z = [head.logits(one.masked(near, masks.keep(k))).softmax(1) for k in range(masks.n)]
    s = torch.stack([p.gather(1, goal.labels[:, None])[:, 0] for p in z], 1)
    loss = maps.l2(maps.unit_scale(masks.evidence(s)), goal.maps["kernelshap"])
    (wanted,) = torch.autograd.grad(loss.sum(), near)
    mean = torch.stack(slopes).mean(0)
    cosine = torch.nn.functional.cosine_similarity(mean.flatten(1), wanted.flatten(1))
    assert float(cosine.min()) > 0.9, cosine


def test_all_masks_are_looked_at_in_each_part_of_the_search() -> None:
    one, x = made("kernelshap", n=40, number=9)
    surrogate, later = one.surrogate(x, goal_of(one, x), kind="map", rounds=2), (x + 0.1).clamp(0, 1)
    surrogate.terms(x)
    for progress, seen in ((0.4, False), (0.5, True)):
        surrogate.advance(x, progress)
        surrogate.terms(later)
        fresh = one.surrogate(x, goal_of(one, x), kind="map")
        fresh.terms(later)
        assert torch.allclose(surrogate.odds, fresh.odds, atol=1e-4) == seen


def test_rows_of_the_matched_map_are_their_own() -> None:
    one, x = made("lime", n=30, number=9)
    goal, keep = goal_of(one, x), torch.tensor([False, True])
    both, alone = (one.surrogate(x, goal, kind="map") for _ in range(2))
    both.terms(x)
    alone.terms(x)
    alone.select(keep)
    rest = (alone.terms(x[keep]).loss, both.terms(x).loss[keep])
    torch.testing.assert_close(*(loss.detach() for loss in rest), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("keep", [[True, False, True], [False, True, False]])
def test_all_masks_are_looked_at_again_for_the_rows_that_are_left(keep: list[bool]) -> None:
    one, _ = made("lime", n=30, number=9)
    x, rows = toys.pictures(3, 0, toys.SMALL), torch.tensor(keep)
    goal = goal_of(one, x)
    whole, left = (one.surrogate(x, goal, kind="map") for _ in range(2))
    left.select(rows)
    for surrogate, of in ((whole, x), (left, x[rows])):
        surrogate.advance(of, 0.5)
        surrogate.terms(of)
    torch.testing.assert_close(left.odds[rows], whole.odds[rows], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(left.terms(x[rows]).loss, whole.terms(x).loss[rows], rtol=1e-4, atol=1e-7)


def test_a_low_benign_score_is_no_hindrance_to_the_map() -> None:
    """Benign classes are sure at 0.4, the target shall be at 0.95: scores cannot be the same, the map can."""
    one = registry.build_interpreter("occlusion", toys.small(8.0), {"patch": 16, "stride": 16})
    x = toys.pictures(3, 0, toys.SMALL)
    by = {kind: distance(adv2.make("fast", "occlusion", 24, surrogate={"kind": kind}), one, x) for kind in KINDS}
    assert by["map"] < 0.5 * by["scores"], by


@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernelshap"])
def test_the_attack_brings_the_map_back(name: str) -> None:
    options: dict[str, Any] = {"patch": 16, "stride": 16} if name == "occlusion" else {"n": 60}
    options |= {"number": 9} if name in ("lime", "kernelshap") else {}
    one = registry.build_interpreter(name, toys.small(), options)
    x = toys.pictures(3, 0, toys.SMALL)
    for kind in KINDS if name != "rise" else ("scores",):  # its maps are dear
        attack = adv2.make("fast", name, 24, surrogate={"kind": kind})
        assert distance(attack, one, x) < 0.8 * distance(pgd.make("fast", None, 24), one, x)


@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernelshap"])
def test_the_attacker_knows_the_victims_masks_unless_the_seed_is_secret(name: str) -> None:
    one, x = made(name, **({} if name == "occlusion" else {"n": 12}))
    goal = goal_of(one, x)
    masks, known = one.masks(x), one.surrogate(x, goal, kind="scores")
    for k in (1, 5):
        z = one.classifier.logits(one.masked(x, masks.keep(k)))
        own = goal.source[:, None]
        odds = z.gather(1, own)[:, 0] - z.scatter(1, own, -torch.inf).logsumexp(1)
        torch.testing.assert_close(known.benign[k], odds, rtol=0, atol=1e-4)
    guessed = one.surrogate(x, goal, kind="scores", known=False, stock=9)
    assert len(guessed.benign) == (masks.n if name == "occlusion" else 9)
    by_map = one.surrogate(x, goal, kind="map", known=False, stock=9)
    assert by_map.masks.n == len(guessed.benign)
    if name != "occlusion":
        assert not torch.allclose(guessed.benign, known.benign[:9])


def test_certainty_beyond_sure_changes_no_score() -> None:
    wanted, odds = torch.tensor([6.0, -6.0, 1.0]), torch.tensor([5.0, -9.0, 3.0])
    assert surplus(odds, wanted, 4.0).tolist() == [0.0, 0.0, 2.0]
    assert surplus(odds, wanted).tolist() == [-1.0, -3.0, 2.0]


@pytest.mark.parametrize("n", [1, 2, 7, 16, 32, 226, 400])
def test_a_stride_visits_every_place(n: int) -> None:
    assert sorted(k * stride(n) % n for k in range(n)) == list(range(n))
