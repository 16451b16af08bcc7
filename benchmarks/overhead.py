"""What the tool costs over a bare loop: the same steps on the same batch, interleaved, as ratios of medians.

    python benchmarks/overhead.py [--images 4] [--steps 10] [--rounds 5]

PGD: forward + backward. GRAD: forward + backward + double backward of the smoothed network, by hand; and the most
memory that it has allocated at a time, over a first-order step's. Writes results/overhead.csv.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

import underfire
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.core import Goal, Victim
from underfire.executors.process import prepare
from underfire.interpreters.grad import Grad
from underfire.interpreters.smooth import Slope, smoothed

RESULT = Path(__file__).parent / "results" / "overhead.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    prepare(given.threads)
    classifier = underfire.classifier()
    x = (torch.rand(given.images, 3, 224, 224, generator=torch.Generator().manual_seed(0)) * 255).round() / 255
    y = torch.arange(given.images)
    rows = [
        (
            "PGD step over forward + backward",
            ratio(given, bare_first(classifier, x, y), pgd_steps(classifier, x, y)),
            1.05,
        ),
        ("GRAD step over its floor", ratio(given, bare_second(classifier, x, y), grad_steps(classifier, x, y)), 1.10),
        (
            "GRAD peak memory over a first-order step",
            peak(grad_steps(classifier, x, y)) / peak(bare_first(classifier, x, y)),
            2.2,
        ),
        (
            "GRAD peak memory of a step with a look at the real map, likewise",
            peak(grad_steps(classifier, x, y, check=1)) / peak(bare_first(classifier, x, y)),
            2.2,
        ),
    ]
    with RESULT.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("what", "ratio", "asked", "images", "steps", "rounds", "threads"))
        for what, value, asked in rows:
            print(f"{what}: {value:.3f} (asked: at most {asked})")
            writer.writerow((what, f"{value:.4f}", asked, given.images, given.steps, given.rounds, given.threads))


def ratio(given: argparse.Namespace, bare: Callable[[int], None], ours: Callable[[int], None]) -> float:
    """Median over rounds of ours / bare, the two run in turn: the machine's mood cancels."""
    bare(2)
    ours(2)
    found = []
    for _ in range(given.rounds):
        times = []
        for run in (bare, ours, ours, bare):
            start = time.perf_counter()
            run(given.steps)
            times.append(time.perf_counter() - start)
        found.append((times[1] + times[2]) / (times[0] + times[3]))
    return statistics.median(found)


def bare_first(classifier: underfire.Classifier, x: Tensor, y: Tensor) -> Callable[[int], None]:
    def run(steps: int) -> None:
        for step in range(steps + 1):  # a search looks at its last position too
            leaf = x.clone().requires_grad_()
            loss = torch.nn.functional.cross_entropy(classifier.logits(leaf), y, reduction="sum")
            if step < steps:
                torch.autograd.grad(loss, leaf)

    return run


def pgd_steps(classifier: underfire.Classifier, x: Tensor, y: Tensor) -> Callable[[int], None]:
    def run(steps: int) -> None:
        attack = pgd.make("fast", None, 8, steps=steps, stop_confidence=None)
        with classifier.meter.counting(len(x)):
            attack.run(Victim(classifier), x, Goal(y, y), [0] * len(x))

    return run


def bare_second(classifier: underfire.Classifier, x: Tensor, y: Tensor) -> Callable[[int], None]:
    def run(steps: int) -> None:
        for step in range(steps + 1):
            leaf = x.clone().requires_grad_()
            with smoothed(Slope()):
                z = classifier.logits(leaf)
                g = torch.autograd.grad(z.gather(1, y[:, None]).sum(), leaf, create_graph=True)[0]
            if step < steps:
                torch.autograd.grad(g.square().sum() + z.logsumexp(1).sum(), leaf)

    return run


def grad_steps(classifier: underfire.Classifier, x: Tensor, y: Tensor, check: int = 0) -> Callable[[int], None]:
    interpreter = Grad(classifier)
    goal = Goal(y, y, {"grad": interpreter.explain(x, y)})

    def run(steps: int) -> None:
        attack = adv2.make("fast", "grad", 8, steps=steps, warmup=0, check=check)  # 0: no look at the real map
        with classifier.meter.counting(len(x)):
            attack.run(Victim(classifier, (interpreter,)), x, goal, [0] * len(x))

    return run


def peak(run: Callable[[int], None]) -> int:
    """Most bytes that the allocator has handed out at a time during one step, over what was there before."""
    run(1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        run(1)
    events = found.profiler.kineto_results.events()
    memory = sorted((e for e in events if e.name() == "[memory]"), key=lambda e: e.start_ns())
    return max(itertools.accumulate(int(e.nbytes()) for e in memory))


if __name__ == "__main__":
    main()
