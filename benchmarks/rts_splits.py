"""What RTS's maps are worth on photos that neither taught nor chose: recipes of training, and the packaged network.

    python benchmarks/rts_splits.py --list
    python benchmarks/rts_splits.py longer averaged ... [--shared DIR] [--out DIR] [--device cuda]
    python benchmarks/rts_splits.py packaged 64px [--classifier efficientnet-lite2]

The photos of in1k-samples are split by whole classes: 15 % choose the epoch (the same that chose that of the packaged
network), 30 % are the test, the others teach. A recipe is chosen by `chosen`, its saliency metric on the photos that
choose; `test` and the lead over a centred blob, with its interval, are of the test. Rows go to OUT/rts-splits.csv,
networks to OUT/rts-RECIPE.safetensors; a recipe that has a row there is not trained again.

The packaged networks have seen all of in1k-samples: what did not teach them chose their epoch. Other photos that chose
nothing are those of tiny20/val, 500 photos of 20 ImageNet classes at 64 px, enlarged: `64px` judges by those whose
class the classifier recognises, `64px-all` by all. Network, t and the blob's t are those of `packaged`.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock

from underfire import api
from underfire.core import Classifier, evenly
from underfire.interpreters.rts.card import find, load, read_card
from underfire.metrics.estimate import Estimate, mean
from underfire.train.evaluate import Evaluator
from underfire.train.loop import Nobody
from underfire.train.objective import ObjectiveWeights
from underfire.train.photos import LabelledPhoto, Photos
from underfire.train.rts import THRESHOLD_PHOTOS, THRESHOLDS, RtsTask
from underfire.train.run import fit
from underfire.train.settings import TrainSettings

HERE = Path(__file__).parent
TEST = 0.3
COLUMNS = (
    *("recipe", "classifier", "photos", "epochs", "best_epoch", "t", "chosen", "n", "test", "test_low", "test_high"),
    *("blob", "lead", "lead_low", "lead_high", "drop_top", "drop_random", "area"),
)
LONG = {"epochs": 40, "patience": 40}
PACKAGED = ("packaged", "64px", "64px-all")
AVERAGED = LONG | {"average": 0.98}
RECIPES: dict[str, dict[str, Any]] = {
    "packaged's": {"epochs": 11},
    "longer": LONG,
    "averaged": AVERAGED,
    "smoother": AVERAGED | {"lam": ObjectiveWeights(tv=30)},
    "smoothest": AVERAGED | {"lam": ObjectiveWeights(tv=100)},
    "smaller": AVERAGED | {"lam": ObjectiveWeights(area=12)},
    "larger": AVERAGED | {"lam": ObjectiveWeights(area=5)},
    "smoother-smaller": AVERAGED | {"lam": ObjectiveWeights(tv=30, area=12)},
    "smoother-larger": AVERAGED | {"lam": ObjectiveWeights(tv=30, area=5)},
    "keeping": AVERAGED | {"lam": ObjectiveWeights(tv=30, area=12, destroy=2)},
    "slower": AVERAGED | {"rate": 1e-3, "lam": ObjectiveWeights(tv=30)},
    "wider": AVERAGED | {"epochs": 80, "patience": 80, "lam": ObjectiveWeights(tv=30)},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", choices=[*RECIPES, *PACKAGED, []], metavar="RECIPE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--classifier", default="efficientnet-lite0")
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--out", type=Path, default=HERE / "results")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, help="photos, for a trial")
    parser.add_argument("--epochs", type=int, help="for a trial")
    given = parser.parse_args()
    if given.list:
        print(*RECIPES, *PACKAGED, sep="\n")
        return
    # Photos are decoded once in a process and not once an epoch.
    Photos.shown = lru_cache(maxsize=None)(Photos.shown)  # type: ignore[method-assign]
    Photos.around = lru_cache(maxsize=None)(Photos.around)  # type: ignore[method-assign]
    given.out.mkdir(parents=True, exist_ok=True)
    classifier = api.classifier(given.classifier, device=given.device)
    images = str(given.shared / "data/in1k-samples")
    for name in given.recipes or [*RECIPES, *PACKAGED]:
        if (name, classifier.name) not in done(given.out):
            other = other_photos(classifier, given, name == "64px") if name in PACKAGED[1:] else None
            row = packaged(classifier, images, other) if name in PACKAGED else trained(name, classifier, images, given)
            write(given.out, {"recipe": name, "classifier": classifier.name, **row})


def trained(name: str, classifier: Classifier, images: str, given: argparse.Namespace) -> dict[str, Any]:
    more = RECIPES[name] | ({"epochs": given.epochs} if given.epochs else {})
    settings = TrainSettings(test=TEST, limit=given.limit, **more)
    out = given.out / f"rts-{name.replace(chr(39), '')}-{classifier.name}.safetensors"
    task: list[RtsTask] = []

    def start(photos: Photos, labelled: Sequence[LabelledPhoto]) -> RtsTask:
        task.append(RtsTask(photos, labelled, settings))
        return task[0]

    card = fit(classifier, images, settings, start, out, Heard(name)).card
    each = task[0].evaluator.each(task[0].net, task[0].test, card.threshold)
    held = task[0].evaluator.each(task[0].net, task[0].held, card.threshold)
    known = {column: card.figures[column] for column in ("lead", "lead_low", "lead_high", "drop_top", "drop_random")}
    return known | {
        **{"photos": len(task[0].train), "epochs": card.settings["epochs_run"], "t": card.threshold, "n": len(each)},
        **{"best_epoch": card.settings["best_epoch"], "chosen": sum(held) / len(held), **ends(mean(each))},
        **{"blob": card.figures["saliency_metric_centre_blob"], "area": card.figures["area"]},
    }


Judges = tuple[Evaluator, list[LabelledPhoto]]


def other_photos(classifier: Classifier, given: argparse.Namespace, recognised: bool) -> Judges:
    """Photos of tiny20/val with the classes that the classifier predicts: all, or those where that is the true one."""
    with (given.shared / "data/imagenet_classes.tsv").open() as file:
        index = {wnid: int(i) for i, wnid, *_ in csv.reader(file, delimiter="\t") if i.isdigit()}
    photos = Photos(str(given.shared / "data/tiny20/val"), given.limit, classifier)
    labelled = photos.labelled(0.0, 0)
    right = [one for one in labelled if index[one.photo.path.partition("/")[0]] == one.label]
    return Evaluator(photos, 16, 0), right if recognised else labelled


def packaged(classifier: Classifier, images: str, other: Judges | None = None) -> dict[str, Any]:
    """The packaged network, on the photos that it was not trained on, which chose its epoch; or on other photos."""
    path = find(classifier, None)
    card, photos = read_card(path), Photos(images, None, classifier)
    unseen = set(card.validation)
    some: list[LabelledPhoto] = []
    taught: list[LabelledPhoto] = []
    for one in photos.labelled(0.15, 0):
        (some if one.photo.sha256 in unseen else taught).append(one)
    judge = Evaluator(photos, 16, 0)
    net = load(path).to(classifier.head.device)
    blobs = judge.saliency(net, evenly(taught, THRESHOLD_PHOTOS), THRESHOLDS, blob=True)
    judge, some = other or (judge, some)
    of_map = judge.each(net, some, card.threshold)
    of_blob = judge.each(net, some, min(THRESHOLDS, key=blobs.__getitem__), blob=True)
    drops = judge.figures(net, some, (card.threshold,)) if other else {}
    return {"n": len(some), "t": card.threshold, **ends(mean(of_map))} | {
        **{"blob": sum(of_blob) / len(of_blob)},
        **{name: drops[name] for name in ("drop_top", "drop_random", "area") if drops},
        **ends(mean([b - m for b, m in zip(of_blob, of_map, strict=True)]), "lead"),
    }


def ends(found: Estimate, name: str = "test") -> dict[str, float | None]:
    return {name: found.value, f"{name}_low": found.low, f"{name}_high": found.high}


class Heard(Nobody):
    """Prints the figures of each epoch."""

    def __init__(self, name: str) -> None:
        self.name = name

    def figures(self, epoch: int, figures: Any, best: bool) -> None:
        print(f"{self.name} {epoch} {figures['saliency_metric']:+.3f}{' best' if best else ''}", flush=True)


def done(out: Path) -> set[tuple[str, str]]:
    if not (out / "rts-splits.csv").exists():
        return set()
    with (out / "rts-splits.csv").open(newline="") as file:
        return {(row["recipe"], row["classifier"]) for row in csv.DictReader(file)}


def write(out: Path, row: dict[str, Any]) -> None:
    path = out / "rts-splits.csv"
    with FileLock(f"{path}.lock"):
        new = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})
    print(row, flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
