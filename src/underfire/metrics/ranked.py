"""Maps ranked in two ways: by their numbers, and as they are shown. A yardstick's file holds both. No torch.

Maps are shown in 256 levels. The order of what lies within one level is seen by nobody, and yet decides about the rank
of a mask that is nearly black. Rows of before have the rank of the numbers alone, and are judged by that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from underfire.metrics.yardstick import PhotoDistances, Triple, Yardstick

Four = tuple[float, float, float, float]
"""L1, 1 − IoU of the top fifth, 1 − rank of two maps, and 1 − rank of the two maps as shown."""


@dataclass(frozen=True)
class RankedPhoto:
    """What was measured on one photo, as `PhotoDistances` has it, ranked in both ways."""

    sha256: str
    copies: tuple[Four, ...]
    impostors: Mapping[str, Four]

    def by(self, shown: bool) -> PhotoDistances:
        """Keep one of the ranks."""
        wrong = {name: of_four(d, shown) for name, d in self.impostors.items()}
        return PhotoDistances(self.sha256, tuple(of_four(d, shown) for d in self.copies), wrong)


def of_four(d: Four, shown: bool) -> Triple:
    """Keep one of the ranks of a comparison."""
    return d[0], d[1], d[3 if shown else 2]


def yardsticks(photos: Sequence[RankedPhoto], share: float) -> tuple[Yardstick, Yardstick]:
    """Make the yardstick of maps as shown, and that of their numbers; TooFewError where there are too few photos."""
    as_shown, exact = (Yardstick(tuple(one.by(shown) for one in photos), share) for shown in (True, False))
    return as_shown, exact


def ranked(as_shown: Yardstick, exact: Yardstick) -> tuple[RankedPhoto, ...]:
    """Put the two yardsticks of the same photos together again."""
    return tuple(_both(one, other) for one, other in zip(as_shown.photos, exact.photos, strict=True))


def _both(shown: PhotoDistances, exact: PhotoDistances) -> RankedPhoto:
    copies = tuple((*d, seen[2]) for d, seen in zip(exact.copies, shown.copies, strict=True))
    return RankedPhoto(exact.sha256, copies, {k: (*d, shown.impostors[k][2]) for k, d in exact.impostors.items()})
