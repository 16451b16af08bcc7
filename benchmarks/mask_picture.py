"""docs/mask.png: a CC0 photo of scikit-image, its MASK map, and what the classifier says once that region is deleted.

python benchmarks/mask_picture.py [--photo chelsea.png] [--out docs/mask.png]
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib as mpl
import torch

import underfire
from underfire.executors.process import prepare
from underfire.images import maps, photos, pixels
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.mask import Mask

mpl.use("Agg")
from matplotlib import pyplot as plt


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", default="chelsea.png")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "mask.png")
    given = parser.parse_args()
    prepare(1)
    classifier = underfire.classifier()
    levels = pixels.load(photos.Folder(photos.DEMO).bytes(given.photo), given.photo, classifier.preprocess)
    x = pixels.to_tensor([levels])
    y = classifier.logits(x).argmax(1)
    m = Mask(classifier).explain(x, y)
    left = Blend(x, m.shape[-1]).images(1 - m)
    name = classifier.classes.names[int(y)]
    with torch.no_grad():
        before, after = (float(classifier.logits(v).softmax(1)[0, int(y)]) for v in (x, left))
    figure, axes = plt.subplots(1, 3, figsize=(9, 3.3), layout="constrained")
    shown = [x[0].permute(1, 2, 0), x[0].permute(1, 2, 0), left[0].permute(1, 2, 0).clamp(0, 1)]
    titles = [f"{name}: {before:.2f}", "1 − m, high where deleting hurts", f"φ(x; m), {name}: {after:.2f}"]
    for axis, picture, title in zip(axes, shown, titles, strict=True):
        axis.imshow(picture)
        axis.set_title(title, fontsize=10)
        axis.set_axis_off()
    heat = maps.resize(m, (x.shape[2], x.shape[3]))[0]
    axes[1].imshow(heat, cmap="inferno", vmin=0, vmax=1, alpha=0.75)
    figure.savefig(given.out, dpi=110)


if __name__ == "__main__":
    main()
