"""What a walk, or a surrogate, may offer beyond what each of them must: the search asks whether it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor

from underfire.core import Images, PerImage


@runtime_checkable
class Keeping(Protocol):
    """A walk whose images are not all that is searched: it keeps what is behind the best of them itself."""

    def keep(self, better: Tensor) -> None:
        """Keep what is behind the last `images`, in the rows ``better`` (bool (N,))."""

    def kept(self) -> Sequence[Tensor]:
        """Return what was kept, for each image of the whole batch."""


@runtime_checkable
class Restarting(Protocol):
    """A walk that may begin anew when the map begins to count."""

    def begin_map(self) -> None:
        """Hear that the map counts from here on."""


@runtime_checkable
class Resuming(Protocol):
    """A walk that another one can go on from."""

    def where(self, row: int) -> Tensor:
        """Give the position of one image."""

    def go_to(self, positions: Sequence[Tensor]) -> None:
        """Go to the nearest positions in the budget."""


@runtime_checkable
class Ranking(Protocol):
    """A surrogate that knows better than the maps' distance which iterate is the best."""

    def ranked(self, x: Images) -> PerImage:
        """Tell with the real interpreters how far ``x`` is from what is wanted: (N,) in [0, 1]."""
