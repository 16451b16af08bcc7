"""Doors that are somebody else's code: they are called as they are, and their geometry is measured by probing.

A comb of single bright rows tells which rows of the photo a row of the input is made of, and by how much: the weights
of each row of R_v are read off without knowing the code. Whether R_v · p · R_hᵀ is what the code does is then tried on
a picture of noise.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from underfire.core import LEVELS, Limits, Preprocess, UnderfireError
from underfire.doors.geometry import Geometry
from underfire.doors.linear import Ways
from underfire.images import pixels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Call = Callable[[NDArray[np.uint8]], NDArray[Any]]

GREY, BRIGHT = 128, 127
"""Levels of the ground and of what stands on it: a sharpening resize must not be clipped at 255."""
REACH = 3.0
"""A filter reaches so many pixels to each side at most, of the larger grid (Lanczos)."""
FAINT = 0.7 / BRIGHT
"""Weights below it are the rounding of the answer."""
APART = 4.0
"""Mean difference, in levels, up to which two matrices describe a door."""


class MeasuredDoor:
    """A door that can be called, and no more is known of it. A subclass sets `name`, `digest` and says `enter`.

    Args:
        policy: the classifier's sizes, which the answers must have.
    """

    name: str
    digest: str

    def __init__(self, policy: Preprocess) -> None:
        self.policy = policy
        self._ways = Ways()

    def enter(self, picture: NDArray[np.uint8]) -> NDArray[Any]:
        """Call it with upright RGB pixels (h, w, 3)."""
        raise NotImplementedError

    def open(self, content: bytes, path: str, limits: Limits = Limits()) -> NDArray[Any]:
        """Call it with the pixels of a file."""
        return self.enter(np.asarray(pixels.decode(content, path, limits)))

    def way(self, height: int, width: int) -> Geometry:
        """Measure the geometry for photos of one size, once.

        Raises:
            UnderfireError: two matrices do not describe it.
        """
        return self._ways.get((height, width)) or self._ways.put((height, width), self._measured(height, width))

    def _measured(self, height: int, width: int) -> Geometry:
        noise = np.random.default_rng(0).integers(0, LEVELS + 1, (height, width, 3), np.uint8)
        if not np.array_equal(self.enter(noise), self.enter(noise)):
            raise UnderfireError(
                f"--door {self.name} answers differently when asked twice: switch off what is random in it, or search "
                "with --at input."
            )
        return self._tried(measure(self.enter, height, width, self.policy.channels == 1), noise)

    def _tried(self, way: Geometry, noise: NDArray[np.uint8]) -> Geometry:
        """Return a geometry that explains what the door makes of noise, beside the border that it makes of nothing."""
        ground = self.enter(np.zeros_like(noise)).astype(np.float64)
        told = np.clip(way.forward(noise) + ground, 0, LEVELS)
        apart = float(np.abs(told - self.enter(noise).astype(np.float64)).mean())
        if not apart <= APART:
            raise UnderfireError(
                f"--door {self.name} does more than to resize and to crop (its answer to noise is {apart:.0f} levels "
                "away from the nearest such door), so a search cannot see through it: give it an attribute 'geometry' "
                "(docs/door.md), or search with --at input."
            )
        return way


def measure(call: Call, height: int, width: int, grey: bool = False) -> Geometry:
    """Measure R_v and R_h of a door on photos (height, width, 3)."""
    return Geometry(_axis(call, height, width, 0), _axis(call, height, width, 1), grey)


def _axis(call: Call, height: int, width: int, axis: int) -> Any:
    """Measure the matrix of one axis, (m, n)."""
    n = (height, width)[axis]

    def ask(profile: NDArray[Any]) -> NDArray[np.float64]:
        """Show a photo that varies along the axis alone, and return the answer along it (m, other side)."""
        shape = (n, 1, 1) if axis == 0 else (1, n, 1)
        shown = np.broadcast_to(np.rint(profile).astype(np.uint8).reshape(shape), (height, width, 3))
        answer: NDArray[np.float64] = call(np.ascontiguousarray(shown)).astype(np.float64).mean(2)
        return answer if axis == 0 else answer.T

    whole = (ask(np.full(n, LEVELS)) - ask(np.zeros(n))) / LEVELS
    lane = int(whole.sum(0).argmax())  # where the other axis has no border
    ground, sums = ask(np.full(n, GREY))[:, lane], whole[:, lane]
    centres = _centres(ask(np.linspace(0, LEVELS, n))[:, lane] - ask(np.zeros(n))[:, lane], sums, n)
    teeth = _teeth(centres, n)
    out = sparse.lil_matrix((len(sums), n), dtype=np.float32)
    for first in range(teeth):
        comb = np.full(n, GREY)
        comb[first::teeth] += BRIGHT
        weights = (ask(comb)[:, lane] - ground) / BRIGHT
        nearest = np.rint((centres - first) / teeth).astype(int) * teeth + first
        for row in np.flatnonzero((np.abs(weights) > FAINT) & (sums > 0.5)):
            if 0 <= nearest[row] < n:
                out[row, nearest[row]] = weights[row]
    return _scaled(out.tocsr(), sums)


def _centres(ramp: NDArray[np.float64], sums: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Find where each row of the input looks, px, by a straight line through its answers to a ramp."""
    seen = np.flatnonzero(sums > 0.5)
    if len(seen) < 2:
        return np.zeros(len(sums))
    where = ramp[seen] / sums[seen] / LEVELS * (n - 1)
    slope, start = np.polyfit(seen, where, 1)
    found: NDArray[np.float64] = start + slope * np.arange(len(sums))
    return found


def _teeth(centres: NDArray[np.float64], n: int) -> int:
    """Choose how far apart bright rows stand: further than a filter is wide, and than the ramp is unsure."""
    step = max(1.0, float(abs(centres[-1] - centres[0])) / max(1, len(centres) - 1))
    return min(n, math.ceil(2 * REACH * step + 2 + n / LEVELS))


def _scaled(weights: Any, sums: NDArray[np.float64]) -> Any:
    """Make each row's weights add up to what the row answers to white."""
    have = np.asarray(weights.sum(1)).ravel()
    factor = np.divide(sums, have, out=np.ones_like(sums), where=np.abs(have) > FAINT)
    return sparse.csr_matrix(sparse.diags(factor) @ weights).astype(np.float32)


def as_levels(answer: Any, policy: Preprocess, name: str) -> NDArray[Any]:
    """Read what a door of somebody else's returns.

    Args:
        answer: a Pillow image, 8-bit levels (H, W, C), or floats in [0, 1] or 8-bit levels (C, H, W), as an array or a
            tensor, also as a batch of one; (H, W) where the classifier takes grey.
        policy: the sizes and channels of the classifier's input.
        name: the door's, in an error.

    Returns:
        (H, W, C) levels.

    Raises:
        UnderfireError: anything else.
    """
    found = np.asarray(answer.detach().cpu() if hasattr(answer, "detach") else answer)
    found = found[0] if found.ndim == 4 and len(found) == 1 else found
    shape = (*policy.size, policy.channels)
    if found.shape == policy.shape:
        found = found.transpose(1, 2, 0)
    elif policy.channels == 1 and found.shape == policy.size:
        found = found[..., None]
    if found.shape != shape:
        raise UnderfireError(
            f"--door {name} returns {found.shape}, but the classifier takes {shape}: give --input-size, or let the "
            "door return a Pillow image, an array or a tensor of that size."
        )
    if found.dtype == np.uint8:
        return np.ascontiguousarray(found)
    low, high = float(found.min()), float(found.max())
    if not -0.1 <= low <= high <= 1.1:
        raise UnderfireError(
            f"--door {name} returns numbers from {low:.3g} to {high:.3g}: floats should be in [0, 1]. Leave mean and "
            "std to the classifier (--mean, --std)."
        )
    return np.ascontiguousarray(found, np.float32) * LEVELS
