"""What a search in bfloat16 costs in quality, and what it saves: the same audits in float32 and in bfloat16.

    python benchmarks/precision.py --shared DIR [--device cpu] [--photos 24] [--threads 2] [CASE ...]

A case is NETWORK-INTERPRETER. Each audit is run twice, once for each precision, on the same photos with the same
batches; the judge is float32 in both. Appends to results/precision.csv, and skips rows that are there.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import tempfile
from pathlib import Path
from typing import Any

from underfire.audit.run import run
from underfire.plan.settings import Settings

RESULT = Path(__file__).parent / "results" / "precision.csv"
COLUMNS = ("case", "precision", "device", "attack", "photos", "success", "map_l1", "map_iou", "confidence", "seconds")
NETWORKS: dict[str, dict[str, Any]] = {
    "lite0": {"images": "data/in1k-samples"},
    **{
        name: {
            "images": "data/tiny20/val",
            "classifier": name,
            "weights": f"models/{name}_tiny20.safetensors",
            "classes": None,
        }
        for name in ("resnet50", "densenet169")
    },
    "vit": {
        "images": "data/tiny20/val",
        "classifier": "timm:vit_small_patch14_dinov2",
        "weights": "models/vit_small_dinov2_tiny20.safetensors",
        "input_size": 224,
    },
}
CASES = (
    *("lite0-cam", "lite0-grad", "lite0-rts", "resnet50-cam", "resnet50-grad", "densenet169-cam", "densenet169-grad"),
    *("vit-grad", "vit-attention", "lite0-mask", "resnet50-mask"),
)
MASK_PHOTOS = 6
"""Photos of the cases with MASK, which cost a hundred times as much."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help=f"of {', '.join(CASES)}; default: all")
    parser.add_argument("--shared", type=Path, required=True, help="folder with data/ and models/")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--photos", type=int, default=24)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--precision", nargs="*", default=["fp32", "bf16-last"])
    parser.add_argument("--result", type=Path, default=RESULT)
    given = parser.parse_args()
    done = {tuple(row[:3]) for row in csv.reader(given.result.open())} if given.result.is_file() else set()
    for case in given.cases or CASES:
        for precision in given.precision:
            if (case, precision, given.device) not in done:
                measure(case, precision, given)


def measure(case: str, precision: str, given: argparse.Namespace) -> None:
    network, _, interpreter = case.partition("-")
    own = {k: v for k, v in NETWORKS[network].items() if v is not None}
    asked: dict[str, Any] = own | {k: str(given.shared / own[k]) for k in own if k in ("images", "weights")}
    photos = min(given.photos, MASK_PHOTOS) if interpreter == "mask" else given.photos
    asked |= {"interpreter": interpreter, "limit": photos, "precision": precision, "sanity": 0}
    asked |= {"threads": given.threads, "device": given.device, "batch_size": given.batch_size}
    with tempfile.TemporaryDirectory() as out:
        rows = run(Settings.parse(asked), Path(out)).results.rows()
    fresh = not given.result.is_file()
    with given.result.open("a", newline="") as file:
        writer = csv.writer(file)
        if fresh:
            writer.writerow(COLUMNS)
        for attack in ("pgd", "adv2"):
            found = [row for row in rows if row["attack"] == attack and row["error"] is None]
            line = [case, precision, given.device, attack, len(found), *(mean(found, k) for k in COLUMNS[5:])]
            print(*line, flush=True)
            writer.writerow(line)


def mean(rows: list[dict[str, Any]], column: str) -> str:
    values = [float(row[column]) for row in rows if row[column] is not None]
    return f"{statistics.fmean(values):.4f}" if values else ""


if __name__ == "__main__":
    main()
