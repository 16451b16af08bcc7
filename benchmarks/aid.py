"""Adversarial interpretation distillation (AID) beside RTSᴬ and plain RTS: trainings, and ADV² curves over passes.

    python benchmarks/aid.py train-5 --weights weights            trains AID with a = 5 (EfficientNet-Lite0)
    python benchmarks/aid.py benign curve-aid-5-1000 --weights weights --device cuda
    python benchmarks/aid.py --list --weights weights             the paper's little table, and the curves

The photos are 48 of the classes that neither network was trained on; AID has chosen its epoch on others. The attacker
aims at the network's own benign map, with each of three losses; per photo the best of the three counts. Finished rows
are added to results/aid.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import measure
import underfire
from underfire.executors.process import prepare
from underfire.images import pixels
from underfire.images.photos import Folder
from underfire.interpreters.rts.card import find, read_card
from underfire.metrics import estimate
from underfire.registry import door_of
from underfire.train.quality import saliency_metric
from underfire.train.run import train_rts

RESULT = measure.RESULTS / "aid.csv"
APARTS = ("1", "5", "20")
NETWORKS = ("rts", "rts-a", *(f"aid-{a}" for a in APARTS))
BUDGETS = (100, 300, 1000, 3000)
LOSSES = ("square", "cross-entropy", "logit")
STEP = 3.6
"""F of a step against RTS, forward and backward through classifier and decoder."""
ATTACKED = 48
COLUMNS = ("part", "image", "loss", "map_l1", "plain_l1", "saliency_metric", "success", "confidence", "passes", "error")
PARTS = (
    *(f"train-{a}" for a in APARTS),
    *(f"benign-{name}" for name in NETWORKS),
    *(f"curve-{name}-{budget}" for budget in BUDGETS for name in NETWORKS),
)


class Told:
    """Prints the figures of each epoch."""

    def begin(self, photos: int, validation: int, epochs: int, steps: int, epoch: int) -> None:
        print(f"{photos} photos, {validation} held, {epochs} epochs of {steps} steps, {epoch} done", flush=True)

    def step(self, epoch: int, terms: Mapping[str, float]) -> None:
        pass

    def figures(self, epoch: int, figures: Mapping[str, float], best: bool) -> None:
        print(epoch, {k: round(v, 4) for k, v in figures.items()}, "best" if best else "", flush=True)


def network_of(name: str, classifier: Any, weights: Path) -> Any:
    if name.startswith("aid"):
        return underfire.interpreter("rts-aid", classifier, weights=str(weights / f"rts-{name}.safetensors"))
    return underfire.interpreter(name, classifier)


def train(part: str, classifier: Any, source: Path, given: argparse.Namespace) -> None:
    a = part.partition("-")[2]
    out = given.weights / f"rts-aid-{a}.safetensors"
    own = {name: getattr(given, name) for name in ("epochs", "batch_size", "attack_steps") if getattr(given, name)}
    done = train_rts(
        classifier, str(source), out, adversarial="aid", apart=float(a), limit=given.limit, listener=Told(), **own
    )
    print(done.card.figures, flush=True)


def held(classifier: Any, source: Path, n: int | None) -> list[str]:
    known = set(read_card(find(classifier, None)).validation)
    return [p.path for p in Folder(str(source)).photos(None) if p.sha256 in known][:n]


def inputs(classifier: Any, files: Sequence[Path]) -> torch.Tensor:
    door = door_of(classifier)
    return pixels.to_tensor([door.open(path.read_bytes(), str(path)) for path in files]).to(classifier.device)


def benign(part: str, classifier: Any, names: list[str], source: Path, weights: Path) -> Iterator[dict[str, Any]]:
    plain, ours = network_of("rts", classifier, weights), network_of(part.partition("-")[2], classifier, weights)
    t = read_card(find(classifier, None)).threshold
    for name in names:
        x = inputs(classifier, [source / name])
        y = classifier.logits(x).detach().argmax(1)
        m, m_plain = ours.explain(x, y), plain.explain(x, y)
        with torch.no_grad():
            metric = float(saliency_metric(classifier.logits, x, y, m, t))
        yield {"image": name, "plain_l1": float((m - m_plain).abs().mean()), "saliency_metric": metric}


def curve(part: str, classifier: Any, names: list[str], source: Path, weights: Path) -> Iterator[dict[str, Any]]:
    name, budget = part.removeprefix("curve-").rsplit("-", 1)
    plain, ours = network_of("rts", classifier, weights), network_of(name, classifier, weights)
    files = [source / one for one in names]
    with torch.no_grad():
        x = inputs(classifier, files)
        wanted = plain.explain(x, classifier.logits(x).argmax(1))
    for loss in LOSSES:
        options = {"steps": round(int(budget) / STEP), "surrogate": {"loss": loss}}
        result = underfire.attack(classifier, ours, files, at="input", **options)
        sound = iter(range(len(result.maps)))
        for image, record in zip(names, result.records, strict=True):
            n = next(sound) if not record.error else None
            away = None if n is None else float((result.maps[n].to(wanted) - wanted[names.index(image)]).abs().mean())
            row = {c: getattr(record, c) for c in ("map_l1", "success", "confidence", "passes", "error")}
            yield {"image": image, "loss": loss, "plain_l1": away, **row}


def stored() -> list[dict[str, Any]]:
    if not RESULT.exists():
        return []
    with RESULT.open(newline="") as file:
        return [
            {k: measure.parsed("image" if k in ("part", "loss") else k, v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]


def keep(part: str, rows: list[dict[str, Any]]) -> None:
    new = not RESULT.exists()
    with RESULT.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerows({"part": part, **row} for row in rows)


def show() -> None:
    rows = stored()
    for part in dict.fromkeys(row["part"] for row in rows):
        mine = [row for row in rows if row["part"] == part and not row["error"]]
        if part.startswith("benign"):
            l1, metric = (estimate.mean([row[c] for row in mine]) for c in ("plain_l1", "saliency_metric"))
            print(f"{part:22} n {l1.n}: L1 to plain RTS {l1.value:.4f}, saliency metric {metric.value:+.4f}")
            continue
        best = [
            min((row for row in mine if row["image"] == image), key=lambda r: (not r["success"], r["map_l1"]))
            for image in dict.fromkeys(row["image"] for row in mine)
        ]
        l1, away, won = (estimate.mean([float(row[c]) for row in best]) for c in ("map_l1", "plain_l1", "success"))
        by_loss = {
            loss: round(sum(values) / len(values), 4)
            for loss in LOSSES
            if (values := [row["map_l1"] for row in mine if row["loss"] == loss])
        }
        passes = estimate.mean([row["passes"] for row in mine]).value
        print(
            f"{part:22} n {len(best)}: best of three L1 {l1.value:.4f} ({l1.low:.4f} to {l1.high:.4f}), to plain RTS's "
            f"benign map {away.value:.4f}, success {won.value:.0%}, passes a loss {passes:.0f}; by loss {by_loss}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all without rows")
    shared = Path(os.environ.get("SHARED", Path(__file__).parent.parent.parent / "shared"))
    parser.add_argument("--shared", type=Path, default=shared)
    parser.add_argument("--weights", type=Path, default=Path(__file__).parent / "weights", help="the trained networks")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--limit", type=int, default=None, help="fewer photos")
    parser.add_argument("--epochs", type=int, help="of a training, fewer than its 12")
    parser.add_argument("--batch-size", type=int, help="photos a step of a training")
    parser.add_argument("--attack-steps", type=int, help="of a training's PGD, fewer than its 10")
    parser.add_argument("--list", action="store_true", help="show what is there")
    given = parser.parse_args()
    if given.list:
        show()
        return
    source = given.shared / "data/in1k-samples"
    if not source.is_dir():
        sys.exit(f"No photos in '{given.shared}': give --shared.")
    prepare(torch.get_num_threads())
    classifier: Any = underfire.classifier(device=given.device)
    given.weights.mkdir(parents=True, exist_ok=True)
    for part in given.parts or PARTS:
        if any(row["part"] == part for row in stored()):
            continue
        if part.startswith("train"):
            train(part, classifier, source, given)
            continue
        names = held(classifier, source, given.limit or (None if part.startswith("benign") else ATTACKED))
        rows_of = benign if part.startswith("benign") else curve
        keep(part, list(rows_of(part, classifier, names, source, given.weights)))
        print(f"{part}: written", flush=True)


if __name__ == "__main__":
    main()
