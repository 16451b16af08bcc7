"""MASK: its blend at both ends, its kernels and optimiser; batches, options, bad input."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from support.toys import SIDE, pictures, small
from support.toys import SMALL as SIZE
from underfire import registry
from underfire.classifiers.base import TorchClassifier
from underfire.core import ImageErrors, UnderfireError
from underfire.interpreters.mask.blend import Blend, blur, gaussian_matrix, odd
from underfire.interpreters.mask.mask import Mask
from underfire.interpreters.mask.walk import Walk, flat_images, jitters


def predicted(classifier: TorchClassifier, x: Tensor) -> Tensor:
    return classifier.logits(x).argmax(1)


# -- blend ------------------------------------------------------------------------------------------------------------


def test_a_mask_of_ones_keeps_the_image_and_one_of_zeros_shows_the_blur() -> None:
    x = pictures(2, size=SIZE)
    ones = torch.ones(2, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(Blend(x, 28).images(ones), x)
    torch.testing.assert_close(Blend(x, 28).images(0 * ones), blur(x))


def test_the_published_kernels_at_224_px_and_their_scaled_sizes() -> None:
    widths = [int((gaussian_matrix(224, k, s)[112] > 0).sum()) for k, s in ((11, 2.0), (21, 3.5))]
    assert widths == [11, 21]
    assert [odd(k) for k in (21, 12.0, 11.9, 6.3, 3.0, 0.4, 0.0)] == [21, 13, 11, 7, 3, 1, 1]
    torch.testing.assert_close(gaussian_matrix(224, 21, 3.5).sum(1), torch.ones(224, dtype=torch.float64))


# -- the optimiser ----------------------------------------------------------------------------------------------------


def test_the_walk_is_torchs_adam_with_a_clamp() -> None:
    generator = torch.manual_seed(3)
    m = torch.full((2, SIDE, SIDE), 0.5, dtype=torch.float64)
    walk, leaf = Walk(m, 0.1), m.clone().requires_grad_()
    library = torch.optim.Adam([leaf], lr=0.1)
    for _ in range(40):
        gradient = torch.randn(2, SIDE, SIDE, dtype=torch.float64, generator=generator) * 1e-4
        walk.step(gradient)
        leaf.grad = gradient
        library.step()
        with torch.no_grad():
            leaf.clamp_(0, 1)
        torch.testing.assert_close(walk.m, leaf.detach())
    assert 0 <= float(walk.m.min()) < float(walk.m.max()) <= 1


# -- the interpreter --------------------------------------------------------------------------------------------------


def test_it_is_registered_and_its_map_has_the_published_size() -> None:
    mask = registry.maker("interpreters", "mask")(small(), steps=2)
    assert mask.explain(pictures(1, size=SIZE), torch.tensor([0])).shape == (1, 28, 28)
    assert Mask(small()).map_passes == 900


def test_deleting_the_map_lowers_the_class_score_more_than_deleting_elsewhere() -> None:
    classifier, x = small(), pictures(4, size=SIZE)
    y = predicted(classifier, x)
    mask = Mask(classifier, size=SIDE)
    m, blend = mask.explain(x, y), Blend(x, SIDE)
    score = {
        name: classifier.logits(blend.images(1 - shown)).softmax(1).gather(1, y[:, None]).mean()
        for name, shown in (("map", m), ("mirrored", m.flip(1, 2)), ("nothing", 0 * m))
    }
    assert score["map"] < score["mirrored"] < score["nothing"]


def test_a_jittered_image_does_not_feel_its_batch() -> None:
    classifier, x = small(), pictures(3, size=SIZE)
    y = predicted(classifier, x)
    mask = Mask(classifier, size=SIDE, steps=40, jitter=4)
    alone = torch.cat([mask.explain(x[n : n + 1], y[n : n + 1]) for n in range(3)])
    torch.testing.assert_close(mask.explain(x, y), alone, rtol=0, atol=1e-9)


def test_jitter_is_drawn_from_the_image_and_the_seed() -> None:
    x = pictures(2, size=SIZE)
    drawn = jitters(x, 4, 50, 0)
    assert drawn.shape == (50, 2, 2)
    assert (int(drawn.min()), int(drawn.max())) == (0, 3)
    torch.testing.assert_close(jitters(x[1:], 4, 50, 0), drawn[:, 1:])
    assert not torch.equal(jitters(x, 4, 50, 1), drawn)
    assert not torch.equal(drawn[:, 0], drawn[:, 1])


# -- bad input --------------------------------------------------------------------------------------------------------


def test_a_flat_image_has_no_map_and_the_others_have() -> None:
    x = pictures(3, size=SIZE)
    x[1] = 0.25
    with pytest.raises(ImageErrors, match="nothing that MASK could delete") as caught:
        Mask(small(), size=SIDE, steps=2).explain(x, torch.tensor([0, 1, 2]))
    assert list(caught.value.by_row) == [1]


def test_a_large_flat_image_is_flat_and_a_large_picture_has_a_map() -> None:
    flat = torch.full((3, 768, 768), 0.3)
    assert flat_images(torch.stack([flat, pictures(1, size=768)[0].float(), flat * math.nan])).tolist() == [1, 0, 0]
    m = Mask(small(), size=SIDE, steps=2).explain(pictures(1, size=768), torch.tensor([1]))
    assert bool(m.isfinite().all())


def test_a_blend_is_the_same_where_the_search_is_in_bfloat16() -> None:
    x, m = pictures(2, size=SIZE).float(), torch.rand(2, SIDE, SIDE, generator=torch.manual_seed(0))
    wanted = Blend(x, SIDE).images(m)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(Blend(x, SIDE).images(m), wanted)


def test_an_image_of_one_pixel_has_no_map() -> None:
    with pytest.raises(ImageErrors, match="nothing that MASK could delete"):
        Mask(small(), size=SIDE, steps=2).explain(pictures(1, size=1), torch.tensor([0]))


def test_a_class_without_a_score_keeps_everything() -> None:
    classifier = small()
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    head.bias.data[2] = -1e4
    m = Mask(classifier, size=SIDE, steps=60).explain(pictures(1, size=SIZE), torch.tensor([2]))
    assert m.tolist() == torch.zeros(1, SIDE, SIDE).tolist()


def test_a_class_with_hardly_a_score_has_a_map() -> None:
    classifier = small()
    head = classifier.module.head
    assert isinstance(head, nn.Linear)
    head.bias.data[2] -= 60
    x = pictures(1, size=SIZE)
    assert 0 < float(classifier.logits(x).softmax(1)[0, 2]) < 1e-12
    m = Mask(classifier, size=SIDE).explain(x, torch.tensor([2]))
    assert float(m.abs().max()) < 1e-3


def test_scores_that_are_no_numbers_are_an_error_of_their_image() -> None:
    classifier, x = small(), pictures(2, size=SIZE)
    x[0, 0, 5, 5] = math.nan
    with pytest.raises(ImageErrors, match="not finite") as caught:
        Mask(classifier, size=SIDE, steps=3).explain(x, torch.tensor([0, 1]))
    assert list(caught.value.by_row) == [0]


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"steps": 0},
        {"jitter": -1},
        {"jitter": 49},
        {"steps": 2.5},
        {"lr": 0.0},
        {"lr": math.nan},
        {"l1": -1.0},
        {"tv": "much"},
        {"l1": math.inf},
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(UnderfireError, match=f"mask {name} = {options[name]!r}"):
        Mask(small(), **options)


def test_a_jitter_may_be_as_large_as_the_input() -> None:
    classifier, x = small(), pictures(1, 0, SIZE)
    assert Mask(classifier, size=SIDE, steps=2, jitter=SIZE).explain(x, torch.tensor([0])).shape == (1, SIDE, SIDE)
