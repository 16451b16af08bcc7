"""The colour map of all pictures: perceptually uniform, and from dark to bright also for readers who see no colours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TABLE: NDArray[np.float64] = np.loadtxt(Path(__file__).with_name("inferno.csv"), delimiter=",")
"""(256, 3) red, green and blue from 0 to 1."""


def inferno(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return the colours (…, 3), from 0 to 255, of values from 0 to 1; others are clipped, and NaN is black."""
    known = ~np.isnan(values)
    clipped = np.clip(np.where(known, values, 0), 0, 1)
    steps = np.minimum(clipped * len(TABLE), len(TABLE) - 1).astype(int)
    colours: NDArray[np.float64] = TABLE[steps] * (255 * known[..., None])
    return colours
