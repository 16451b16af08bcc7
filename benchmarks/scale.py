"""What running at scale costs: two workers against one, the driver's own work, a resume, memory.

On an idle machine:

    python benchmarks/scale.py --shared DIR [workers] [driver] [memory]

Writes results/scale.csv; a name runs that part only. ``--note`` stands in each line.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from underfire.audit.desk import Desk
from underfire.audit.run import crew_of
from underfire.core import Outcome, Photo, Quiet, Unit
from underfire.plan import make, units
from underfire.plan.settings import Settings
from underfire.store import Store
from underfire.trial.rows import failed_rows

RESULTS = Path(__file__).parent / "results" / "scale.csv"
TASKS, UNIT = 100_000, 64
PHOTOS = 24
Line = tuple[str, float, str]


def run(*words: str) -> tuple[float, float]:
    """Seconds and peak MB of ``underfire run WORDS``, its workers' peak included."""
    code = (
        "import resource, sys; from underfire.cli.app import app; app(sys.argv[1:], standalone_mode=False); "
        "peaks = [resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]; "
        "print('PEAK', max(peaks), file=sys.stderr)"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code, "run", *words, "--threads", "1", "--samples", "0"],
        capture_output=True,
        text=True,
        check=True,
    )
    peak = next(line for line in done.stderr.splitlines() if line.startswith("PEAK"))
    return time.monotonic() - began, int(peak.split()[1]) / 1024


BARE = """
import time, torch, underfire
torch.set_num_threads(1)
classifier, x, steps = underfire.classifier(), torch.rand(2, 3, 224, 224).requires_grad_(), 0
input()
began = time.monotonic()
while time.monotonic() < began + 15:
    torch.autograd.grad(classifier.logits(x)[:, 0].sum(), x)
    steps += 1
print(steps)
"""


def bare(n: int) -> int:
    """Forwards and backwards that ``n`` processes without underfire's audit do at once: what the machine gives."""
    loops = [
        subprocess.Popen([sys.executable, "-c", BARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(n)
    ]
    time.sleep(20)  # all are there
    for loop in loops:
        assert loop.stdin is not None
        loop.stdin.write("\n")
        loop.stdin.close()
    return sum(int(loop.stdout.read()) for loop in loops if loop.stdout is not None)


def workers(shared: Path) -> Iterator[Line]:
    """Images a second between the first and the last part of a CAM audit, so that starting up does not count."""
    rates = {}
    yield "two bare loops over one", bare(2) / bare(1), ""
    for n, executor in ((1, "local"), (2, "local"), (1, "ray"), (2, "ray")):
        with tempfile.TemporaryDirectory() as folder:
            words = ["--images", str(shared / "data" / "in1k-samples"), "--limit", str(PHOTOS), "--out", folder]
            words += ["--executor", executor, "--address", "local", "--workers", str(n)]
            run(*words, "--batch-size", "2", "--set", "adv2.steps=60")
            times = sorted(path.stat().st_mtime for path in (Path(folder) / "records").iterdir())
            # the first unit of each worker includes building its classifier
            rates[executor, n] = 2 * (len(times) - n) / (times[-1] - times[n - 1])
        yield f"images/s, {executor}, {n} worker(s)", rates[executor, n], ""
    yield "two bare loops over one, afterwards", bare(2) / bare(1), ""
    for executor in ("local", "ray"):
        yield f"two workers over one, {executor}", rates[executor, 2] / rates[executor, 1], "1.8 or more"


def driver() -> Iterator[Line]:
    """100,000 judgements that cost nothing: planned, keyed, run, stored; then the same once more."""
    with tempfile.TemporaryDirectory() as folder:
        for name, limit in (("planned, keyed, run and stored", "300 or less"), ("resumed", "20 or less")):
            # the clock of all processes of a machine; starting Python and loading torch count
            words = [sys.executable, __file__, "--no-ops", folder, "--began", str(time.monotonic())]
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            seconds, peak = done.stdout.split()
            yield f"s, {TASKS} no-op tasks {name}", float(seconds), limit
            yield f"peak MB, {TASKS} no-op tasks {name}", float(peak), "1024 or less"


def no_ops(folder: str, began: float) -> None:
    """The driver of an audit whose worker returns rows without looking at the photos."""
    photos = tuple(Photo(f"{i:06d}.png", f"{i:064x}") for i in range(TASKS // 2))
    settings = Settings.parse({"images": "demo", "limit": 1, "batch_size": 8, "threads": 1})
    plan = make.make_plan(settings)
    plan = units.Plan(**(vars(plan) | {"photos": photos}))
    name = plan.job.classifier
    first: list[float] = []
    store = Store(Path(folder))

    def work(unit: Unit) -> Outcome:
        first[:] = first or [time.monotonic()]
        rows = failed_rows(unit, name, "no-op")
        store.put(unit.stage, unit.name, rows, {}, {})
        return Outcome(unit, len(rows))

    with store.open(), crew_of(plan, Path(folder)) as executor:
        if not store.done("records"):
            store.write("plan.yaml", plan.dump().encode())
        else:  # one unit is missing, so that there is work to start
            store.discard("records", min(store.done("records")))
        desk = Desk(store, executor, Quiet(), name, work)
        resumed = bool(store.done("records"))
        desk.do(plan.all_units)
        assert store.table().num_rows == TASKS
    took = (first[-1] if resumed else time.monotonic()) - began
    print(took, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def memory() -> Iterator[Line]:
    """Peak with 1,000 and with 100 photos, PGD of one step."""
    peaks = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        noise = np.random.default_rng(0)
        for i in range(1000):
            small = Image.fromarray(noise.integers(0, 256, (8, 8, 3)).astype(np.uint8))
            small.resize((256, 256)).save(Path(folder) / "in" / f"{i:04d}.jpg")
        for n in (100, 1000):
            words = ("--images", f"{folder}/in", "--limit", str(n), "--out", f"{folder}/{n}", "--batch-size", "8")
            _, peaks[n] = run(*words, "--attack", "pgd", "--set", "pgd.steps=1")
            yield f"peak MB, {n} photos", peaks[n], ""
    yield "peak, 1,000 photos over 100", peaks[1000] / peaks[100], "1.1 or less"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["workers", "driver", "memory"])
    parser.add_argument("--shared", type=Path)
    parser.add_argument("--note", default="")
    parser.add_argument("--no-ops", help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.no_ops:
        no_ops(given.no_ops, given.began)
        return
    os.environ |= {"OMP_WAIT_POLICY": "passive", "OMP_NUM_THREADS": "1"}
    old = [row for row in csv.reader(RESULTS.open()) if row[0] != "what"] if RESULTS.is_file() else []
    rows = {row[0]: row for row in old}
    for part in given.parts:
        for what, value, wanted in (
            workers(given.shared) if part == "workers" else {"driver": driver, "memory": memory}[part]()
        ):
            print(f"{what}: {value:.3f}  {wanted}", flush=True)
            rows[what] = [what, f"{value:.3f}", wanted, given.note]
            with RESULTS.open("w", newline="") as f:
                csv.writer(f).writerows([["what", "value", "wanted", "note"], *rows.values()])


if __name__ == "__main__":
    main()
