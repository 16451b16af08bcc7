"""What the app's live view costs: the same search with it and without it, in turn.

    python benchmarks/app_live.py [REPEATS]

CPU seconds of this process count, on one thread, so that other work on the machine does not. A row for each pair; the
first live picture and the share of wall time that the view says it took stand beside them.
"""

from __future__ import annotations

import csv
import sys
import time
from pathlib import Path

import underfire
from underfire.app.live import Frame, LiveView
from underfire.images.photos import Folder

RESULTS = Path(__file__).parent / "results" / "app-live.csv"
COLUMNS = ["network", "interpreter", "frames", "cpu_with", "cpu_without", "share_by_itself", "first_picture_s"]


def pair(interpreter: str) -> list[object]:
    """Measure one pair."""
    classifier = underfire.classifier()
    judge = underfire.interpreter(interpreter, classifier)
    photo = Folder("demo").root / "chelsea.png"
    shown: list[float] = []

    def show(frame: Frame) -> None:
        shown.append(time.perf_counter())

    live = LiveView(classifier, judge, show)
    spent = {}
    start = time.perf_counter()
    for name, watcher in (("with", live), ("without", False)):
        cpu = time.process_time()
        begun = time.perf_counter()
        underfire.attack(classifier, judge, str(photo), progress=watcher, threads=1)
        spent[name] = time.process_time() - cpu
        if name == "with":
            share = live.spent / (time.perf_counter() - begun)
    first = shown[0] - start
    return ["efficientnet-lite0", interpreter, len(shown), spent["with"], spent["without"], share, first]


def main() -> None:
    """Measure, and append a row for each pair."""
    pair("cam")  # warm
    new = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        out = csv.writer(file)
        if new:
            out.writerow(COLUMNS)
        for _ in range(int(sys.argv[1]) if len(sys.argv) > 1 else 3):
            for interpreter in ("cam", "grad"):
                out.writerow([f"{one:.3g}" if isinstance(one, float) else one for one in pair(interpreter)])
                file.flush()


if __name__ == "__main__":
    main()
