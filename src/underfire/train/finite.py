"""Not finite is an error: one step on such a loss destroys a network, and no figure of it can be believed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from underfire.core import UnderfireError
from underfire.train.photos import LabelledPhoto

NAMED = 3
"""Photos that an error names."""


class NotFiniteError(UnderfireError):
    """The error for a loss, a gradient or a figure that is not finite."""


def refuse_values(photos: Sequence[LabelledPhoto], values: Mapping[str, Tensor]) -> None:
    """Raise NotFiniteError, with the photos' names, where one of the values (N,) of N photos is not finite."""
    for name, value in values.items():
        bad = (~value.isfinite()).nonzero()[:, 0].tolist()
        if bad:
            raise not_finite(f"the figure '{name}'", [photos[i] for i in bad])


def not_finite(what: str, photos: Sequence[LabelledPhoto]) -> NotFiniteError:
    """Make the error for what is not finite at some photos."""
    names = ", ".join(f"'{p.photo.path}'" for p in photos[:NAMED])
    more = f" and {len(photos) - NAMED} more" if len(photos) > NAMED else ""
    return NotFiniteError(
        f"The training stops, since {what} is not finite at {names}{more}: leave such photos out, or keep the "
        "argument of a power, root or logarithm of the classifier a little above 0; where all photos are such, give a "
        "lower rate."
    )
