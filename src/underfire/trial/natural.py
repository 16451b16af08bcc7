"""What a yardstick measures: maps of natural copies of each photo, and wrong maps, against its clean map."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from underfire.core import Images, Interpreter, Labels, Photo
from underfire.core.hashing import seed_of
from underfire.images import maps, pixels, targets
from underfire.images.copies import natural_copies
from underfire.interpreters.checked import benign, explain
from underfire.metrics.ranked import Four
from underfire.metrics.yardstick import triple
from underfire.trial.batch import labels, logits
from underfire.trial.load import Levels, Loaded
from underfire.trial.system import System

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEAR = 100.0
"""F of one map from which on only the first few copies are made: MASK's costs 900."""
DIGITS = 6
"""Significant digits of a distance that are kept."""


@dataclass(frozen=True)
class Natural:
    """What was measured on N photos under one interpreter, by index.

    Args:
        benign: (N, h, w) their clean maps; NaN where there is none.
        jpeg_l1: L1 of the copy saved as JPEG 90, whether or not it kept its class.
        copies: distances of each copy; None for one that lost the class or has no map.
        swap: distance of the clean map for another class.
        lacking: why a photo has no clean map.
    """

    benign: NDArray[np.float64]
    jpeg_l1: tuple[float | None, ...]
    copies: tuple[tuple[Four | None, ...], ...]
    swap: tuple[Four | None, ...]
    lacking: Mapping[int, str]


@torch.no_grad()
def measure(system: System, interpreter: Interpreter, loaded: Loaded, seed: int) -> Natural:
    """Measure natural copies and class swaps of some photos under one interpreter.

    Args:
        system: the classifier.
        interpreter: who explains.
        loaded: the photos.
        seed: of the noise and of the other classes.
    """
    x = pixels.to_tensor(loaded.levels).to(system.device)
    source = logits(system, x).argmax(1)
    clean, lacking = benign(interpreter, x, source)
    own, n = clean.numpy(), len(x)
    copies = _copies(loaded, seed, interpreter.map_passes > DEAR)
    seen = {name: _seen(system, interpreter, levels, source) for name, levels in copies.items()}
    other = _other_classes(system, loaded.photos, source, seed)
    swap, lost = explain(interpreter, x, other)
    jpeg = seen["jpeg-90"][0]
    return Natural(
        benign=own,
        jpeg_l1=tuple(None if d is None else d[0] for d in (distance(jpeg[i], own[i]) for i in range(n))),
        copies=tuple(tuple(distance(m[i], own[i]) if same[i] else None for m, same in seen.values()) for i in range(n)),
        swap=tuple(None if i in lost else distance(swap[i].numpy(), own[i]) for i in range(n)),
        lacking=lacking,
    )


def wrong_maps(clean: NDArray[np.float64]) -> list[dict[str, Four]]:
    """Measure, for each of N clean maps (N, h, w), that of the next photo, and the mean of all others, against it.

    Photos without a map, and a photo alone, have none.
    """
    there = [i for i in range(len(clean)) if _there(clean[i])]
    found: list[dict[str, Four]] = [{} for _ in clean]
    if len(there) < 2:
        return found
    total = clean[there].sum(0)
    for i, after in zip(there, [*there[1:], there[0]], strict=True):
        mean = (total - clean[i]) / (len(there) - 1)
        wrong = {"other_photo": distance(clean[after], clean[i]), "mean_map": distance(mean, clean[i])}
        found[i] = {name: d for name, d in wrong.items() if d is not None}
    return found


def distance(m: NDArray[np.float64], own: NDArray[np.float64]) -> Four | None:
    """Compare two maps (h, w); None where one of them is missing."""
    if not (_there(m) and _there(own)):
        return None
    l1, iou, rank = triple(float(np.abs(m - own).mean()), maps.iou(m, own), maps.rank(m, own))
    return rounded(l1), rounded(iou), rounded(rank), rounded(1 - maps.rank_shown(m, own))


def _there(m: NDArray[np.float64]) -> bool:
    """Tell whether there is a map: a batch in which no image has one has maps of no points."""
    return m.size > 0 and bool(np.isfinite(m).all())


def rounded(value: float) -> float:
    """Keep so many digits as a file does."""
    return float(f"{value:.{DIGITS}g}")


def _copies(loaded: Loaded, seed: int, few: bool) -> dict[str, Levels]:
    """Make the copies of all photos: name -> (N, H, W, 3)."""
    shown = zip(loaded.levels, loaded.photos, strict=True)
    made = [natural_copies(_whole(levels), seed_of(seed, photo, "natural copies"), few) for levels, photo in shown]
    names: Sequence[str] = tuple(made[0]) if made else ("jpeg-90",)
    return {name: np.array([one[name] for one in made], np.uint8).reshape(loaded.levels.shape) for name in names}


def _whole(levels: Levels) -> Levels:
    """Round what a door gave in floats: copies are of pictures."""
    return levels if levels.dtype == np.uint8 else np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _seen(
    system: System, interpreter: Interpreter, levels: Levels, source: Labels
) -> tuple[NDArray[np.float64], list[bool]]:
    """Maps of pictures for the classes of their photos, NaN where there is none; and which still have that class."""
    x: Images = pixels.to_tensor(levels).to(system.device)
    same = (logits(system, x).argmax(1) == source).tolist()
    return explain(interpreter, x, source)[0].numpy(), same


def _other_classes(system: System, photos: Sequence[Photo], source: Labels, seed: int) -> Labels:
    """Draw another class for each photo."""
    n = len(system.classifier.classes)
    known = zip(photos, source.tolist(), strict=True)
    return labels(system, [targets.draw_class(seed, photo, "class swap", n, [own]) for photo, own in known])
