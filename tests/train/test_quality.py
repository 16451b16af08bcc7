"""What a map is worth, by hand."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from support.colours import SIZE, colours, random_maps
from underfire.train import quality
from underfire.train.objective import blurred


def test_the_tightest_box() -> None:
    m = torch.zeros(8, 8)
    m[2, 3], m[5, 4] = 0.9, 0.6
    assert quality.tight_box(m, 0.5) == (2 / 8, 3 / 8, 6 / 8, 5 / 8)
    assert quality.tight_box(m, 0.7) == (2 / 8, 3 / 8, 3 / 8, 4 / 8)
    assert quality.tight_box(m, 0.95) == (0, 0, 1, 1), "nothing reaches t: nothing is cropped"


def test_the_saliency_metric_by_hand() -> None:
    classifier = colours()
    x = torch.full((1, 3, SIZE, SIZE), 0.45)
    x[:, :, 16:32, 32:64] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    m = torch.zeros(1, 16, 16)
    m[:, 4:8, 8:16] = 1
    crop = torch.tensor([0.9, 0.1, 0.1])[None, :, None, None].expand(1, 3, SIZE, SIZE)
    p = float(classifier.logits(crop).softmax(1)[0, 0])
    wanted = math.log(0.25 * 0.5) - math.log(p)
    assert float(quality.saliency_metric(classifier.logits, x, torch.tensor([0]), m, 0.5)[0]) == pytest.approx(
        wanted, abs=1e-4
    )
    m = torch.zeros(1, 16, 16)
    m[:, 5, 9] = 1  # 1/256 of the area counts as 5 %
    value = float(quality.saliency_metric(classifier.logits, x, torch.tensor([0]), m, 0.5)[0])
    assert value == pytest.approx(math.log(0.05) - math.log(p), abs=1e-4)


def test_regions_have_their_area() -> None:
    m = random_maps(4, 10)
    top = quality.top_region(m, 0.2)
    assert top.sum((1, 2)).tolist() == [20] * 4
    assert all(float(m[k][top[k] == 1].min()) >= float(m[k][top[k] == 0].max()) for k in range(4))
    block = quality.random_block(m, 0.2, [1, 2, 3, 1])
    assert block.sum((1, 2)).tolist() == [16] * 4
    assert torch.equal(block[0], block[3])


def test_what_is_left_without_a_region() -> None:
    classifier = colours()
    x = torch.full((1, 3, SIZE, SIZE), 0.45)
    x[:, :, 16:32, 16:32] = torch.tensor([0.9, 0.1, 0.1])[:, None, None]
    y, region = torch.tensor([0]), torch.zeros(1, 16, 16)
    whole = float(classifier.logits(x).softmax(1)[0, 0])
    assert float(quality.probability_without(classifier.logits, x, y, region)[0]) == pytest.approx(whole)
    region[:, 4:8, 4:8] = 1
    z = classifier.logits(torch.where(F.interpolate(region[:, None], (SIZE, SIZE)) > 0, blurred(x), x))
    assert float(quality.probability_without(classifier.logits, x, y, region)[0]) == pytest.approx(
        float(z.softmax(1)[0, 0])
    )
