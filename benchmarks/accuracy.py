"""How often EfficientNet-Lite0 is right on the shared ImageNet photos, which are named by their WordNet ids.

python benchmarks/accuracy.py [--shared DIR]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

import underfire
from underfire.images import photos, pixels


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).parents[2] / "shared")
    folder = photos.Folder(str(parser.parse_args().shared / "data" / "in1k-samples"))
    classifier = underfire.classifier("efficientnet-lite0")
    first = five = 0
    for path in folder.paths:
        x = pixels.to_tensor([pixels.load(folder.bytes(path), path, classifier.preprocess)])
        likely = classifier.logits(x)[0].topk(5).indices.tolist()
        label = classifier.classes.ids.index(Path(path).stem)
        first, five = first + (likely[0] == label), five + (label in likely)
    n = len(folder.paths)
    print(f"{n} photos: right {first} ({first / n:.1%}), among the likeliest five {five} ({five / n:.1%})")


if __name__ == "__main__":
    main()
