"""How long the first lines of a notebook take on a busy machine, by what is done about OpenMP's threads.

    python benchmarks/notebook_threads.py

torch is imported before underfire, as notebooks do, so that OMP_WAIT_POLICY comes too late. Busy: as many processes as
there are cores compute beside it. A row for each (busy, threads): seconds of one photo, ADV² on CAM, ten steps.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "notebook-threads.csv"
SNIPPET = """
import sys, time
import torch
threads = int(sys.argv[1])
import underfire
from underfire.images.photos import Folder
classifier = underfire.classifier()
if threads:
    torch.set_num_threads(threads)
photo = str(Folder("demo").root / "chelsea.png")
start = time.perf_counter()
underfire.attack(classifier, "cam", photo, steps=10, **({"threads": torch.get_num_threads()} if WITH else {}))
print(time.perf_counter() - start)
"""
LONGEST = 60


def seconds(threads: int, passive: bool, snippet: str) -> float | None:
    """Time the snippet in a process of its own; None where it takes longer than a minute."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OMP_")}
    if passive:
        environment["OMP_WAIT_POLICY"] = "passive"
    command = [sys.executable, "-c", snippet, str(threads)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=True)
    except subprocess.TimeoutExpired:
        return None
    return float(done.stdout.split()[-1])


def main() -> None:
    """Measure, and append a row for each setting."""
    cores = os.cpu_count() or 1
    takes = "WITH = 'threads' in __import__('inspect').signature(__import__('underfire').attack).parameters"
    snippet = SNIPPET.replace("import underfire\n", f"import underfire\n{takes}\n", 1)
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        out = csv.writer(file)
        if new:
            out.writerow(["cores", "busy", "passive", "threads", "seconds"])
        for busy in (0, cores):
            beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(busy)]
            try:
                for passive, threads in ((True, cores), (False, cores), (False, 1), (False, cores + 1)):
                    out.writerow([cores, busy, passive, threads, seconds(threads, passive, snippet) or f"> {LONGEST}"])
                    file.flush()
            finally:
                for one in beside:
                    one.kill()


if __name__ == "__main__":
    main()
