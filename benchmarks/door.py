"""Forgeries of files: what `docs/door.md` says of them. Every case is a plain audit with `at: file`.

    python benchmarks/door.py                  every case that has no result yet
    python benchmarks/door.py door-cam-png …   these cases
    python benchmarks/door.py --list           the cases and, where measured, their numbers
    python benchmarks/door.py --survival       every case of files: what becomes of them on platforms
    python benchmarks/door.py --steps          what a step at the file takes over one at the input, by the photo's size

Photos come from ../shared (see --shared); none of them goes into the results.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import itertools
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import measure
from underfire import api
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.audit.run import run
from underfire.audit.survive import Survived, survive
from underfire.core import Attack, Goal, Victim
from underfire.core.place import place
from underfire.doors.entrance import Entrance
from underfire.executors.process import prepare
from underfire.images.saving import file_photo
from underfire.plan.settings import Settings
from underfire.registry import build_interpreter, door_of

FULL = "data/in1k-full"
COLUMNS = (*measure.COLUMNS, "at", "door", "saved_as", "through", "file_width", "file_height", "decoded_linf")
ALL = {"images": FULL, "limit": 24, "attack": "adv2", "at": "file"}
HARD = "jpeg:75-95,resize:0.5-1"
CASES: dict[str, dict[str, Any]] = {
    "door-cam-png": ALL,
    "door-cam-jpeg90": {**ALL, "save_as": "jpeg:90"},
    "door-cam-jpeg75": {**ALL, "save_as": "jpeg:75"},
    "door-cam-through": {**ALL, "through": HARD},
    "door-cam-input": {**ALL, "at": "input"},
    "door-grad-png": {**ALL, "limit": 12, "interpreter": "grad"},
    "door-grad-input": {**ALL, "limit": 12, "interpreter": "grad", "at": "input"},
    "door-rts-png": {**ALL, "limit": 12, "interpreter": "rts"},
    "door-rts-input": {**ALL, "limit": 12, "interpreter": "rts", "at": "input"},
    "door-mask-png": {**ALL, "limit": 12, "interpreter": "mask", "batch_size": 12},
    "door-mask-input": {**ALL, "limit": 12, "interpreter": "mask", "batch_size": 12, "at": "input"},
    "door-lite2-cam-png": {**ALL, "limit": 12, "classifier": "efficientnet-lite2"},
    **{
        f"door-{name}-cam-png": {
            **{**ALL, "limit": 12, "images": measure.TINY, "classifier": name},
            "weights": f"models/{name}_tiny20.safetensors",
        }
        for name in ("resnet50", "densenet169")
    },
}
SIDES = {"0.2": (548, 365), "1": (1225, 816), "12": (4243, 2828)}
"""Megapixels -> width and height of a photo, px."""
STEPS = measure.RESULTS / "door-steps.csv"
STEP_COLUMNS = (
    *("attack", "megapixels", "ratio", "at_file_ms", "at_input_ms", "photos", "rounds", "peak_gb", "threads"),
)


def settings_of(case: dict[str, Any], shared: Path) -> Settings:
    return measure.settings_of(case, shared)


def audited(name: str, shared: Path, threads: int, device: str) -> Any:
    out = Path(tempfile.gettempdir()) / f"underfire-benchmark-{name}"
    return run(settings_of({**CASES[name], "threads": threads, "device": device}, shared), place(str(out)))


def measured(name: str, shared: Path, threads: int, device: str) -> None:
    rows = audited(name, shared, threads, device).results.rows()
    with (measure.RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ("case", "commit", *COLUMNS), extrasaction="ignore")
        writer.writeheader()
        writer.writerows({"case": name, "commit": measure.COMMIT, **row} for row in rows)
    measure.show(name, rows)


# --- survival


def survived(name: str, shared: Path, threads: int, device: str) -> None:
    """Forge the files of a case, unless they are there, and put them through everything."""
    rows = survive(place(str(audited(name, shared, threads, device).out)))
    with survival_of(name).open("w", newline="") as file:
        writer = csv.DictWriter(file, ("case", "commit", *(field.name for field in dataclasses.fields(Survived))))
        writer.writeheader()
        writer.writerows({"case": name, "commit": measure.COMMIT, **dataclasses.asdict(row)} for row in rows)
    show_survival(name)


def survival_of(name: str) -> Path:
    return measure.RESULTS / f"{name}-survival.csv"


def show_survival(name: str) -> None:
    """Print the shares of each treatment."""
    with survival_of(name).open(newline="") as file:
        rows = list(csv.DictReader(file))
    print(name)
    for treatment in dict.fromkeys(row["treatment"] for row in rows):
        some = [row for row in rows if row["treatment"] == treatment]
        told = [row["forged"] == "True" for row in some if row["forged"]]
        mean = {column: sum(float(row[column]) for row in some) / len(some) for column in ("confidence", "map_l1")}
        kept, clean = (sum(row[column] == "True" for row in some) / len(some) for column in ("target", "clean"))
        forged = f"{sum(told) / len(told):4.0%}" if told else "–"
        print(
            f"  {treatment:42} n {len(some):3} target {kept:4.0%} confidence {mean['confidence']:.3f} "
            f"L1 {mean['map_l1']:.4f} forged {forged} clean {clean:4.0%}",
            flush=True,
        )


# --- seconds of a step


def steps(threads: int, rounds: int, repeats: int = 16) -> None:
    """Time the search on photos of each size, in turn in their files and at the input, as ratios; rows to STEPS."""
    prepare(threads)
    classifier = api.classifier()
    with STEPS.open("w", newline="") as file:
        writer = csv.DictWriter(file, STEP_COLUMNS)
        writer.writeheader()
        for word, attack in itertools.product(SIDES, attacks(repeats)):
            row = _timed(classifier, word, attack, rounds, repeats) | {"threads": threads}
            writer.writerow(row)
            print(*(f"{name} {value}" for name, value in row.items()), flush=True)


def attacks(repeats: int) -> list[Attack]:
    """The search on prediction and map, and the one on the prediction alone; neither stops early."""
    return [
        adv2.make("fast", "cam", 8, steps=repeats, warmup=0, stop_confidence=None),
        pgd.make("fast", None, 8, steps=repeats, stop_confidence=None),
    ]


def _timed(classifier: Any, word: str, attack: Attack, rounds: int, repeats: int) -> dict[str, Any]:
    cam, door, n = build_interpreter("cam", classifier, {}), door_of(classifier), 1 if word == "12" else 4
    photos = [file_photo(_photo(i, *SIDES[word]), "p", "png") for i in range(n)]
    x = (
        torch.from_numpy(np.stack([door.enter(photo.pixels) for photo in photos])).permute(0, 3, 1, 2).contiguous()
        / 255
    )
    y = classifier.logits(x).argmax(1)
    goal = Goal((y + 1) % 1000, y, {"cam": cam.explain(x, y)})
    against = (cam,) if attack.name == "adv2" else ()

    def searched(at: str) -> float:
        files = Entrance(door, photos, x[:1, :1, :1, :1]) if at == "file" else None
        start = time.process_time()  # whatever else runs on the machine
        with classifier.meter.counting(n):
            attack.run(Victim(classifier, against, files), x.clone(), goal, [0] * n)
        return (time.process_time() - start) / repeats / n

    searched("input"), searched("file")
    pairs = []
    for _ in range(rounds):
        times = [searched(at) for at in ("file", "input", "input", "file")]
        pairs.append((times[0] + times[3], times[1] + times[2]))
    at_file, at_input = (statistics.median(pair[i] for pair in pairs) / 2 for i in (0, 1))
    return {
        "attack": attack.name,
        "megapixels": word,
        "ratio": round(statistics.median(a / b for a, b in pairs), 3),
        "at_file_ms": round(1e3 * at_file, 1),
        "at_input_ms": round(1e3 * at_input, 1),
        "photos": n,
        "rounds": rounds,
        "peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
    }


def _photo(seed: int, width: int, height: int) -> bytes:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="default: all without a result")
    parser.add_argument("--shared", type=Path, default=measure.HERE.parent.parent / "shared")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--list", action="store_true", help="show what is there")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--survival", action="store_true", help="put the files of the cases through everything")
    parser.add_argument("--steps", action="store_true", help="time a step")
    parser.add_argument("--rounds", type=int, default=5, help="of --steps: pairs, of which the median is taken")
    given = parser.parse_args()
    if given.steps:
        steps(given.threads, given.rounds)
        return
    there = [name for name in CASES if (measure.RESULTS / f"{name}.csv").is_file()]
    if given.list:
        for name in CASES:
            measure.show(name, measure.stored(name)) if name in there else print(f"{name:18} not measured")
        return
    if given.survival:
        for name in given.cases or [n for n in CASES if CASES[n]["at"] == "file" and not survival_of(n).is_file()]:
            survived(name, given.shared, given.threads, given.device)
        return
    for name in given.cases or [name for name in CASES if name not in there]:
        measured(name, given.shared, given.threads, given.device)


if __name__ == "__main__":
    main()
