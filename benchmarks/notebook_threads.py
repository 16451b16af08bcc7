"""How long the first lines of a notebook take on a busy machine, by what is done about OpenMP's threads.

    python benchmarks/notebook_threads.py [BUSY ...]

torch is imported before underfire, as notebooks do, so that OMP_WAIT_POLICY comes too late. BUSY processes compute
beside it (by default none, and as many as there are cores). A row for each way: seconds of one photo, ADV² on CAM, ten
steps.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

from beside import busy, told

RESULTS = Path(__file__).parent / "results" / "notebook-threads.csv"
SNIPPET = """
import sys, time
import torch
import underfire
from underfire.images.photos import Folder
classifier = underfire.classifier()
threads = {"as it was": torch.get_num_threads(), "one thread": 1}.get(sys.argv[1])
photo = str(Folder("demo").root / "chelsea.png")
start = time.perf_counter()
underfire.attack(classifier, "cam", photo, steps=10, threads=threads)
print(time.perf_counter() - start)
"""
WAYS = ("as it was", "one thread", "by itself", "underfire first")
"""Torch's own threads, spinning; one; what `attack` chooses; and what `underfire/__init__` sets, in time."""
LONGEST = 150
"""Seconds for all of it, with the imports, which take half a minute on a very busy machine."""


def seconds(way: str) -> float | None:
    """Time the snippet; None where it takes too long."""
    openmp = {"OMP_WAIT_POLICY": "passive", "GOMP_SPINCOUNT": "3000"} if way == "underfire first" else {}
    try:
        return told(SNIPPET, [way], openmp, LONGEST)
    except subprocess.TimeoutExpired:
        return None


def main() -> None:
    """Measure, and append a row for each way."""
    cores = len(os.sched_getaffinity(0))
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        out = csv.writer(file)
        if new:
            out.writerow(["cores", "busy_beside", "load", "way", "seconds"])
        for programs in [int(word) for word in sys.argv[1:]] or (0, cores):
            with busy(programs):
                for way in WAYS:
                    taken, load = seconds(way), os.getloadavg()[0]
                    shown = f"> {LONGEST}" if taken is None else f"{taken:.2f}"
                    out.writerow([cores, programs, f"{load:.1f}", way, shown])
                    file.flush()


if __name__ == "__main__":
    main()
