"""95 % intervals hold the truth in 95 % of simulated audits, within two points, at n = 19, 50 and 200."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from underfire.metrics.decision import at_least, at_most, paired
from underfire.metrics.estimate import Estimate, mean, rate

Draw = Callable[[np.random.Generator, int], NDArray[np.float64]]
SHAPES: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, n: rng.normal(size=n), 0.0),
    "skewed": (lambda rng, n: rng.exponential(size=n), 1.0),
    "bounded": (lambda rng, n: rng.beta(2, 5, size=n), 2 / 7),
    "as map distances": (lambda rng, n: rng.beta(0.5, 5, size=n), 1 / 11),
    "strongly skewed": (lambda rng, n: rng.lognormal(size=n), float(np.exp(0.5))),
}
TRUE = (0.1, 0.3, 0.5, 0.8, 0.95)


def holds(found: Estimate, truth: float) -> bool:
    assert found.low is not None and found.high is not None
    return found.low <= truth <= found.high


@pytest.mark.parametrize("n", [19, 50, 200])
@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_of_means(shape: str, n: int) -> None:
    draw, truth = SHAPES[shape]
    rng = np.random.default_rng(n)
    held = np.mean([holds(mean(draw(rng, n).tolist()), truth) for _ in range(2000)])
    assert abs(held - 0.95) <= 0.02


@pytest.mark.parametrize("n", [19, 50, 200])
def test_coverage_of_rates(n: int) -> None:
    """On the average over rates; for a single rate a binomial's coverage jumps with n."""
    rng = np.random.default_rng(n)
    held = np.mean([holds(rate((rng.random(n) < p).tolist()), p) for p in TRUE for _ in range(400)])
    assert abs(held - 0.95) <= 0.02


@pytest.mark.parametrize("n", [19, 50, 200])
def test_coverage_of_rates_over_several_trials_of_a_photo(n: int) -> None:
    """Three trials of each photo, which agree often; counted as photos of their own, the intervals would be short."""
    rng = np.random.default_rng(n)
    photos = [i for i in range(n) for _ in range(3)]
    held, naive = [], []
    for p in TRUE:
        for _ in range(150):
            own = rng.beta(p / 2, (1 - p) / 2, size=n)  # correlation 2/3
            flags = (rng.random(3 * n) < np.repeat(own, 3)).tolist()
            held.append(holds(rate(flags, photos), p))
            naive.append(holds(rate(flags), p))
    assert abs(np.mean(held) - 0.95) <= 0.02
    assert np.mean(naive) < 0.88


def test_one_photo_is_one_cluster() -> None:
    values, photos = [1.0, 3.0, 5.0, 7.0, 2.0, 2.0], ["a", "a", "b", "b", "c", "c"]
    assert mean(values, photos) == Estimate(mean([2.0, 6.0, 2.0]).value, *_ends(mean([2.0, 6.0, 2.0])), 6, 3)
    same = rate([True] * 30, [i // 3 for i in range(30)])
    assert (same.value, same.n, same.photos) == (1.0, 30, 10)
    alone, many = rate([True] * 10), rate([True] * 30)
    assert same.low is not None and alone.low is not None and many.low is not None
    assert same.low <= alone.low < many.low, "thirty trials of ten photos say no more than ten photos"
    assert rate([True, None, False], ["a", "a", "b"]).n == 2


def _ends(found: Estimate) -> tuple[float | None, float | None]:
    return found.low, found.high


def test_paired_photos_are_compared_photo_by_photo() -> None:
    rng = np.random.default_rng(0)
    far = {str(i): float(v) for i, v in enumerate(rng.exponential(size=40) + 0.2)}
    near = {i: v / 2.5 for i, v in far.items()} | {"99": 50.0}
    found = paired(far, near, 2.0)
    assert found.n == 40
    assert at_least(found, 0.0).answer is True, "each is more than twice as far"
    assert at_least(paired(far, near, 3.0), 0.0).answer is False


def test_a_verdict_needs_its_interval_and_ten_photos() -> None:
    assert at_least(rate([True] * 9), 0.5, share=True).words == "too few photos (n = 9)"
    assert at_least(rate([True] * 20), 0.8, share=True).words == "yes"
    assert at_least(rate([False] * 20), 0.8, share=True).words == "no"
    open_ = at_least(rate([True] * 20), 0.95, share=True)
    assert open_.answer is None and open_.needed is not None
    assert 73 <= open_.needed <= 76, "Wilson's lower end of n of n is n / (n + 1.96²)"
    assert open_.words.startswith("not resolved (n = 20, would take about 7")
    assert at_least(rate([True] * 20), 1.0, share=True).answer is True, "all of them is all that can be seen"
    assert at_most(mean([0.1, 0.12, 0.09, 0.11] * 5), 0.2).answer is True
    assert at_most(rate([False] * 40), 0.2, share=True).answer is True
    far = at_least(mean([0.0, 1.0] * 10), 0.49)
    assert far.answer is None and far.needed is not None and far.needed > 1000
    assert at_least(mean([0.0, 1.0] * 10), 0.5).needed is None, "no number of photos decides what is equal"


def test_three_seeds_do_not_make_four_photos_twelve() -> None:
    found = at_least(rate([True] * 12, [i // 3 for i in range(12)]), 0.5, share=True)
    assert found.few and found.photos == 4
