"""docs/mask.png: a CC0 photo of scikit-image, its MASK map, and what the classifier says once that region is deleted.

python benchmarks/mask_picture.py [--photo chelsea.png] [--out docs/mask.png]
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

import underfire
from underfire.executors.process import prepare
from underfire.images import photos, pixels
from underfire.images.overlay import Pixels, over
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.mask import Mask

TILE, GAP, LINE = 320, 10, 26
"""Side of a picture, space between two, height of a title, px."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", default="chelsea.png")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "docs" / "mask.png")
    given = parser.parse_args()
    prepare(1)
    classifier = underfire.classifier()
    levels = pixels.load(photos.Folder("demo").bytes(given.photo), given.photo, classifier.preprocess)
    x = pixels.to_tensor([levels])
    y = classifier.logits(x).argmax(1)
    m = Mask(classifier).explain(x, y)
    left = Blend(x, m.shape[-1]).images(1 - m)
    name = classifier.classes.names[int(y)]
    with torch.no_grad():
        before, after = (float(classifier.logits(v).softmax(1)[0, int(y)]) for v in (x, left))
    page = beside(
        [levels, over(levels, m[0].numpy()), pixels.to_levels(left)[0]],
        [f"{name}: {before:.2f}", "MASK: high where deleting hurts", f"deleted there, {name}: {after:.2f}"],
    )
    page.save(given.out, optimize=True)


def beside(pictures: Sequence[Pixels], titles: Sequence[str]) -> Image.Image:
    """The pictures (H, W, 3) in a row, each below its title."""
    page = Image.new("RGB", (GAP + len(pictures) * (TILE + GAP), LINE + TILE + GAP), "white")
    pen, font = ImageDraw.Draw(page), ImageFont.load_default(15)
    for n, (picture, title) in enumerate(zip(pictures, titles, strict=True)):
        middle = GAP + n * (TILE + GAP) + TILE // 2
        pen.text((middle, LINE // 2), title, "black", font=font, anchor="mm")
        page.paste(Image.fromarray(picture).resize((TILE, TILE), Image.Resampling.LANCZOS), (middle - TILE // 2, LINE))
    return page


if __name__ == "__main__":
    main()
