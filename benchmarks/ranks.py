"""Ranks of maps as numbers, or of maps as they are shown: what a yardstick tells by either (docs/yardstick.md).

    python benchmarks/ranks.py random least-likely     attack what is missing; rows go to results/ranks-forged.csv
    python benchmarks/ranks.py --table                 shares rejected and forged by each rule, in results/ranks.csv
    underfire yardstick --images in1k-samples --limit 60 --interpreter grad --false-rejects 0.1 --out more/grad.json
    python benchmarks/ranks.py --table --yardsticks more        those of interpreters that have no packaged one

Packaged yardsticks of today hold both ranks. Each is made from half of its photos and tested on the others, 20 times;
the first 24 photos of in1k-samples are left out, since they are attacked: EfficientNet-Lite0, ADV² `fast` on RTS. These
are judged by a yardstick of all photos that are left. `exact` ranks the numbers of a map, `shown` its 256 levels.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import underfire
from underfire.executors.process import prepare
from underfire.images import maps, pixels
from underfire.images.photos import Folder
from underfire.interpreters.checked import explain
from underfire.metrics.packaged import packaged
from underfire.metrics.yardstick import IMPOSTORS, PhotoDistances, Triple, Yardstick, triple
from underfire.metrics.yardstick_file import read
from underfire.registry import door_of

HERE = Path(__file__).parent
RESULT, FORGED = HERE / "results" / "ranks.csv", HERE / "results" / "ranks-forged.csv"
ATTACKED, HALVINGS, SOME = 24, 20, 8
TARGETS = ("random", "least-likely")
RULES = ("exact", "shown")
COLUMNS = (
    *("classifier", "interpreter", "rule", "n", "threshold", "l1", "iou", "rank", "false_rejects", *IMPOSTORS),
    *("forged", "attacks"),
)
ROW = ("target", "image", "sha256", "success", "map_l1", "map_iou", "map_rank", "map_rank_shown", "passes", "error")


def forge(target: str, classifier: Any, folder: Folder, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    interpreter, door = underfire.interpreter("rts", classifier), door_of(classifier)
    for first in range(0, len(names), SOME):
        files = [Path(folder.source) / name for name in names[first : first + SOME]]
        result = underfire.attack(classifier, interpreter, files, at="input", target=target)
        x = pixels.to_tensor([door.open(file.read_bytes(), file.name) for file in files])
        with torch.no_grad():
            own = explain(interpreter, x, classifier.logits(x).argmax(1))[0].numpy()
        m = explain(interpreter, result.images, torch.tensor([r.target_class for r in result.records]))[0].numpy()
        for record, forged, benign in zip(result.records, m, own, strict=True):
            row = {name: getattr(record, name, None) for name in ROW}
            shown = maps.rank_shown(forged, benign)
            own_row = {"target": target, "image": Path(record.image).name, "sha256": record.image_sha256}
            yield row | own_row | {"map_rank_shown": shown}
        print(f"{target}: {first + len(files)} of {len(names)}", flush=True)


def stored() -> list[dict[str, str]]:
    if not FORGED.exists():
        return []
    with FORGED.open(newline="") as file:
        return list(csv.DictReader(file))


def keep(rows: Iterator[dict[str, Any]]) -> None:
    new = not FORGED.exists()
    with FORGED.open("a", newline="") as file:
        writer = csv.DictWriter(file, ROW)
        if new:
            writer.writeheader()
        for row in rows:
            writer.writerow({k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()})
            file.flush()


def judged(more: Path | None) -> Iterator[list[Any]]:
    attacks = stored()
    attacked = {row["sha256"] for row in attacks}
    for made in (*packaged(), *(read(path) for path in sorted(more.glob("*.json") if more else ()))):
        if made.exact is None:
            continue
        for rule, whole in zip(RULES, (made.exact, made.yardstick), strict=True):
            photos = [photo for photo in whole.photos if photo.sha256 not in attacked]
            own = Yardstick(tuple(photos), whole.share)
            won = [own.untouched(d) for row in attacks if (d := distances(row, rule)) is not None]
            mine = (made.classifier, made.interpreter) == ("efficientnet-lite0", "rts") and won
            said = [f"{np.mean(won):.4f}", len(won)] if mine else ["", ""]
            numbers = [own.threshold, *own.limits, *halved(photos, whole.share)]
            yield [made.classifier, made.interpreter, rule, own.n, *(f"{v:.4f}" for v in numbers), *said]


def distances(row: dict[str, str], rule: str) -> Triple | None:
    """The distances of a forged map; far away where the class was not reached, None where the attack has no result."""
    if row["error"] or not row["map_l1"]:
        return None
    if row["success"] != "True":
        return 1.0, 1.0, 2.0
    rank = float(row["map_rank_shown" if rule == "shown" else "map_rank"])
    return triple(float(row["map_l1"]), float(row["map_iou"]), rank)


def halved(photos: list[PhotoDistances], share: float) -> list[float]:
    """Shares rejected of natural copies and of each impostor, by yardsticks of half of the photos on the other half."""
    rng, found = np.random.default_rng(0), []
    for _ in range(HALVINGS):
        order = rng.permutation(len(photos))
        made = Yardstick(tuple(photos[i] for i in order[: len(order) // 2]), share)
        new = [photos[i] for i in order[len(order) // 2 :]]
        false = np.mean([np.mean([not made.untouched(d) for d in one.copies]) for one in new])
        wrong = [[not made.untouched(one.impostors[k]) for one in new if k in one.impostors] for k in IMPOSTORS]
        found.append([false, *map(np.mean, wrong)])
    means: list[float] = np.mean(found, 0).tolist()
    return means


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []])
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--yardsticks", type=Path, help="a folder of further yardsticks")
    given = parser.parse_args()
    prepare(1)
    folder = Folder(str(given.shared / "data/in1k-samples"))
    for target in given.targets:
        there = {row["image"] for row in stored() if row["target"] == target}
        left = [name for name in folder.paths[:ATTACKED] if name not in there]
        if left:
            keep(forge(target, underfire.classifier(), folder, left))
    if given.table:
        with RESULT.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([COLUMNS, *judged(given.yardsticks)])
        print(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
