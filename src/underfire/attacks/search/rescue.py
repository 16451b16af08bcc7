"""The rescue: a photo whose class the search on prediction and map has lost goes on for the class alone.

No attacker gives a class away for the sake of a map that nobody is fooled by any more. So the rescue is the attack on
the prediction itself, from the clean image, with its own steps: what that attack reaches by itself is reached.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from underfire.attacks.search.ball import Ball
from underfire.attacks.search.flow import Flow
from underfire.attacks.search.settings import FIRST_ORDER, SearchSettings


@dataclass(frozen=True)
class Rescue:
    """An attack on the prediction alone, for the photos that need it.

    Args:
        space: where it searches; it starts at the clean image.
        settings: how long and how hard.
    """

    spelled: ClassVar[str] = "Rescue"
    space: Ball | Flow
    settings: SearchSettings

    def bound(self) -> float:
        """Give the most F that an image can cost."""
        return self.settings.bound(FIRST_ORDER)
