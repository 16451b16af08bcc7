"""ADV²: the prediction and its explanation at once (Interpretable Deep Learning under Fire, section 3).

min_x  ℓ_prd(f(x), c_t) + λ ℓ_int(g(x; f), m_t)   s.t.  ‖x − x_o‖∞ ≤ ε
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from underfire.attacks.pgd import Ball
from underfire.attacks.presets import options_of
from underfire.attacks.search import Settings, search
from underfire.core import Found, Goal, Images, Perturbation, UnderfireError, Victim
from underfire.registry import register


@register("attacks", "adv2")
@dataclass(frozen=True)
class Adv2:
    """Reach the target class and the target map inside the L∞ ball."""

    name: ClassVar[str] = "adv2"
    spelled: ClassVar[str] = "Adv2"
    fools_interpreter: ClassVar[bool] = True
    eps: int
    ball: Ball
    settings: Settings
    surrogate: tuple[tuple[str, Any], ...] = ()
    """Options of the interpreter's surrogate."""

    @classmethod
    def make(cls, preset: str, against: str | None, eps: int, drawn: bool = False, **overrides: object) -> Adv2:
        """The attack with the preset's settings for the interpreter ``against``.

        ``drawn``: the target map is no image's.
        """
        ball, settings, surrogate = options_of(cls.name, against, preset, overrides, Ball, drawn)
        return cls(eps, Ball(eps, **ball), Settings(**settings), tuple(sorted(surrogate.items())))

    def bound(self, step_passes: float) -> float:
        """F an image at most."""
        return self.settings.bound(step_passes)

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Search; nothing here is random."""
        return joint_search(victim, x, goal, self.ball, self.settings, self.surrogate)


def joint_search(
    victim: Victim,
    x: Images,
    goal: Goal,
    space: Perturbation,
    settings: Settings,
    surrogate: Sequence[tuple[str, Any]],
) -> Found:
    """Prediction and map at once, in any search space; ``surrogate`` are the options of the interpreter's."""
    if len(victim.interpreters) != 1:
        raise UnderfireError(f"ADV² is made against one interpreter, not {len(victim.interpreters)}.")
    return search(victim, x, goal, space, settings, partial(victim.interpreters[0].surrogate, **dict(surrogate)))
