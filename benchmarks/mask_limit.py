"""Can a picture within ε withstand MASK at all, when nothing else is asked of it?

    python benchmarks/mask_limit.py 8 32 [--photos n01443537.jpg n02089973.jpg] [--steps 200]

A game: three victims walk on the picture as it is (300 steps, then anew), each step of the picture lifts c_t's log-odds
at their masks. Map and field are left alone, so this is the best that an attack on the map could build on. Then a fresh
full run of MASK: where it rests, how much it deletes there, and what the untouched picture would say of its own class
at the same mask. Where the class is dead after little deleting, no mask of the benign size can come of it. Appends to
results/mask-limit.csv.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mask_attempts import Bench
from underfire.attacks.search import Ball, Schedule
from underfire.core import Images, Labels
from underfire.executors.process import prepare
from underfire.heads import Softmax
from underfire.images import photos
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.match import Shadow

RESULT = Path(__file__).parent / "results" / "mask-limit.csv"
COLUMNS = ("image", "eps", "steps", "log_odds", "benign_log_odds", "deleted", "benign_deleted", "unmasked_log_odds")
VICTIMS = 3
LEAD, CLEAN_LEAD = 1.0, 4.0
"""Log-odds that are asked for at the victims' masks, and without any."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eps", type=int, nargs="+")
    parser.add_argument("--photos", nargs="+", default=["n01443537.jpg", "n02089973.jpg"])
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    given = parser.parse_args()
    prepare(1)
    folder = given.shared / "data" / "in1k-samples"
    paths = photos.Folder(str(folder)).paths
    bench = Bench(folder, [paths.index(name) for name in given.photos], None)
    for eps in given.eps:
        judge(bench, withstanding(bench, eps, given.steps), eps, given.steps)


def withstanding(bench: Bench, eps: int, steps: int) -> Images:
    """The picture after the game, on the 8-bit grid."""
    process, x, wanted = bench.mask.process, bench.x, bench.goal.labels
    walk = Ball(eps, Schedule(eps / 4, eps / 80), 0.9).walk(x)
    victims = [Shadow(process, x, (process.steps,)) for _ in range(VICTIMS)]
    for step in range(steps):
        there = [v for i, v in enumerate(victims) if step >= i * steps // 6]
        x_hat = walk.images()
        m = torch.cat([v.walk.m for v in there]).requires_grad_()
        odds = Softmax().log_odds(
            bench.classifier.logits(Blend(x_hat, process.size).images(m)), wanted.repeat(len(there))
        )
        gradient = torch.autograd.grad(odds.sum(), m, retain_graph=True)[0]
        p = odds.detach().sigmoid()[:, None, None]
        for v, g in zip(there, (p * (1 - p) * gradient).chunk(len(there)), strict=True):
            v.gradient = g
            v.advance(x)
        held = F.softplus(LEAD - odds).view(len(there), -1).mean(0)
        walk.step(
            held + 0.3 * F.softplus(CLEAN_LEAD - Softmax().log_odds(bench.classifier.logits(x_hat), wanted)),
            step / steps,
        )
    return walk.images().detach()


@torch.no_grad()
def judge(bench: Bench, x_hat: Images, eps: int, steps: int) -> None:
    """A fresh full run, written down."""
    wanted, source = bench.goal.labels, bench.goal.source
    deleted = bench.mask.explain(x_hat, wanted)

    def odds(x: Images, y: Labels, m: Tensor) -> Tensor:
        return Softmax().log_odds(bench.classifier.logits(Blend(x, bench.mask.process.size).images(m)), y)

    columns = (
        odds(x_hat, wanted, 1 - deleted),
        odds(bench.x, source, 1 - deleted),
        deleted.mean((1, 2)),
        bench.goal.maps["mask"].mean((1, 2)),
        Softmax().log_odds(bench.classifier.logits(x_hat), wanted),
    )
    new = not RESULT.exists()
    with RESULT.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for name, *values in zip(bench.names, *(c.tolist() for c in columns), strict=True):
            row = (name, eps, steps, *(f"{value:.3g}" for value in values))
            writer.writerow(row)
            print(*row, flush=True)


if __name__ == "__main__":
    main()
