"""ADV²: the prediction and its explanation at once (Interpretable Deep Learning under Fire, section 3).

min_x  ℓ_prd(f(x), c_t) + λ ℓ_int(g(x; f), m_t)   s.t.  ‖x − x_o‖∞ ≤ ε
"""

from __future__ import annotations

from underfire.attacks.pgd import pgd
from underfire.attacks.presets import options_of, rescue_of
from underfire.attacks.search import Ball, PredictionAndMap, SearchAttack, maker_of
from underfire.registry import register


@register("attacks", "adv2")
@maker_of(PredictionAndMap)
def adv2(
    preset: str,
    against: str | None,
    eps: int,
    drawn: bool = False,
    rescue: bool | None = None,
    **overrides: object,
) -> SearchAttack:
    """Reach the target class and the target map inside the L∞ ball.

    Args:
        preset: paper, fast or thorough.
        against: the interpreter that the preset's numbers are for.
        eps: ε in whole levels of 255.
        drawn: the target map is a shape or a file, the map of no image.
        rescue: whether photos whose class is lost go on for the class alone, as PGD; None: as the preset has it.
        overrides: settings in place of the preset's.
    """
    chosen = options_of("adv2", against, preset, overrides, Ball, drawn)
    space, objective = Ball(eps, **chosen.space), PredictionAndMap(chosen.surrogate)
    alone = rescue_of(pgd.make(preset, None, eps), "adv2", preset, rescue)
    return SearchAttack("adv2", space, objective, chosen.settings, alone)
