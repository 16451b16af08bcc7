"""What the objective of RTS shows the classifier: blends, fills, blurs."""

from __future__ import annotations

import torch

from underfire.train import objective as loss


def test_blend_keeps_where_the_mask_is_one() -> None:
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    behind = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    ones = torch.ones(2, 4, 4, dtype=torch.float64)
    assert torch.equal(loss.blend(x, ones, behind), x)
    assert torch.equal(loss.blend(x, 0 * ones, behind), behind)
    torch.testing.assert_close(loss.blend(x, 0.25 * ones, behind), 0.25 * x + 0.75 * behind)


def test_the_fill_is_of_the_seed_alone_and_of_both_kinds() -> None:
    x = torch.rand(4, 3, 32, 32)
    seeds = [2, 3, 4, 5]
    filled = loss.fill(x, seeds)
    assert torch.equal(filled[1], loss.fill(x[1:2], [3])[0])
    assert torch.equal(filled[1], loss.blurred(x)[1]), "odd seeds blur"
    assert torch.equal(filled[0], loss.flat(x, seeds)[0]), "even seeds paint"
    assert float(filled.min()) >= 0 and float(filled.max()) <= 1


def test_blur_leaves_a_flat_picture_and_takes_detail_away() -> None:
    flat = torch.full((1, 3, 64, 64), 0.3)
    torch.testing.assert_close(loss.blurred(flat), flat)
    stripes = (torch.arange(64) % 2).float().expand(1, 3, 64, 64)
    assert float(loss.blurred(stripes).std()) < 0.1
