"""The objective of RTS against slow re-implementations."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from support.colours import SIZE, colours, random_maps
from underfire.train import objective as loss


def test_area_and_smoothness_by_hand() -> None:
    m = random_maps()
    for k, one in enumerate(m.tolist()):
        n = len(one)
        assert float(loss.area(m)[k]) == pytest.approx(sum(map(sum, one)) / n**2, abs=1e-12)
        across = [(one[i][j + 1] - one[i][j]) ** 2 for i in range(n) for j in range(n - 1)]
        down = [(one[i + 1][j] - one[i][j]) ** 2 for i in range(n - 1) for j in range(n)]
        assert float(loss.smoothness(m)[k]) == pytest.approx(
            sum(across) / len(across) + sum(down) / len(down), abs=1e-12
        )


def test_blend_keeps_where_the_mask_is_one() -> None:
    x = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    behind = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    ones = torch.ones(2, 4, 4, dtype=torch.float64)
    assert torch.equal(loss.blend(x, ones, behind), x)
    assert torch.equal(loss.blend(x, 0 * ones, behind), behind)
    torch.testing.assert_close(loss.blend(x, 0.25 * ones, behind), 0.25 * x + 0.75 * behind)


def test_the_objective_term_by_term() -> None:
    classifier = colours()
    classifier.module.double()
    classifier.to("cpu")
    x = torch.rand(3, 3, SIZE, SIZE, dtype=torch.float64)
    behind, m, y = torch.rand_like(x), random_maps(3, 16), torch.tensor([0, 1, 2])
    lam = loss.ObjectiveWeights(tv=3.0, area=2.0, destroy=5.0, power=0.3)
    terms = loss.objective(classifier.logits, x, y, m, behind, lam)
    for k in range(3):
        u = F.interpolate(m[k : k + 1, None], (SIZE, SIZE), mode="bilinear", align_corners=False)
        kept = classifier.logits(x[k : k + 1] * u + behind[k : k + 1] * (1 - u))[0].tolist()
        lost = classifier.logits(x[k : k + 1] * (1 - u) + behind[k : k + 1] * u)[0].tolist()

        def probability(z: list[float], c: int) -> float:
            return math.exp(z[c]) / sum(math.exp(v) for v in z)

        c = int(y[k])
        assert float(terms["keep"][k]) == pytest.approx(-math.log(probability(kept, c)), rel=1e-4)
        assert float(terms["destroy"][k]) == pytest.approx(5 * (probability(lost, c) + 1e-6) ** 0.3, rel=1e-4)
        assert float(terms["area"][k]) == pytest.approx(2 * float(m[k].mean()))
        assert float(terms["smoothness"][k]) == pytest.approx(3 * float(loss.smoothness(m)[k]))


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
