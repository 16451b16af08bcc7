"""PGD, `fast` and `thorough`, against targeted attacks of a peer library, on the same photos with the same targets.

    python benchmarks/class_attack.py NETWORK        resnet50, densenet169 or vit (trained on tiny20), ε = 8, 48 photos

The peers are torchattacks' (MIT): APGD with the targeted DLR loss of AutoAttack and with the cross-entropy, 100 steps
in each of five random starts, and its PGD. They get what ours get and are judged as ours are: on the picture
rounded to 8 bits. `--trials` adds ours with random starts, a margin and more steps: what `thorough` could take over.
It needs `pip install torchattacks` (--peers: a folder that it is in). Rows go to benchmarks/results/class-attack-*.csv.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import underfire
from need import Bench, Row, arguments, write
from underfire.attacks.pgd import pgd
from underfire.core import LEVELS, Goal, Victim

EPS, STEPS, STARTS = 8, 100, 5
COLUMNS = ("network", "photo", "attack", "success", "confidence", "passes")


class Logits(nn.Module):
    """A classifier as the peers want it."""

    def __init__(self, classifier: Any, device: str) -> None:
        super().__init__()
        self.classifier, self.where = classifier, nn.Parameter(torch.zeros(1, device=device))

    def forward(self, x: Tensor) -> Tensor:
        z: Tensor = self.classifier.logits(x)
        return z


class Case:
    """Photos, their classes and what is wanted of them."""

    def __init__(self, bench: Bench) -> None:
        self.classifier, self.device = bench.classifier(), bench.given.device
        first = underfire.attack(self.classifier, "grad", bench.photos(bench.given.photos), attack="pgd", at="input")
        self.names = [record.image.rpartition("data/")[2] for record in first.records]
        self.x = first.clean.detach()
        self.source = torch.tensor([record.source_class for record in first.records], device=self.device)
        self.target = torch.tensor([record.target_class for record in first.records], device=self.device)

    def ours(self, preset: str, **own: Any) -> tuple[Tensor, Tensor]:
        """Run PGD; return its pictures and passes."""
        with self.classifier.meter.counting(len(self.x)) as spent:
            goal = Goal(self.target, self.source)
            found = pgd.make(preset, None, EPS, **own).run(Victim(self.classifier), self.x, goal, range(len(self.x)))
        return found.images, spent.passes

    def theirs(self, make: Callable[[nn.Module], Any]) -> tuple[Tensor, Tensor]:
        """Run a peer's attack; return its pictures, rounded, and passes."""
        with self.classifier.meter.counting(len(self.x)) as spent:
            images = make(Logits(self.classifier, self.device))
        return (images.detach() * LEVELS).round() / LEVELS, spent.passes

    def keep(self, rows: Tensor) -> None:
        """Keep some of the photos."""
        self.names = [self.names[n] for n in rows.nonzero()[:, 0].tolist()]
        self.x, self.source, self.target = self.x[rows], self.source[rows], self.target[rows]

    @torch.no_grad()
    def judged(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Tell which pictures reach the target, and its probability."""
        assert float((images - self.x).abs().max()) * LEVELS < EPS + 0.01
        p = self.classifier.logits(images).softmax(1)
        return p.argmax(1) == self.target, p.gather(1, self.target[:, None])[:, 0]


def peers(case: Case) -> Iterator[tuple[str, Callable[[], tuple[Tensor, Tensor]]]]:
    import torchattacks  # noqa: PLC0415  only here, and it may lie elsewhere

    class Aimed(torchattacks.APGDT):  # type: ignore[misc]
        """APGD at one class for each photo, in place of each photo's likeliest ones."""

        def dlr_loss_targeted(self, z: Tensor, y: Tensor, y_target: Tensor) -> Tensor:
            found: Tensor = super().dlr_loss_targeted(z, y, case.target)
            return found

    class AimedByEntropy(Aimed):
        def dlr_loss_targeted(self, z: Tensor, y: Tensor, y_target: Tensor) -> Tensor:
            return -F.cross_entropy(z, case.target, reduction="none")

    def apgd(kind: Any, start: int) -> Callable[[nn.Module], Tensor]:
        def run(model: nn.Module) -> Tensor:
            torch.manual_seed(start)
            attack = kind(model, eps=EPS / LEVELS, steps=STEPS, n_classes=20)
            attack.target_class = 2
            images: Tensor = attack.attack_single_run(case.x, case.source)[0]
            return images

        return run

    def plain(model: nn.Module) -> Tensor:
        torch.manual_seed(0)
        attack = torchattacks.PGD(model, eps=EPS / LEVELS, alpha=1 / LEVELS, steps=STEPS, random_start=True)
        attack.set_mode_targeted_by_label(quiet=True)
        images: Tensor = attack(case.x, case.target)
        return images

    for start in range(STARTS):
        yield f"peer APGD-DLR, start {start}", partial(case.theirs, apgd(Aimed, start))
        yield f"peer APGD-CE, start {start}", partial(case.theirs, apgd(AimedByEntropy, start))
    yield "peer PGD", lambda: case.theirs(plain)


def ours(case: Case, trials: bool) -> Iterator[tuple[str, Callable[[], tuple[Tensor, Tensor]]]]:
    for preset in ("fast", "thorough"):
        yield f"PGD {preset}", partial(case.ours, preset)
    if trials:
        for start in range(1, STARTS + 1):
            yield f"PGD thorough, start {start}", partial(case.ours, "thorough", restart=start)
        yield "PGD thorough, margin", lambda: case.ours("thorough", margin=20.0)
        yield (
            "PGD thorough, 2 levels",
            lambda: case.ours("thorough", step={"start": 2.0, "end": 0.1, "shape": "cosine"}),
        )
        yield "PGD thorough, 900 steps", lambda: case.ours("thorough", steps=900)


def measured(bench: Bench) -> Iterator[Row]:
    case = Case(bench)
    reached = torch.zeros_like(case.source, dtype=torch.bool)
    for name, run in (*ours(case, bench.given.trials), *peers(case)):
        if bench.given.missed and name.startswith("peer"):
            case.keep(~reached)
            reached = reached[~reached]
        images, passes = run()
        success, confidence = case.judged(images)
        reached = reached | success if not name.startswith("peer") else reached
        for n, photo in enumerate(case.names):
            seen = {"success": bool(success[n]), "confidence": float(confidence[n]), "passes": float(passes[n])}
            yield {"network": bench.network, "photo": photo, "attack": name, **seen}


def show(rows: list[Row]) -> None:
    reached: dict[str, set[str]] = {}
    for row in rows:
        reached.setdefault(row["attack"].partition(", start")[0], set())
        if row["success"] == "True":
            reached[row["attack"].partition(", start")[0]].add(row["photo"])
    n = {name: len({row["photo"] for row in rows if row["attack"].partition(", start")[0] == name}) for name in reached}
    best = set.union(*(found for name, found in reached.items() if name.startswith("peer")))
    for name, found in reached.items():
        print(f"  {name}: {len(found)} of {n[name]}; peers reach and it does not: {sorted(best - found) or 'none'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", choices=["resnet50", "densenet169", "vit"])
    arguments(parser, photos=48)
    parser.add_argument("--trials", action="store_true")
    parser.add_argument("--missed", action="store_true", help="give the peers only photos that PGD does not reach")
    parser.add_argument("--peers", help="a folder with torchattacks in it")
    given = parser.parse_args()
    if given.peers:
        sys.path.append(given.peers)
    print(given.network, flush=True)
    show(write(given.out / f"class-attack-{given.network}.csv", COLUMNS, measured(Bench(given.network, "", given))))


if __name__ == "__main__":
    main()
