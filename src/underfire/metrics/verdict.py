"""Verdicts on what was measured: *untouched* and *forged* (method, section 5.5). Computed on reading, never stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

SCALE_PERCENTILE = 95
"""Percentile of the JPEG distances up to which a map counts as untouched."""


@dataclass(frozen=True)
class MapVerdict:
    """The verdicts on one judgement.

    Args:
        untouched_l1: map_l1 up to which a map counts as untouched; None where it was not measured.
        untouched: whether map_l1 is no larger. Then, with a benign target map, nothing seems to have happened.
        forged: whether the attack succeeded and the map is untouched.
    """

    untouched_l1: float | None = None
    untouched: bool | None = None
    forged: bool | None = None


def untouched_scale(jpeg_l1: Iterable[tuple[str, float | None]]) -> dict[str, float]:
    """Compute, for each interpreter, the map_l1 up to which a map counts as untouched (method, section 5.5).

    Args:
        jpeg_l1: name of the interpreter, and L1 distance of one clean map before and after JPEG 90; None where it could
            not be measured.
    """
    found: dict[str, list[float]] = {}
    for interpreter, l1 in jpeg_l1:
        if l1 is not None:
            found.setdefault(interpreter, []).append(l1)
    return {name: float(np.percentile(values, SCALE_PERCENTILE)) for name, values in found.items()}


def verdict(interpreter: str, success: bool | None, l1: float | None, scale: Mapping[str, float]) -> MapVerdict:
    """Judge one judgement's measurements.

    Args:
        interpreter: name of the judge's interpreter.
        success: whether the target class was reached; None where there is no result.
        l1: map_l1; None where there is no result.
        scale: from `untouched_scale`.
    """
    if success is None or l1 is None:
        return MapVerdict()
    most = scale.get(interpreter)
    untouched = None if most is None else l1 <= most
    return MapVerdict(most, untouched, None if untouched is None else success and untouched)
