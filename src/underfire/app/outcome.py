"""What came of a forgery: the forged file, pictures from before and after, and what other explanations say of it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

import underfire
from underfire.app.album import LIMITS, jpeg
from underfire.app.live import LiveView
from underfire.core import Record, UnderfireError
from underfire.images import maps as map_measures
from underfire.images import pixels
from underfire.images.formats import decode_upright, picture, suffix_of
from underfire.images.overlay import magnified, over
from underfire.interpreters.checked import explain
from underfire.metrics import packaged
from underfire.metrics.verdict import MapVerdict
from underfire.metrics.yardstick import triple

if TYPE_CHECKING:
    from underfire.app.forgery import Forgery
    from underfire.notebook.result import Result

LARGEST = 1000
"""Longest side of the pictures before and after, px."""
SMALL = 320
"""Longest side of maps and of what the classifier sees, px."""


@dataclass(frozen=True)
class Onlooker:
    """Another explanation that looks at the forged file.

    Args:
        name: as in ``underfire list``.
        before, after: JPEGs of its maps over the photo and over the forged file.
        l1, iou: how far the second is from the first.
        untouched: whether that is within its yardstick; None where it has none.
        error: why there are no maps.
    """

    name: str
    before: bytes = b""
    after: bytes = b""
    l1: float | None = None
    iou: float | None = None
    untouched: bool | None = None
    error: str = ""


@dataclass(frozen=True)
class Forging:
    """What came of a forgery.

    Args:
        record: the measurements.
        verdict: the verdict on them.
        file: the forged file.
        suffix: its ending.
        pictures: JPEGs and PNGs by name: before, after, change, map-before, map-after.
        factor: how many times the change is magnified.
        largest: change of a value of the two pictures that it is of, in levels of 255.
        onlookers: what other explanations say.
        seconds: wall time of all of it.
        watching: share of the search that the live view took.
    """

    record: Record
    verdict: MapVerdict
    file: bytes
    suffix: str
    pictures: dict[str, bytes]
    factor: int
    largest: int
    onlookers: tuple[Onlooker, ...]
    seconds: float
    watching: float


def forged(forgery: Forgery) -> Forging:
    """Forge a photo, and draw what came of it.

    Raises:
        UnderfireError: it cannot be attacked, or a setting does not suit it.
    """
    wish, networks = forgery.wish, forgery.networks
    classifier = networks.classifier(wish.classifier)
    judge = networks.interpreter(wish.classifier, wish.interpreter)
    live = LiveView(classifier, judge, forgery.show, forgery.ended)
    forgery.move("running")
    start = time.perf_counter()
    result = underfire.attack(
        classifier,
        wish.interpreter,
        [(forgery.given.name, forgery.given.content)],
        **settings_of(wish),
        progress=live,
    )
    seconds = time.perf_counter() - start
    forgery.move("judging")
    return _drawn(forgery, result, seconds, live.spent / seconds)


def settings_of(wish: Any) -> dict[str, Any]:
    """Give the arguments of `underfire.attack` that differ from its own defaults."""
    default = {"attack": "adv2", "preset": "fast", "eps": 8, "target": "random", "save_as": "png"}
    given = {name: getattr(wish, name) for name in default}
    return {name: value for name, value in given.items() if default.get(name) != value}


def _drawn(forgery: Forgery, result: Result, seconds: float, watching: float) -> Forging:
    """Draw the pictures of a result; errors as in `forged`."""
    record, file, wish = result.records[0], result.files[0], forgery.wish
    if record.error is not None:
        raise UnderfireError(record.error)
    clean, after = (pixels.to_levels(x)[0] for x in (result.clean, result.images))
    given = forgery.given
    before = np.asarray(pixels.decode(given.content, given.name, LIMITS)) if record.at == "file" else clean
    whole = decode_upright(file)
    pair = (before, whole) if before.shape == whole.shape else (clean, after)
    change, factor = magnified(*pair)
    largest = int(np.abs(pair[1].astype(int) - pair[0]).max())
    pictures = {
        "before": jpeg(_small(before, LARGEST), 92),
        "after": jpeg(_small(whole, LARGEST), 92),
        "change": jpeg(_small(change, LARGEST), 80),
        "map-before": jpeg(_small(over(clean, result.clean_maps[0].cpu().numpy()), SMALL)),
        "map-after": jpeg(_small(over(after, result.maps[0].cpu().numpy()), SMALL)),
        "seen-before": jpeg(_small(clean, SMALL), 92),
        "seen-after": jpeg(_small(after, SMALL), 92),
    }
    others = tuple(_looked(forgery, name, result) for name in wish.others if name != wish.interpreter)
    suffix = suffix_of(record.saved_as)
    return Forging(record, result.verdicts[0], file, suffix, pictures, factor, largest, others, seconds, watching)


def _small(levels: Any, side: int) -> Image.Image:
    """Make a Pillow image of levels (H, W, C), as small as the page shows it."""
    image = picture(levels)
    image.thumbnail((side, side), Image.Resampling.LANCZOS)
    return image


def _looked(forgery: Forgery, name: str, result: Result) -> Onlooker:
    """Show both pictures to another explanation."""
    classifier = forgery.networks.classifier(forgery.wish.classifier)
    record = result.records[0]
    x = torch.cat([result.clean, result.images])
    y = torch.tensor([record.source_class, record.target_class], device=x.device)
    try:
        judge = forgery.networks.interpreter(forgery.wish.classifier, name)
        found, lacking = explain(judge, x, y)
    except UnderfireError as e:
        return Onlooker(name, error=str(e))
    if lacking:
        return Onlooker(name, error=next(iter(lacking.values())))
    a, b = (one.cpu().numpy() for one in found)
    l1, iou = float(np.abs(a - b).mean()), map_measures.iou(a, b)
    known = packaged.fitting(classifier.digest, judge.name, judge.digest, {})
    untouched = None
    if known is not None:
        rank = map_measures.rank(a, b) if known.exact is None else map_measures.rank_shown(a, b)
        untouched = known.yardstick.untouched(triple(l1, iou, rank))
    clean, after = pixels.to_levels(x)
    before, now = (jpeg(_small(over(levels, m), SMALL)) for levels, m in ((clean, a), (after, b)))
    return Onlooker(name, before, now, l1, iou, untouched)
