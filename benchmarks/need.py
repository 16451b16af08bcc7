"""What the attacker needs: classes that ADV² may not lose to the map, and the smallest budget that forges.

    python benchmarks/need.py lost NETWORK INTERPRETER        PGD and ADV² with and without a rescue, photo by photo
    python benchmarks/need.py smallest NETWORK INTERPRETER    the smallest ε up to 8, and what one search at 8 costs
    python benchmarks/need.py every NETWORK INTERPRETER       every ε from 1 to 8, each by a search of its own

NETWORK: resnet50, densenet169, vit (trained on tiny20) or lite0. Rows go to benchmarks/results/need-*.csv (--out:
elsewhere); what is there is not measured again. Photos and weights come from ../shared (--shared, or the variable
SHARED).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import underfire
from underfire.core import Classifier, Interpreter
from underfire.core.types import evenly
from underfire.images.photos import Folder

HERE = Path(__file__).parent
LOST = ("network", "interpreter", "photo", "attack", "success", "confidence", "map_l1", "map_iou", "rescue", "passes")
BUDGETS = (
    *("network", "interpreter", "attack", "budget", "photo", "forged"),
    *("success", "confidence", "map_l1", "linf_levels", "smallest_eps", "smallest_by", "passes"),
)
LARGEST = 8
Row = Mapping[str, Any]


class Bench:
    """A network with its photos, and the file that its rows go to."""

    def __init__(self, network: str, interpreter: str, given: argparse.Namespace) -> None:
        self.network, self.name, self.given = network, interpreter, given
        self.shared: Path = given.shared

    def classifier(self) -> Classifier:
        device = self.given.device
        if self.network == "lite0":
            return underfire.classifier(device=device)
        file = {"vit": "vit_small_dinov2"}.get(self.network, self.network)
        name = {"vit": "timm:vit_small_patch14_dinov2"}.get(self.network, self.network)
        own: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225), "resize": 256}
        weights = str(self.shared / "models" / f"{file}_tiny20.safetensors")
        return underfire.classifier(name, device=device, weights=weights, **(own if self.network == "vit" else {}))

    def interpreter(self, classifier: Classifier) -> Interpreter:
        own = {"weights": str(HERE / "weights" / f"rts-{self.network}-tiny20.safetensors")}
        return underfire.interpreter(
            self.name, classifier, **(own if self.name == "rts" and self.network != "lite0" else {})
        )

    def photos(self, n: int) -> list[str]:
        folder = self.shared / "data" / ("in1k-samples" if self.network == "lite0" else "tiny20/val")
        return [str(folder / path) for path in evenly(Folder(str(folder)).paths, n)]


def lost(bench: Bench) -> Iterator[Row]:
    """PGD, ADV² without a rescue, and ADV², on the same photos with the same targets, all in one batch."""
    classifier = bench.classifier()
    interpreter = bench.interpreter(classifier)
    photos = bench.photos(bench.given.photos)
    for called, attack, options in (
        ("pgd", "pgd", {}),
        ("adv2 alone", "adv2", {"rescue": False}),
        ("adv2", "adv2", {}),
    ):
        result = underfire.attack(classifier, interpreter, photos, attack=attack, at="input", **options)
        for record in result.records:
            yield {
                **{
                    "network": bench.network,
                    "interpreter": bench.name,
                    "photo": record.image.rpartition("data/")[2],
                    "attack": called,
                },
                **{name: getattr(record, name) for name in LOST[4:]},
            }


def smallest(bench: Bench) -> Iterator[Row]:
    """ADV² and PGD at ε = 8, and the smallest ε up to 8 by bisection, on the same photos in one batch."""
    yield from _budgets(bench, ("adv2", "pgd"), (LARGEST, f"smallest:{LARGEST}"))


def every(bench: Bench) -> Iterator[Row]:
    """ADV² at every ε, from the clean photos each time."""
    yield from _budgets(bench, ("adv2",), range(1, LARGEST + 1))


def _budgets(bench: Bench, attacks: Sequence[str], budgets: Iterable[int | str]) -> Iterator[Row]:
    classifier = bench.classifier()
    photos = bench.photos(bench.given.photos)
    for eps, attack in itertools.product(budgets, attacks):
        # By name, so that the packaged yardstick is found.
        result = underfire.attack(classifier, bench.name, photos, attack=attack, at="input", eps=eps)
        for record, found in zip(result.records, result.verdicts, strict=True):
            named = {"network": bench.network, "interpreter": bench.name, "attack": attack, "budget": eps}
            seen = {name: getattr(record, name) for name in BUDGETS[6:]}
            yield {**named, "photo": record.image.rpartition("data/")[2], "forged": found.forged, **seen}


def write(path: Path, columns: Sequence[str], rows: Iterator[Row]) -> list[Row]:
    """Write rows as they come, and give them back; a file that is there stays as it is."""
    if path.exists():
        with path.open(newline="") as file:
            return list(csv.DictReader(file))
    path.parent.mkdir(parents=True, exist_ok=True)
    found: list[Row] = []
    unfinished = path.with_suffix(".part")
    with unfinished.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        for row in rows:
            writer.writerow(row)
            file.flush()
            found.append({name: str(value) for name, value in row.items()})
    unfinished.rename(path)
    return found


def show_lost(rows: Sequence[Row]) -> None:
    reached = {
        name: {row["photo"]: row["success"] == "True" for row in rows if row["attack"] == name}
        for name in ("pgd", "adv2 alone", "adv2")
    }
    worse = [photo for photo, one in reached["adv2"].items() if reached["pgd"][photo] and not one]
    print(", ".join(f"{name}: {sum(one.values())} of {len(one)}" for name, one in reached.items()), end="; ")
    print(f"PGD reaches and ADV² does not: {worse or 'none'}")


def show_smallest(rows: Sequence[Row]) -> None:
    for attack in ("adv2", "pgd"):
        mine = [row for row in rows if row["attack"] == attack]
        one = [float(row["passes"]) for row in mine if row["budget"] == str(LARGEST)]
        searched = [row for row in mine if row["budget"] != str(LARGEST)]
        known = sorted(
            float(row["smallest_eps"]) if row["smallest_eps"] not in ("", "None") else inf for row in searched
        )
        quartiles = [known[round(q * (len(known) - 1))] for q in (0.25, 0.5, 0.75)]
        cost = sum(float(row["passes"]) for row in searched) / sum(one)
        print(f"{attack}: smallest ε {quartiles} ({searched[0]['smallest_by']}), {cost:.2f} × the passes", end="; ")
    print()


def show_every(rows: Sequence[Row]) -> None:
    found: dict[str, list[int]] = {}
    for row in rows:
        found.setdefault(row["photo"], []).extend([int(row["budget"])] if row["forged"] == "True" else [])
    print({photo: budgets[:1] for photo, budgets in found.items()})


WHAT: dict[str, tuple[Sequence[str], Any, Any]] = {
    "lost": (LOST, lost, show_lost),
    "smallest": (BUDGETS, smallest, show_smallest),
    "every": (BUDGETS, every, show_every),
}


def arguments(parser: argparse.ArgumentParser, photos: int) -> None:
    """Add what all parts take."""
    parser.add_argument("--photos", type=int, default=photos)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SHARED", HERE.parent.parent / "shared")))
    parser.add_argument("--out", type=Path, default=HERE / "results")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=WHAT)
    parser.add_argument("network", choices=["resnet50", "densenet169", "vit", "lite0"])
    parser.add_argument("interpreter")
    arguments(parser, photos=24)
    given = parser.parse_args()
    bench = Bench(given.network, given.interpreter, given)
    file = given.out / f"need-{given.what}-{given.network}-{given.interpreter}.csv"
    print(file.stem, end=": ", flush=True)
    columns, measure, show = WHAT[given.what]
    show(write(file, columns, measure(bench)))


if __name__ == "__main__":
    main()
