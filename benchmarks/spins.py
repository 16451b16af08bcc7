"""How long OpenMP's threads should spin while they wait (docs/speed.md).

    python benchmarks/spins.py            # three minutes on two cores

Each way is a process of its own, since OpenMP reads its settings when torch is loaded: forward and backward of
EfficientNet-Lite0 on as many threads as cores, on an idle machine, and beside programs that take cores of it. Rows are
added to benchmarks/results/spins.csv.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path

from beside import busy, told

RESULTS = Path(__file__).parent / "results" / "spins.csv"
SNIPPET = """
import sys, time, statistics
import torch  # first, so that underfire sets nothing
from underfire.core import ClassifierOptions
from underfire.registry import build_classifier
n, threads = int(sys.argv[1]), int(sys.argv[2])
torch.set_num_threads(threads)
classifier = build_classifier("efficientnet-lite0", ClassifierOptions(), "cpu")
x = torch.rand(n, *classifier.preprocess.shape).requires_grad_()
times = []
while len(times) < 5 or sum(times) < 4:
    start = time.perf_counter()
    torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)
    times.append(time.perf_counter() - start)
print(1000 * statistics.median(times[2:]))
"""
WAYS: tuple[str | None, ...] = ("0", "1000", "3000", "10000", "30000", None)
"""GOMP_SPINCOUNT; None: OpenMP's own."""
CASES = ((1, 0), (2, 0), (8, 0), (1, 1), (8, 1))
"""Photos of a batch, and programs beside it."""
LONGEST = 300
"""Seconds for all of it, with the imports."""


def main() -> None:
    cores = len(os.sched_getaffinity(0))
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        out = csv.writer(file)
        if new:
            out.writerow(["cores", "photos", "programs_beside", "threads", "spins", "milliseconds"])
        for n, programs in CASES:
            with busy(programs):
                for threads, spins in [(1, "0"), *((cores, spins) for spins in WAYS)]:
                    openmp = {"GOMP_SPINCOUNT": spins, "OMP_WAIT_POLICY": "passive"} if spins else {}
                    milliseconds = told(SNIPPET, [str(n), str(threads)], openmp, LONGEST)
                    row = [cores, n, programs, threads, spins or "its own", f"{milliseconds:.1f}"]
                    out.writerow(row)
                    file.flush()
                    print(*row, flush=True)


if __name__ == "__main__":
    main()
