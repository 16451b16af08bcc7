"""Each front door against the library that it stands for, to the level, on photos of many sizes.

    python benchmarks/libraries.py              200 sizes from 20 × 20 to 4000 × 3000, every door and interpolation
    python benchmarks/libraries.py --sizes 20   fewer

The reference is the library's own pipeline, written down here as its users write it: torchvision's transforms on Pillow
images and on tensors, OpenCV's resize, a transformers image processor, and Pillow's resize of a box. Rows go to
benchmarks/results/libraries.csv: door, interpolation, sizes, how many photos differ, the largest difference.
"""

from __future__ import annotations

import argparse
import csv
import functools
import importlib.util
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import v2

from underfire.core import Preprocess
from underfire.registry import maker

ROWS = Path(__file__).parent / "results" / "libraries.csv"
COLUMNS = ("door", "interpolation", "sizes", "differ", "largest")
SIZE, RESIZE = 224, 256
SMALLEST, LARGEST = (20, 20), (3000, 4000)
"""Height and width, px."""
PILLOW = ("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos")
CV2 = {
    **{"nearest": "INTER_NEAREST", "bilinear": "INTER_LINEAR", "bicubic": "INTER_CUBIC", "lanczos": "INTER_LANCZOS4"},
    "area": "INTER_AREA",
}
Reference = Callable[[Any], Any]
"""From a photo (h, w, 3) to what the library makes of it, (H, W, 3)."""


def sizes(n: int) -> list[tuple[int, int]]:
    """Heights and widths: the smallest, the largest, and between them evenly in their logarithms, seeded."""
    rng = np.random.default_rng(0)
    low, high = np.log(SMALLEST), np.log(LARGEST)
    drawn = np.rint(np.exp(low + (high - low) * rng.random((max(0, n - 2), 2)))).astype(int)
    return [SMALLEST, LARGEST, *((int(h), int(w)) for h, w in drawn)][:n]


def photo(height: int, width: int) -> Any:
    """Noise over soft colours: everything that rounding depends on."""
    rng = np.random.default_rng(height * 10_000 + width)
    soft = Image.fromarray(rng.integers(0, 256, (5, 7, 3), np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    return (np.asarray(soft) // 2 + rng.integers(0, 128, (height, width, 3), np.uint8)).astype(np.uint8)


def references() -> Iterator[tuple[str, str, Any, Reference]]:
    """Yield name and interpolation of each door, the door, and the library."""
    for how in PILLOW:
        policy = Preprocess(SIZE, RESIZE, interpolation=how)
        yield "pillow", how, maker("doors", "pillow")("", policy), functools.partial(by_pillow, how=how)
        yield "timm", how, maker("doors", "timm")("", policy), torchvision_on_pictures(how)
    for how in ("nearest", "bilinear", "bicubic"):
        for words in ("", "no-antialias", "float"):
            policy = Preprocess(SIZE, RESIZE, interpolation=how)
            name = f"torch:{words}" if words else "torch"
            yield name, how, maker("doors", "torch")(words, policy), torchvision_on_tensors(how, words)
    for how, flag in CV2.items() if importlib.util.find_spec("cv2") else ():
        policy = Preprocess(SIZE, RESIZE, interpolation="bilinear" if how == "area" else how)
        words = "area" if how == "area" else ""
        yield "opencv", how, maker("doors", "opencv")(words, policy), functools.partial(by_opencv, flag=flag)
    yield from processors()


def by_pillow(p: Any, how: str) -> Any:
    """Pillow's resize of the part that the crop keeps."""
    height, width = p.shape[:2]
    scale = RESIZE / min(height, width)
    tall, wide = max(RESIZE, round(height * scale)), max(RESIZE, round(width * scale))
    top, left = round((tall - SIZE) / 2), round((wide - SIZE) / 2)
    across, down = width / wide, height / tall
    box = (left * across, top * down, (left + SIZE) * across, (top + SIZE) * down)
    return np.asarray(Image.fromarray(p).resize((SIZE, SIZE), Image.Resampling[how.upper()], box))


def torchvision_on_pictures(how: str) -> Reference:
    steps = [transforms.Resize(RESIZE, transforms.InterpolationMode(how)), transforms.CenterCrop(SIZE)]
    whole = transforms.Compose(steps)
    return lambda p: np.asarray(whole(Image.fromarray(p)))


def torchvision_on_tensors(how: str, words: str) -> Reference:
    resize = v2.Resize(RESIZE, transforms.InterpolationMode(how), antialias=words != "no-antialias")
    crop = v2.CenterCrop(SIZE)

    def made(p: Any) -> Any:
        x = torch.from_numpy(p).permute(2, 0, 1)
        return crop(resize(x.float() if words == "float" else x)).permute(1, 2, 0).numpy()

    return made


def by_opencv(p: Any, flag: str) -> Any:
    import cv2  # noqa: PLC0415 (an extra)

    height, width = p.shape[:2]
    scale = RESIZE / min(height, width)
    tall, wide = max(RESIZE, round(height * scale)), max(RESIZE, round(width * scale))
    whole = cv2.resize(p, (wide, tall), interpolation=getattr(cv2, flag))
    top, left = round((tall - SIZE) / 2), round((wide - SIZE) / 2)
    return whole[top : top + SIZE, left : left + SIZE]


def processors() -> Iterator[tuple[str, str, Any, Reference]]:
    """A transformers processor of each resampling, where transformers is installed."""
    try:
        from transformers import CLIPImageProcessor  # noqa: PLC0415 (an extra)
    except ImportError:
        return
    for how, number in (("bilinear", 2), ("bicubic", 3)):
        crop = {"height": SIZE, "width": SIZE}
        made = CLIPImageProcessor(size={"shortest_edge": RESIZE}, crop_size=crop, resample=number)
        with tempfile.TemporaryDirectory() as folder:
            made.save_pretrained(folder)
            door = maker("doors", "hf")(folder, Preprocess(SIZE, RESIZE, interpolation=how))
        yield "hf", how, door, functools.partial(processed, made)


def processed(processor: Any, p: Any) -> Any:
    made = processor(images=Image.fromarray(p), do_normalize=False, do_rescale=False, return_tensors="np")
    return np.asarray(made["pixel_values"])[0].transpose(1, 2, 0)


def compared(n: int) -> Iterator[dict[str, Any]]:
    """Compare every door with its library on ``n`` sizes."""
    every = list(references())
    apart: list[list[float]] = [[] for _ in every]
    for height, width in sizes(n):
        p = photo(height, width)
        for found, (_, _, door, library) in zip(apart, every, strict=True):
            found.append(float(np.abs(door.enter(p).astype(np.float64) - library(p)).max()))
    for found, (name, how, _, _) in zip(apart, every, strict=True):
        differ = sum(value > 0 for value in found)
        yield {"door": name, "interpolation": how, "sizes": n, "differ": differ, "largest": max(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, default=200)
    torch.set_num_threads(1)
    rows = list(compared(parser.parse_args().sizes))
    with ROWS.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    for row in rows:
        print(*row.values(), flush=True)


if __name__ == "__main__":
    main()
