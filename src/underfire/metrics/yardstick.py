"""The yardstick of *untouched*, for one classifier and one interpreter (method, section 5.5). It imports no torch.

    d      = (L1, 1 − IoU of the top fifth, 1 − Spearman's rank) between two maps
    q_k    the (1 − a) quantile of d_k between clean maps and those of their photos' natural copies: the unit
    s      = max over k of  d_k / q_k            the worst of the distances, in units of the null
    s*     the r-th smallest of n scores, r = ⌈(n + 1)(1 − a)⌉: untouched where s ≤ s*

Each photo gives one score: that of one of its copies, drawn by its digest, in units of the *other* photos. So a natural
copy of a new photo of the same kind is called touched with probability a at most, in the mean over yardsticks.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from underfire.core import TooFewError
from underfire.metrics import conformal
from underfire.metrics.estimate import Estimate, rate

Floats = NDArray[np.float64]
Triple = tuple[float, float, float]
"""L1, 1 − IoU of the top fifth, 1 − rank of two maps."""

SHARE = 0.05
"""a: the share of natural copies that may be called touched."""
FEWEST = 19
"""Photos that give a threshold at a = 0.05: 1/a − 1. With fewer the quantile lies at infinity."""
IMPOSTORS = ("pgd", "other_photo", "mean_map", "class_swap")
"""Wrong maps that a yardstick should reject: what an attack on the prediction alone leaves, another photo's map, the
mean map of the other photos, and the clean photo's map for a random class."""
AGAINST = IMPOSTORS[:3]
"""The impostors that power is about. A map that hardly depends on the class says little about it, but shows where."""
TELLS = 0.8
"""Power below which an explanation cannot tell: one wrong map in five passes."""
BLIND = 0.8
"""Rejected class swaps below which an interpreter is called class-blind."""
FOLDS = 10
_TINY = 1e-12
"""A unit at least: an interpreter whose maps never move still has one."""


def triple(l1: float, iou: float, rank: float | None, drawn: bool = False) -> Triple:
    """Put the distances of two maps together.

    Args:
        l1: mean absolute difference.
        iou: IoU of the top fifths.
        rank: Spearman's; None for a constant map, which has no order: as far as an unrelated one.
        drawn: whether one of them is a drawn shape or a file: its few values have no ranks to compare.
    """
    return l1, 1 - iou, 0.0 if drawn else 1 - (rank or 0.0)


def flat(triples: Sequence[Triple | None]) -> list[float | None]:
    """Put the distances of several maps one after the other, as a column of `Scale` holds them."""
    return [value for one in triples for value in (one or (None, None, None))]


def triples(values: Sequence[float | None] | None) -> list[Triple | None]:
    """Read what `flat` wrote."""
    parts = zip(*[iter(values or ())] * 3, strict=True)
    return [None if l1 is None or iou is None or rank is None else (l1, iou, rank) for l1, iou, rank in parts]


@dataclass(frozen=True)
class PhotoDistances:
    """What was measured on one photo, each against its clean map.

    Args:
        sha256: of its file.
        copies: distances of its natural copies; those that lost its class or have no map are left out.
        impostors: name -> distances; what was not measured is left out.
    """

    sha256: str
    copies: tuple[Triple, ...]
    impostors: Mapping[str, Triple]


@dataclass(frozen=True)
class Yardstick:
    """A yardstick: what was measured; unit and threshold follow from it.

    Args:
        photos: with one natural copy at least each.
        share: a, in (0, 1).

    Raises:
        TooFewError: too few photos for this share.
    """

    photos: tuple[PhotoDistances, ...]
    share: float = SHARE

    def __post_init__(self) -> None:
        needed = photos_needed(self.share)
        if len(self.photos) < needed:
            raise TooFewError(
                f"A yardstick needs {needed} photos with a map at least, and here are {len(self.photos)}."
            )

    @property
    def n(self) -> int:
        """Number of photos."""
        return len(self.photos)

    @cached_property
    def units(self) -> Floats:
        """The units q (3,)."""
        return _units(self._null, self.share)

    @cached_property
    def threshold(self) -> float:
        """The largest s of an untouched map."""
        scores = _held_out_scores(self._null, self.share)
        drawn = [float(own[_draw(photo, len(own))]) for photo, own in zip(self.photos, scores, strict=True)]
        return conformal.threshold(drawn, self.share)

    @property
    def limits(self) -> Floats:
        """The largest L1, 1 − IoU and 1 − rank (3,) of an untouched map: all three must hold.

        None is 0: where no natural copy moves the maps at all, one that has not moved either is untouched.
        """
        return np.maximum(self.threshold * self.units, _TINY)

    def distance(self, d: Triple) -> float:
        """Compute s of a map over the threshold: up to 1 it is untouched."""
        return float((np.asarray(d) / self.limits).max())

    def untouched(self, d: Triple) -> bool:
        """Tell whether a map that is so far from the clean one counts as untouched."""
        return self.distance(d) <= 1

    @cached_property
    def false_rejects(self) -> Estimate:
        """The mean share of a photo's natural copies that a yardstick of nine tenths of the other photos rejects."""
        shares = [
            float(np.mean([not part.untouched(d) for d in photo.copies]))
            for part, held in self._folds
            for photo in held
        ]
        middle = float(np.mean(shares))
        half = 1.96 * float(np.std(shares, ddof=1)) / np.sqrt(len(shares))
        return Estimate(middle, max(0.0, middle - half), min(1.0, middle + half), len(shares))

    @cached_property
    def power(self) -> dict[str, Estimate]:
        """The share of each kind of impostor that is rejected, likewise; kinds that were not measured are left out."""
        seen: dict[str, list[bool]] = {}
        for part, held in self._folds:
            for photo in held:
                for name, d in photo.impostors.items():
                    seen.setdefault(name, []).append(not part.untouched(d))
        return {name: rate(seen[name]) for name in IMPOSTORS if name in seen}

    @property
    def weakest(self) -> Estimate | None:
        """The power against the kind of impostor that passes most often, of `AGAINST`; None where none was measured."""
        known = [self.power[name] for name in AGAINST if name in self.power]
        return min(known, key=lambda e: e.value or 0.0, default=None)

    @property
    def tells(self) -> bool:
        """Whether it rejects wrong maps often enough for a forged rate to mean anything."""
        weakest = self.weakest
        return weakest is not None and (weakest.value or 0.0) >= TELLS

    @property
    def class_blind(self) -> bool:
        """Whether most maps of a photo for another class pass as its own."""
        swaps = self.power.get("class_swap")
        return swaps is not None and (swaps.value or 0.0) < BLIND

    @cached_property
    def _null(self) -> list[Floats]:
        return [np.asarray(photo.copies, np.float64) for photo in self.photos]

    @cached_property
    def _folds(self) -> list[tuple[Yardstick, tuple[PhotoDistances, ...]]]:
        """Yardsticks of most photos, each with the photos that it has not seen; this one where there are too few."""
        order = sorted(self.photos, key=lambda photo: photo.sha256)
        if self.n - -(-self.n // FOLDS) < photos_needed(self.share):
            return [(self, self.photos)]
        edges = [self.n * i // FOLDS for i in range(FOLDS + 1)]
        cuts = itertools.pairwise(edges)
        return [(Yardstick((*order[:a], *order[b:]), self.share), tuple(order[a:b])) for a, b in cuts]


def photos_needed(share: float) -> int:
    """Count the photos that a threshold needs at least: 1/a − 1."""
    return max(2, conformal.scores_needed(share))


def _units(null: Sequence[Floats], share: float) -> Floats:
    """The (1 − a) quantile of each distance (3,), where each photo weighs the same."""
    return next(iter(_units_without(null, share, [-1])))


def _held_out_scores(null: Sequence[Floats], share: float) -> list[Floats]:
    """The scores of each photo's copies in units of the other photos."""
    units = _units_without(null, share, range(len(null)))
    return [(own / unit).max(1) for own, unit in zip(null, units, strict=True)]


def _units_without(null: Sequence[Floats], share: float, without: Iterable[int]) -> Iterator[Floats]:
    """Yield the units of all photos but one, for each of ``without``; −1 leaves none out."""
    d = np.concatenate(null)  # (M, 3)
    photo = np.repeat(np.arange(len(null)), [len(one) for one in null])
    weights = np.repeat([1 / len(one) for one in null], [len(one) for one in null])
    order = d.argsort(0, kind="stable").T  # sorted once: leaving a photo out only takes its weight away
    for left_out in without:
        w = np.where(photo == left_out, 0.0, weights)
        yield np.array([max(_TINY, _quantile(d[at, k], w[at], 1 - share)) for k, at in enumerate(order)])


def _quantile(ascending: Floats, weights: Floats, level: float) -> float:
    """The smallest value with at least ``level`` of the weight at or below it."""
    reached = np.cumsum(weights)
    return float(ascending[min(int(np.searchsorted(reached, level * reached[-1] - 1e-9)), len(ascending) - 1)])


def _draw(photo: PhotoDistances, n: int) -> int:
    """Draw one of a photo's ``n`` copies, the same one in every yardstick."""
    return int(hashlib.sha256(f"copy/{photo.sha256}".encode()).hexdigest(), 16) % n
