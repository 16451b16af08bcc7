"""Forgeries of files: what `docs/door.md` says of them. Every case is a plain audit with `at: file`.

    python benchmarks/door.py                  every case that has no result yet
    python benchmarks/door.py door-cam-png …   these cases
    python benchmarks/door.py --list           the cases and, where measured, their numbers
    python benchmarks/door.py --survival       every case of files: what becomes of them on platforms
    python benchmarks/door.py --steps          seconds of a step at the file and at the input, by the size of the photo

Photos come from ../shared (see --shared); none of them goes into the results.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import io
import resource
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
from underfire.audit.run import run
from underfire.audit.survive import Survived, survive
from underfire.core import Goal, Images, Victim
from underfire.core.door import Files
from underfire.core.place import place
from underfire.doors.entrance import Entrance
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


def steps(repeats: int) -> None:
    """Time the search on four photos of each size, once in their files and once at the input: seconds of the CPU."""
    classifier = api.classifier()
    cam, door = build_interpreter("cam", classifier, {}), door_of(classifier)
    attack = adv2.make("fast", "cam", 8, steps=repeats, warmup=0, stop_confidence=None)
    for word, (width, height) in SIDES.items():
        n = 1 if word == "12" else 4
        photos = [file_photo(_photo(i, width, height), "p", "png") for i in range(n)]
        levels = np.stack([door.enter(photo.pixels) for photo in photos])
        x = torch.from_numpy(levels).permute(0, 3, 1, 2).float() / 255
        y = classifier.logits(x).argmax(1)
        goal = Goal((y + 1) % 1000, y, {"cam": cam.explain(x, y)})

        def searched(x: Images, goal: Goal, files: Files | None) -> float:
            start = time.process_time()  # whatever else runs on the machine
            with classifier.meter.counting(len(x)):
                attack.run(Victim(classifier, (cam,), files), x.clone(), goal, [0] * len(x))
            return (time.process_time() - start) / repeats / len(x)

        searched(x, goal, None)
        like = x[:1, :1, :1, :1]
        pairs = [(searched(x, goal, Entrance(door, photos, like)), searched(x, goal, None)) for _ in range(3)]
        file, at_input = (min(pair[i] for pair in pairs) for i in (0, 1))
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(
            f"{word} MP: {file:.3f} s at the file, {at_input:.3f} s at the input, ratio {file / at_input:.2f}, "
            f"{n} photos a batch, {memory:.1f} GB at most so far",
            flush=True,
        )


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
    given = parser.parse_args()
    if given.steps:
        torch.set_num_threads(given.threads)
        steps(8)
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
