"""What an attack minimises: the loss on the prediction alone, or on prediction and map (method, section 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, TypeAlias

from underfire.attacks.search.settings import FIRST_ORDER
from underfire.core import Goal, Images, Surrogate, UnderfireError, Victim

MakeSurrogate: TypeAlias = Callable[[Images, Goal], Surrogate]
"""Builds the attacker's side of an interpreter for one batch."""


@dataclass(frozen=True)
class PredictionAlone:
    """ℓ_prd(f(x), c_t): reach the target class, whatever becomes of the map."""

    fools_interpreter: ClassVar[bool] = False

    def step_passes(self, of_interpreter: float) -> float:
        """Give the F of one step; what the interpreter says does not matter."""
        return FIRST_ORDER

    def surrogate_for(self, victim: Victim) -> MakeSurrogate | None:
        """Give None: no map counts."""
        return None


@dataclass(frozen=True)
class PredictionAndMap:
    """ℓ_prd(f(x), c_t) + λ ℓ_int(g(x; f), m_t): reach the target class and the target map.

    Args:
        surrogate: options of the interpreter's surrogate, sorted by name.
    """

    fools_interpreter: ClassVar[bool] = True
    surrogate: tuple[tuple[str, Any], ...] = ()

    def step_passes(self, of_interpreter: float) -> float:
        """Give the F of one step: what the interpreter says."""
        return of_interpreter

    def surrogate_for(self, victim: Victim) -> MakeSurrogate | None:
        """Give what builds the surrogate of the victim's one interpreter.

        Raises:
            UnderfireError: for a victim with no interpreter or with several.
        """
        if len(victim.interpreters) != 1:
            raise UnderfireError(f"ADV² is made against one interpreter, not {len(victim.interpreters)}.")
        return partial(victim.interpreters[0].surrogate, **dict(self.surrogate))
