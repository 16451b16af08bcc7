"""Which score the alarm `ensemble` has: disagreements of the maps of `defense_maps.py`, put together in many ways.

    python benchmarks/defense_scores.py MAPS        AUCs of each score, each set of members and each attack, as a table

μ and Σ are of `calibrate`, the benign photos of `judge`. The attacked photos are split: `first` 24 chose, `other` 24
say what the choice is worth. `attacked` are the same photos before any attack: 0.5 but for chance.
"""

from __future__ import annotations

import argparse
import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import torch

from underfire.defenses.statistic import logarithm, moments, one_sided, two_sided, unlike
from underfire.metrics import detection

RESULT = Path(__file__).parent / "results" / "defense-scores.csv"
SETS = (
    *(("cam", "grad", "rts"), ("cam", "grad", "rts", "ig"), ("cam", "gradcam", "grad", "rts", "ig")),
    *(("cam", "grad", "rts", "occlusion"), ("cam", "grad", "occlusion"), ("cam", "rts", "occlusion")),
    ("cam", "grad", "rts", "ig", "smoothgrad", "occlusion"),
)
ODD: dict[str, Any] = {"both": two_sided, "more": one_sided, "less": lambda r, covariance: one_sided(-r, covariance)}


def evidence(kept: Any, names: tuple[str, ...]) -> torch.Tensor:
    known = [str(name) for name in kept["members"]]
    shown = {name: torch.from_numpy(kept["grid"][0][:, known.index(name)]).double() for name in names}
    return torch.stack([unlike(shown[a], shown[b]) for a, b in itertools.combinations(names, 2)], 1)


def rows(folder: Path) -> list[dict[str, Any]]:
    parts = {path.stem: np.load(path) for path in sorted(folder.glob("*.npz"))}
    found = []
    for names in SETS:
        v = {part: logarithm(evidence(kept, names)) for part, kept in parts.items()}
        mean, covariance = moments(v["calibrate"])
        for odd, score in ODD.items():
            scores = {part: score(of - mean, covariance).tolist() for part, of in v.items()}
            found += [auc("+".join(names), odd, part, scores) for part in scores if part not in ("calibrate", "judge")]
    for copy in (1, 2, 3, 4, 5):
        for what in ("log_p", "l1"):
            scores = {p: (kept[what][copy] * (-1 if what == "log_p" else 1)).tolist() for p, kept in parts.items()}
            name = f"prediction alone, {('blur', 'bits 5', 'bits 4', 'median 2', 'median 3')[copy - 1]}"
            found += [auc(name, what, part, scores) for part in scores if part not in ("calibrate", "judge")]
    return found


def auc(names: str, odd: str, part: str, scores: dict[str, list[float]]) -> dict[str, Any]:
    own = scores[part]
    area = detection.auc(scores["judge"], own)
    first, other = (detection.auc(scores["judge"], some).value for some in (own[:24], own[24:]))
    row = {"of": names, "odd": odd, "attack": part, "n": len(own), "auc": area.value, "low": area.low}
    return row | {"high": area.high, "first": first, "other": other}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("maps", type=Path, help="the folder that defense_maps.py wrote")
    found = rows(parser.parse_args().maps)
    with RESULT.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        for row in found:
            writer.writerow({k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()})
    for row in found:
        print(
            f"{row['of']:46} {row['odd']:6} {row['attack']:13} {row['auc']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
        )


if __name__ == "__main__":
    main()
