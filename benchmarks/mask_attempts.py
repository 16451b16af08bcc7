"""What each idea for attacking MASK gave: the same photos, judged by fresh full runs on the rounded images.

    python benchmarks/mask_attempts.py NAME ...       these ideas; rows are added to results/mask-attempts.csv
    python benchmarks/mask_attempts.py --list         the ideas and, where tried, their numbers

The first photos of the shared ones, with the targets that an audit with seed 0 gives them; --photos names others.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

import underfire
from underfire.attacks.adv2 import adv2
from underfire.attacks.pgd import pgd
from underfire.core import Goal, Images, Photo, Victim
from underfire.executors.process import prepare
from underfire.images import maps, photos, pixels
from underfire.images.targets import draw_class
from underfire.interpreters.mask.mask import Mask

HERE = Path(__file__).parent
RESULT = HERE / "results" / "mask-attempts.csv"
COLUMNS = ("idea", "image", "target", "input_px", "passes", "confidence", "map_l1", "map_iou", "seconds")
DOWN = {"start": 2.0, "end": 0.1, "shape": "geometric"}
BOTH = {"check": 0, "yields": False, "lam": 1.0, "steps": 100, "momentum": 0.9, "step": DOWN}


def idea(path: int, shadows: tuple[tuple[int, ...], ...] = (), steps: int = 100, **weights: float) -> dict[str, Any]:
    return {**BOTH, "steps": steps, "surrogate": {"path": path, "shadows": shadows, **weights}}


def short(path: int, shadows: tuple[tuple[int, ...], ...], steps: int = 150, record: int = 150) -> dict[str, Any]:
    return {"steps": steps, "surrogate": {"path": path, "shadows": shadows, "record": record}}


IDEAS: dict[str, Mapping[str, Any]] = {
    "pgd": {},
    "fast": {},
    "walk's field": idea(2),
    "walk's field, 200 steps": idea(2, steps=200),
    "walk's log-odds alone": idea(6, field=0.0),
    "shadows' field": idea(0, ((8, 16, 32, 64), (4, 8))),
    "walk's and shadows' field": idea(1, ((8, 16, 32, 64),)),
    # The rest with the preset's own schedule and λ.
    "fast, the shadow 4 to 16 steps long": short(1, ((4, 8, 4, 16),)),
    "fast, two shadows in place of the walk": short(0, ((4, 8, 16), (8, 32, 8, 64))),
    "fast, one shadow in place of the walk": short(0, ((8, 16, 32, 64, 150),), steps=225),
    "fast, 650 steps, the shadow up to 300 long": short(1, ((8, 16, 32, 64, 128, 300),), steps=650, record=300),
    "truncated unrolling": {
        **BOTH,
        "lam": 100.0,
        "steps": 60,
        "surrogate": {"kind": "bilevel", "free": 1, "held": 3, "reset": 10**6},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ideas", nargs="*", choices=[*IDEAS, []])
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--photos", type=int, nargs="*", default=[0, 1], help="which of the sorted photos")
    parser.add_argument("--keep", type=Path, help="folder to keep goals, images and maps in")
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        print(RESULT.read_text() if RESULT.exists() else "nothing yet")
        return
    prepare(1)
    bench = Bench(given.shared / "data" / "in1k-samples", given.photos, given.keep)
    for name in given.ideas:
        bench.run(name, given.keep)


class Bench:
    """A few photos with their goals."""

    def __init__(self, folder: Path, chosen: list[int], keep: Path | None) -> None:
        self.classifier: Any = underfire.classifier()
        self.mask = Mask(self.classifier)
        source = photos.Folder(str(folder))
        self.names = [source.paths[i] for i in chosen]
        levels = [pixels.load(source.bytes(name), name, self.classifier.preprocess) for name in self.names]
        self.x = pixels.to_tensor(levels)
        y = self.classifier.logits(self.x).argmax(1)
        targets = [self._target(source.bytes(name), name, int(c)) for name, c in zip(self.names, y, strict=True)]
        kept = keep and keep / f"goal-{'-'.join(map(str, chosen))}.pt"
        m = torch.load(kept) if kept and kept.exists() else self.mask.explain(self.x, y)
        if kept:
            torch.save(m, kept)
        self.goal = Goal(torch.tensor(targets), y, {"mask": m})

    def _target(self, content: bytes, name: str, source: int) -> int:
        photo = Photo(name, hashlib.sha256(content).hexdigest())
        return draw_class(0, photo, "target", len(self.classifier.classes), [source])

    def run(self, name: str, keep: Path | None) -> None:
        """Attack, round, judge, write."""
        options, start = IDEAS[name], time.perf_counter()
        attack: Any = pgd.make("fast", None, 8) if name == "pgd" else adv2.make("fast", "mask", 8, **options)
        with self.classifier.meter.counting(len(self.x)) as spent:
            found = attack.run(Victim(self.classifier, (self.mask,)), self.x, self.goal, [0] * len(self.x))
        passes, seconds = spent.passes.tolist(), time.perf_counter() - start
        x_hat: Images = pixels.to_tensor(pixels.to_levels(found.images))
        with torch.no_grad():
            p = self.classifier.logits(x_hat).softmax(1).gather(1, self.goal.labels[:, None])[:, 0]
        m, wanted = self.mask.explain(x_hat, self.goal.labels), self.goal.maps["mask"]
        if keep:
            torch.save({"x_hat": x_hat, "m": m, "wanted": wanted}, keep / f"{name}.pt")
        new = not RESULT.exists()
        with RESULT.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            for n, image in enumerate(self.names):
                iou = maps.iou(m[n].numpy(), wanted[n].numpy())
                row = (passes[n], float(p[n]), float(maps.l1(m, wanted)[n]), iou, seconds / len(self.names))
                figures = [f"{v:.4g}" for v in row]
                writer.writerow((name, image, int(self.goal.labels[n]), self.x.shape[-1], *figures))
                print(name, image, *figures, flush=True)


if __name__ == "__main__":
    main()
