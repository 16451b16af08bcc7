"""How often one side of a 95 % interval is wrong: why the gate and the reports have the intervals that they have.

Rates and paired rates are computed exactly, over all tables of n photos; means are simulated. A row for each interval,
n and truth goes to results/intervals.csv. "mean, reports" is what tables of reports and the study show.

    python benchmarks/intervals.py
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from underfire.gating.intervals import Z, scores, studentized_mean
from underfire.metrics import estimate

RESULTS = Path(__file__).parent / "results" / "intervals.csv"
AUDITS = 1_000
Row = tuple[str, int, str, float, float]


def rates() -> Iterator[Row]:
    """The worst truth between 0.0005 and 0.9995 for each side of Clopper and Pearson's and of Wilson's interval."""
    for n in (6, 12, 32, 100):
        hits, truths = np.arange(n + 1), np.linspace(0.0005, 0.9995, 1_999)
        weights = stats.binom.pmf(hits, n, truths[:, None])
        for method in ("exact", "wilson"):
            ends = [stats.binomtest(int(k), n).proportion_ci(0.95, method=method) for k in hits]
            low, high = (np.array([getattr(end, side) for end in ends]) for side in ("low", "high"))
            above = (weights * (low > truths[:, None])).sum(1).max()
            below = (weights * (high < truths[:, None])).sum(1).max()
            yield f"rate, {method}", n, "the worst rate", float(above), float(below)


def pairs() -> Iterator[Row]:
    """The worst truth on a grid for each side of Tango's interval."""
    shares = (0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.95)
    for n in (12, 32, 100):
        more, less = (axis.ravel() for axis in np.meshgrid(np.arange(n + 1), np.arange(n + 1)))
        more, less = more[more + less <= n], less[more + less <= n]
        tables, wrong = np.stack([more, less, n - more - less], 1), []
        for a, b in ((a, b) for a in shares for b in shares if a + b <= 1):
            weights = stats.multinomial.pmf(tables, n, [a, b, max(0.0, 1 - a - b)])
            z = scores(more, less, n, a - b)
            wrong.append((weights[z > Z].sum(), weights[z < -Z].sum()))
        above, below = np.max(wrong, axis=0)
        yield "paired rates, Tango", n, "the worst pair", float(above), float(below)


def student(x: NDArray[np.float64]) -> Sequence[float]:
    low, high = stats.t.interval(0.95, len(x) - 1, x.mean(), stats.sem(x))
    return low, high


def percentile(x: NDArray[np.float64]) -> Sequence[float]:
    drawn = np.random.default_rng(0).integers(0, len(x), (1_999, len(x)))
    low, high = np.quantile(x[drawn].mean(1), [0.025, 0.975])
    return low, high


def studentized(x: NDArray[np.float64]) -> Sequence[float]:
    found = studentized_mean(x.tolist(), 1.0)
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


def reports(x: NDArray[np.float64]) -> Sequence[float]:
    found = estimate.mean(x.tolist())
    assert found.low is not None
    assert found.high is not None
    return found.low, found.high


METHODS: dict[str, Callable[[NDArray[np.float64]], Sequence[float]]] = {
    "mean, studentized bootstrap": studentized,
    "mean, Student": student,
    "mean, percentile bootstrap": percentile,
}
TRUTHS: dict[str, tuple[Callable[[np.random.Generator, int], NDArray[np.float64]], float]] = {
    "Beta(5, 5)": (lambda rng, n: rng.beta(5, 5, n), 0.5),
    "Beta(0.5, 5), skewed as L1": (lambda rng, n: rng.beta(0.5, 5, n), 0.5 / 5.5),
}


CHEAP = {"mean, reports": reports, "mean, Student": student}
SKEWED: dict[str, tuple[Callable[[np.random.Generator, int], NDArray[np.float64]], float]] = {
    "exponential": (lambda rng, n: rng.exponential(1, n), 1.0),
    "log-normal": (lambda rng, n: rng.lognormal(0, 1, n), float(np.exp(0.5))),
    "one in four lost": (lambda rng, n: some_lost(rng, n, 0.25), 0.25 * 0.2 + 0.75 * 0.01),
    "one in ten lost": (lambda rng, n: some_lost(rng, n, 0.1), 0.1 * 0.2 + 0.9 * 0.01),
}
"""One in ten: 14 % of 19 photos show none that is lost, so that no interval can know of them."""


def some_lost(rng: np.random.Generator, n: int, share: float) -> NDArray[np.float64]:
    """Draw map distances of 0.01 in the mean, and about 0.2 on a share of the photos."""
    return np.where(rng.random(n) < share, rng.uniform(0.1, 0.3, n), rng.exponential(0.01, n))


def means() -> Iterator[Row]:
    for n in (12, 32):
        for truth, (draw, mean) in TRUTHS.items():
            for method, interval in METHODS.items():
                yield method, n, truth, *misses(interval, draw, mean, n, AUDITS)
    for n in (12, 19, 50, 200):
        for truth, (draw, mean) in (TRUTHS | SKEWED).items():
            for method, interval in CHEAP.items():
                if method not in METHODS or n != 12 or truth not in TRUTHS:
                    yield method, n, truth, *misses(interval, draw, mean, n, 10 * AUDITS)


def misses(
    interval: Callable[[NDArray[np.float64]], Sequence[float]],
    draw: Callable[[np.random.Generator, int], NDArray[np.float64]],
    mean: float,
    n: int,
    audits: int,
) -> tuple[float, float]:
    rng = np.random.default_rng(1)
    ends = np.array([interval(draw(rng, n)) for _ in range(audits)])
    return float((ends[:, 0] > mean).mean()), float((ends[:, 1] < mean).mean())


def main() -> None:
    with RESULTS.open("w", newline="", encoding="utf-8") as file:
        write = csv.writer(file, lineterminator="\n")
        write.writerow(["interval", "n", "truth", "low_above_truth", "high_below_truth"])
        for *what, above, below in (*rates(), *pairs(), *means()):
            write.writerow([*what, f"{above:.4f}", f"{below:.4f}"])
            print(*what, f"{above:.4f}", f"{below:.4f}")


if __name__ == "__main__":
    main()
