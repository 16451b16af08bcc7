"""Verdicts on what was measured: *untouched* and *forged* (method, section 5.5). Computed on reading, never stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SCALE_PERCENTILE = 95


@dataclass(frozen=True)
class MapVerdict:
    """What one judgement comes to.

    Args:
        untouched_l1: map_l1 up to which a map counts as untouched; None where it was not measured.
        untouched: map_l1 is no larger. With a benign target, nothing seems to have happened to the map.
        forged: the attack succeeded and the map is untouched.
    """

    untouched_l1: float | None = None
    untouched: bool | None = None
    forged: bool | None = None


def untouched_scale(jpeg_l1: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """map_l1 up to which a map counts as untouched, by interpreter (method, section 5.5).

    Args:
        jpeg_l1: interpreter, and what JPEG 90 does to one clean map; None where it could not be measured.
    """
    found: dict[str, list[float]] = {}
    for interpreter, l1 in jpeg_l1:
        if l1 is not None:
            found.setdefault(interpreter, []).append(l1)
    return {name: float(np.percentile(values, SCALE_PERCENTILE)) for name, values in found.items()}


def verdict(interpreter: str, success: bool | None, l1: float | None, scale: Mapping[str, float]) -> MapVerdict:
    """The verdict on one judgement.

    Args:
        interpreter: who judged.
        success: whether the target class was reached; None where there is no result.
        l1: map_l1; None where there is no result.
        scale: from `untouched_scale`.
    """
    if success is None or l1 is None:
        return MapVerdict()
    most = scale.get(interpreter)
    untouched = None if most is None else l1 <= most
    return MapVerdict(most, untouched, None if untouched is None else success and untouched)
