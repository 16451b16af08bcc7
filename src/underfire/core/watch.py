"""Watching a search: whoever wants to see it while it runs, such as a page or a progress bar, and may end it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from underfire.core.protocols import Goal
from underfire.core.types import Images, Maps

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Glimpse:
    """One step of a search, as it is before the step is taken. Nothing in it may be changed.

    Args:
        step: from 0.
        steps: the most that there will be; an image may be done before.
        rows: (n,) which images of the batch are still under attack.
        images: (n, 3, H, W) their iterates in [0, 1].
        goal: what is wanted of these.
        logits: (n, K) of these.
        reached: bool (n,), whether the attack has succeeded on them, as their head has it.
        maps: interpreter -> (n, h, w) its real maps of these for the target classes; empty where this step saw none.
    """

    step: int
    steps: int
    rows: Tensor
    images: Images
    goal: Goal
    logits: Tensor
    reached: Tensor
    maps: Mapping[str, Maps] = field(default_factory=dict)


class Watcher(Protocol):
    """Whoever watches a search."""

    def see(self, glimpse: Glimpse) -> bool:
        """Look at a step, and return True to end the search with the best that it has found so far."""
