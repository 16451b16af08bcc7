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

from support import toys
from support.attacked import distance, goal_of
from underfire import registry
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.core import ImageErrors, UnderfireError, UnknownNameError
from underfire.images import maps
from underfire.interpreters.drawn import stride
from underfire.interpreters.mask.match import surplus

Y = torch.tensor([2, 0])


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


def test_words_and_sizes_that_do_not_suit_are_refused() -> None:
    for words in ({"fill": "gray"}, {"segments": "slick"}):
        with pytest.raises(UnknownNameError):
            made("lime", **words)
    for name, options in (
        ("occlusion", {"patch": 8, "stride": 9}),
        ("occlusion", {"patch": 49}),
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
    with pytest.raises(UnderfireError, match="--target-map"):
        one.surrogate(x, replace(goal_of(one, x), drawn=True))


@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernelshap"])
def test_the_attack_brings_the_map_back(name: str) -> None:
    options: dict[str, Any] = {"patch": 16, "stride": 16} if name == "occlusion" else {"n": 60}
    options |= {"number": 9} if name in ("lime", "kernelshap") else {}
    one = registry.build_interpreter(name, toys.small(), options)
    x = toys.pictures(3, 0, toys.SMALL)
    attack = adv2.make("fast", name, 24, surrogate={"stock": 64})
    assert distance(attack, one, x) < 0.8 * distance(pgd.make("fast", None, 24), one, x)


@pytest.mark.parametrize("name", ["occlusion", "rise", "lime", "kernelshap"])
def test_the_attacker_knows_the_victims_masks_unless_the_seed_is_secret(name: str) -> None:
    one, x = made(name, **({} if name == "occlusion" else {"n": 12}))
    goal = goal_of(one, x)
    masks, known = one.masks(x), one.surrogate(x, goal)
    for k in (1, 5):
        z = one.classifier.logits(one.masked(x, masks.keep(k)))
        own = goal.source[:, None]
        odds = z.gather(1, own)[:, 0] - z.scatter(1, own, -torch.inf).logsumexp(1)
        torch.testing.assert_close(known.benign[k], odds, rtol=0, atol=1e-4)
    guessed = one.surrogate(x, goal, known=False, stock=9)
    assert len(guessed.benign) == (masks.n if name == "occlusion" else 9)
    if name != "occlusion":
        assert not torch.allclose(guessed.benign, known.benign[:9])


def test_certainty_beyond_sure_changes_no_score() -> None:
    wanted, odds = torch.tensor([6.0, -6.0, 1.0]), torch.tensor([5.0, -9.0, 3.0])
    assert surplus(odds, wanted, 4.0).tolist() == [0.0, 0.0, 2.0]
    assert surplus(odds, wanted).tolist() == [-1.0, -3.0, 2.0]


@pytest.mark.parametrize("n", [1, 2, 7, 16, 32, 226, 400])
def test_a_stride_visits_every_place(n: int) -> None:
    assert sorted(k * stride(n) % n for k in range(n)) == list(range(n))
