"""PGD (Madry et al. 2018): the attack on the prediction alone, in the L∞ ball.

min_x  ℓ_prd(f(x), c_t)   s.t.  ‖x − x_o‖∞ ≤ ε
"""

from __future__ import annotations

from underfire.attacks.presets import options_of
from underfire.attacks.search import Ball, PredictionAlone, SearchAttack, maker_of
from underfire.registry import register


@register("attacks", "pgd")
@maker_of(PredictionAlone)
def pgd(preset: str, against: str | None, eps: int, **overrides: object) -> SearchAttack:
    """Reach the target class; the explanation is left to itself."""
    chosen = options_of("pgd", None, preset, overrides, Ball)
    return SearchAttack("pgd", Ball(eps, **chosen.space), PredictionAlone(), chosen.settings)
