"""MASK for its own sake: what a map costs, whether its region matters, and how still it stands.

    python benchmarks/mask_map.py cost                       a step over its bare forward + backward, interleaved
    python benchmarks/mask_map.py deletion [--photos 0 1]    class score after deleting the region, and random ones
    python benchmarks/mask_map.py floor [--photos 0 1]       the same photo twice: jitter 4 with two seeds; ± 1 level

Each appends to results/mask-map.csv.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from mask_attempts import Bench
from underfire.core import LEVELS, Labels, Maps
from underfire.executors.process import prepare
from underfire.images import maps
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.mask import Mask

RESULT = Path(__file__).parent / "results" / "mask-map.csv"
SHIFTS = 16
"""Random regions of the same shape and area: the region itself, moved (and turned round the edges) at random."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("cost", "deletion", "floor"))
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    parser.add_argument("--photos", type=int, nargs="*", default=[0, 1])
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    prepare(given.threads)
    bench = Bench(given.shared / "data" / "in1k-samples", given.photos, given.keep)
    parts: dict[str, Callable[[Bench, int], None]] = {"cost": cost, "deletion": deletion, "floor": floor}
    parts[given.what](bench, given.threads)


def write(what: str, image: str, value: float) -> None:
    new = not RESULT.exists()
    with RESULT.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(("what", "image", "value"))
        writer.writerow((what, image, f"{value:.4g}"))
    print(f"{what} {image} {value:.4g}", flush=True)


def cost(bench: Bench, threads: int, steps: int = 10, rounds: int = 5) -> None:
    """Median over rounds of (MASK's steps) / (as many bare forwards and backwards), run in turn."""
    x, y = bench.x, bench.goal.source
    mask = Mask(bench.classifier, steps=steps)

    def bare() -> None:
        for _ in range(steps):
            leaf = x.clone().requires_grad_()
            torch.autograd.grad(bench.mask.process.score(leaf, y).sum(), leaf)

    ratios, spent = [], []
    for _ in range(rounds):
        times = []
        for run in (bare, lambda: mask.explain(x, y), lambda: mask.explain(x, y), bare):
            start = time.perf_counter()
            run()
            times.append(time.perf_counter() - start)
        ratios.append((times[1] + times[2]) / (times[0] + times[3]))
        spent.append((times[1] + times[2]) / (2 * steps * len(x)) * 300)
    write(f"a map over its bare passes ({threads} threads)", "", statistics.median(ratios))
    write(f"maps a minute ({threads} threads)", "", 60 / statistics.median(spent))


def score(bench: Bench, kept: Maps, y: Labels) -> Tensor:
    """p_c of the photos blended with masks."""
    with torch.no_grad():
        return bench.mask.process.score(Blend(bench.x, kept.shape[-1]).images(kept), y)


def deletion(bench: Bench, threads: int) -> None:
    """The region is where the map is 0.5 or more, deleted altogether; random ones have its shape and area."""
    y, region = bench.goal.source, (bench.goal.maps["mask"] >= 0.5).to(bench.x)
    generator, side = torch.Generator().manual_seed(0), region.shape[-1]
    whole, deleted, moved = score(bench, torch.ones_like(region), y), score(bench, 1 - region, y), []
    for _ in range(SHIFTS):
        down, right = torch.randint(1, side, (2,), generator=generator).tolist()
        moved.append(score(bench, 1 - region.roll((down, right), (1, 2)), y))
    elsewhere = torch.stack(moved).mean(0)
    for n, image in enumerate(bench.names):
        write("region's share of the area", image, float(region[n].mean()))
        write("class score", image, float(whole[n]))
        write("class score, region deleted", image, float(deleted[n]))
        write("class score, moved region deleted", image, float(elsewhere[n]))


def floor(bench: Bench, threads: int) -> None:
    """How far apart two maps of one photo are."""
    x, y, m = bench.x, bench.goal.source, bench.goal.maps["mask"]
    noise = torch.randint(-1, 2, x.shape, generator=torch.Generator().manual_seed(0)) / LEVELS
    noisy = bench.mask.explain((x + noise).clamp(0, 1), y)
    first, second = (Mask(bench.classifier, jitter=4, seed=seed).explain(x, y) for seed in (0, 1))
    for n, image in enumerate(bench.names):
        write("L1, ± 1 level of noise", image, float(maps.l1(noisy, m)[n]))
        write("L1, jitter 4, two seeds", image, float(maps.l1(first, second)[n]))


if __name__ == "__main__":
    main()
