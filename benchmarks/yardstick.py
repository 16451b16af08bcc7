"""How well a packaged yardstick judges photos that it has not seen: made from half of its photos, tested on the others.

    underfire yardstick --images in1k-samples --limit 120 --interpreter cam --out efficientnet-lite0.cam.json
    python benchmarks/yardstick.py [--halvings 20]

The first command measures; its file, put into src/underfire/metrics/yardsticks, is packaged. The second splits the
photos of each packaged file into halves, many times and seeded, and appends the means to results/yardstick.csv; rows
that are there are left as they are. `units` is what a distance is divided by: the 95 % quantile of the copies
of all photos (pooled, what the tool does), or the median of the photo's own copies (own).
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underfire.metrics import conformal
from underfire.metrics.packaged import packaged
from underfire.metrics.yardstick import IMPOSTORS, PhotoDistances, Yardstick, photos_needed
from underfire.metrics.yardstick_file import YardstickFile

RESULT = Path(__file__).parent / "results" / "yardstick.csv"
COLUMNS = ("classifier", "interpreter", "digest", "units", "distances", "n", "tested", "false_rejects", *IMPOSTORS)
KINDS = {"l1": (0,), "iou": (1,), "rank": (2,), "l1+iou": (0, 1), "l1+iou+rank": (0, 1, 2)}
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--halvings", type=int, default=20)
    given = parser.parse_args()
    there = set()
    if RESULT.exists():
        with RESULT.open(newline="") as file:
            there = {tuple(row[name] for name in COLUMNS[:5]) for row in csv.DictReader(file)}
    for made in packaged():
        for units in ("pooled", "own"):
            for kinds, chosen in KINDS.items():
                key = (made.classifier, made.interpreter, made.digest[:12], units, kinds)
                if key not in there and len(made.yardstick.photos) >= 2 * photos_needed(made.yardstick.share):
                    append([*key, *tested(made, units, chosen, given.halvings)])


def append(row: list[object]) -> None:
    new = not RESULT.exists()
    with RESULT.open("a", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([COLUMNS, row] if new else [row])
    print(*row)


def tested(made: YardstickFile, units: str, kinds: tuple[int, ...], halvings: int) -> list[object]:
    photos = np.array(made.yardstick.photos, dtype=object)
    rng = np.random.default_rng(0)
    found = []
    for _ in range(halvings):
        order = rng.permutation(len(photos))
        seen, new = photos[order[: len(photos) // 2]], photos[order[len(photos) // 2 :]]
        found.append((pooled if units == "pooled" else own)(list(seen), list(new), kinds, made.yardstick.share))
    half = len(photos) // 2
    return [half, len(photos) - half, *(f"{value:.4f}" for value in np.mean(found, 0))]


def pooled(seen: list[PhotoDistances], new: list[PhotoDistances], kinds: tuple[int, ...], share: float) -> list[float]:
    """Shares rejected, of natural copies and of each impostor, by the tool's own yardstick on some distances."""
    limits = Yardstick(tuple(only(one, kinds) for one in seen), share).limits
    return rejected([(one, limits) for one in new], kinds)


def own(seen: list[PhotoDistances], new: list[PhotoDistances], kinds: tuple[int, ...], share: float) -> list[float]:
    """The same, where each distance is divided by the median of the photo's own copies."""
    rng = np.random.default_rng(0)
    scores = []
    for one in seen:
        rest = np.array(one.copies)
        drawn = rng.integers(len(rest))
        scores.append(float((rest[drawn] / medians(np.delete(rest, drawn, 0)))[list(kinds)].max()))
    t = conformal.threshold(scores, share)
    return rejected([(one, t * medians(np.array(one.copies))) for one in new], kinds)


def medians(copies: Floats) -> Floats:
    return np.maximum(np.median(copies, 0), 1e-6)


def only(one: PhotoDistances, kinds: tuple[int, ...]) -> PhotoDistances:
    copies = [tuple(d[k] if k in kinds else 0.0 for k in range(3)) for d in one.copies]
    return PhotoDistances(one.sha256, tuple((a, b, c) for a, b, c in copies), {})


def rejected(tests: list[tuple[PhotoDistances, Floats]], kinds: tuple[int, ...]) -> list[float]:
    at = list(kinds)
    copies = [float(np.mean((np.array(one.copies) > limits)[:, at].any(1))) for one, limits in tests]
    shares = [float(np.mean(copies))]
    for name in IMPOSTORS:
        wrong = [(np.array(one.impostors[name]) > limits)[at].any() for one, limits in tests if name in one.impostors]
        shares.append(float(np.mean(wrong)) if wrong else float("nan"))
    return shares


if __name__ == "__main__":
    main()
