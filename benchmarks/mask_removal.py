"""MASK by the surrogate of the removal family: the benign image's log-odds, matched at random masks of MASK's kind.

    python benchmarks/mask_removal.py [--device cuda] [--shared DIR] [--out FILE] [way ...]

The photos whose benign map is large resist the attack on MASK (docs/mask.md). There the victim finds masks that delete
little and kill the forged evidence; so the evidence is asked to survive random masks of all sizes. A row for each
photo and way; rows that are there are skipped.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import torch

import underfire
from underfire.core import Goal, Images, Labels, PerImage, Terms
from underfire.heads import head_of
from underfire.images.photos import Folder
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.mask import Mask
from underfire.interpreters.mask.match import Match, huber, surplus

RESULT = Path(__file__).parent / "results" / "mask-removal.csv"
COLUMNS = ("way", "image", "covered", "success", "confidence", "map_l1", "map_iou", "passes", "device")
STEPS: dict[str, Any] = {
    "check": 0,
    "yields": True,
    "relative": True,
    "lam": 3.0,
    "steps": 150,
    "warmup": 5,
    "confidence": 0.95,
}
WAYS: dict[str, dict[str, Any]] = {
    "pgd": {},
    "fast": {},
    **{f"removal, {cells} cells": {"cells": cells, "match": False} for cells in (4, 7, 14)},
    **{f"both, {cells} cells": {"cells": cells, "match": True} for cells in (4, 7)},
}
"""Way -> the random masks, and whether the walk is matched too; none for the presets."""


class Random:
    """The attacker's side: log-odds at random masks, first order; and beside it the match along the walks.

    Args:
        mask: the interpreter.
        x: clean images (N, 3, H, W).
        goal: the target classes.
        cells: cells of a mask a side, before it is enlarged.
        match: MASK's own surrogate, or None.
        looks: masks of a step.
    """

    shows = False

    def __init__(self, mask: Mask, x: Images, goal: Goal, cells: int, match: Match | None, looks: int = 8) -> None:
        self.mask, self.x, self.goal, self.cells, self.match, self.looks = mask, x, goal, cells, match, looks
        self.rng = torch.Generator().manual_seed(0)

    def masks(self, n: int) -> Images:
        """Draw masks (looks · N, 28, 28) that keep a share between 0.1 and 0.9."""
        kept = torch.rand(self.looks * n, 1, 1, generator=self.rng) * 0.8 + 0.1
        cells = (torch.rand(self.looks * n, self.cells, self.cells, generator=self.rng) < kept).float()
        return torch.nn.functional.interpolate(cells[:, None], 28, mode="bilinear")[:, 0].to(self.x)

    def odds(self, x: Images, m: Images, y: Labels) -> PerImage:
        """Compute log-odds of classes under masks."""
        z = self.mask.classifier.logits(Blend(x, 28).images(m))
        return head_of(self.mask.classifier).log_odds(z, y.repeat(self.looks))

    def terms(self, x: Images) -> Terms:
        """Compute the logits and ℓ_int."""
        m = self.masks(len(x))
        with torch.no_grad():
            wanted = self.odds(self.x, m, self.goal.source)
        loss = huber(surplus(self.odds(x, m, self.goal.labels), wanted)).view(self.looks, -1).mean(0)
        if self.match is None:
            return Terms(self.mask.classifier.logits(x), loss, None)
        z, along, _, _ = self.match.terms(x)
        return Terms(z, loss + along, None)

    def advance(self, x: Images, progress: float) -> None:
        """Move the shadows."""
        if self.match is not None:
            self.match.advance(x, progress)

    def select(self, keep: torch.Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.x, self.goal = self.x[keep], self.goal.select(keep)
        if self.match is not None:
            self.match.select(keep)


class ByRemoval(Mask):
    """MASK, attacked by random masks."""

    way: dict[str, Any]

    @classmethod
    def going(cls, classifier: Any, way: dict[str, Any]) -> ByRemoval:
        """Make it for one of `WAYS`."""
        made = cls(classifier)
        made.way = way
        return made

    def surrogate(self, x: Images, goal: Goal, kind: str | None = None, **options: Any) -> Any:
        """Start the attacker's side."""
        match = super().surrogate(x, goal, kind, **options) if self.way["match"] else None
        return Random(self, x, goal, self.way["cells"], match)  # type: ignore[arg-type]


def measure(way: str, classifier: Any, photos: list[str], folder: Path) -> list[tuple[float, ...]]:
    settings: dict[str, Any] = {}
    interpreter = underfire.interpreter("mask", classifier)
    if WAYS[way]:
        interpreter, settings = ByRemoval.going(classifier, WAYS[way]), STEPS
    attack = "pgd" if way == "pgd" else "adv2"
    result = underfire.attack(
        classifier, interpreter, [folder / p for p in photos], attack=attack, at="input", **settings
    )
    covered = result.clean_maps.mean((1, 2)).tolist()
    columns = ("success", "confidence", "map_l1", "map_iou", "passes")
    return [(c, *(getattr(r, name) for name in columns)) for c, r in zip(covered, result.records, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ways", nargs="*", choices=[*WAYS, []], metavar="way")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--photos", type=int, default=12)
    parser.add_argument("--out", type=Path, default=RESULT)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    given = parser.parse_args()
    folder = given.shared / "data" / "in1k-samples"
    photos = list(Folder(str(folder)).paths[: given.photos])
    classifier = underfire.classifier("efficientnet-lite0", device=given.device)
    done: set[tuple[str, str]] = set()
    if given.out.exists():
        with given.out.open(newline="") as file:
            done = {(row["way"], row["image"]) for row in csv.DictReader(file)}
    new = not given.out.exists()
    with given.out.open("a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(COLUMNS)
        for way in given.ways or WAYS:
            left = [photo for photo in photos if (way, photo) not in done]
            for photo, row in zip(left, measure(way, classifier, left, folder) if left else (), strict=True):
                shown = [f"{v:.5g}" if isinstance(v, float) else v for v in row]
                writer.writerow((way, photo, *shown, given.device))
                print(way, photo, *shown, flush=True)
            file.flush()


if __name__ == "__main__":
    main()
