"""StAdv: spatial transformation (Xiao et al. 2018), on the prediction alone and, as StAdv-ADV², on prediction and map.

min_f  ℓ_prd(f(x̂), c_t) + λ ℓ_int(g(x̂; f), m_t) + smooth · roughness(f)   s.t.  x̂ = warp(x_o, f), ‖f(p)‖₂ ≤ max_shift
"""

from __future__ import annotations

from underfire.attacks.presets import options_of, rescue_of
from underfire.attacks.search import Flow, PredictionAlone, PredictionAndMap, SearchAttack, maker_of
from underfire.registry import register

MAX_SHIFT = 2.0
"""Default of --max-shift, px at an input of 224 px."""


@register("attacks", "stadv")
@maker_of(PredictionAlone)
def stadv(
    preset: str, against: str | None, eps: int, max_shift: float = MAX_SHIFT, **overrides: object
) -> SearchAttack:
    """Reach the target class by bending the picture; the explanation is left to itself.

    The budget is ``max_shift``, px at an input of 224 px; ``eps`` does not matter.
    """
    chosen = options_of("stadv", None, preset, overrides, Flow)
    return SearchAttack("stadv", Flow(max_shift, **chosen.space), PredictionAlone(), chosen.settings)


@register("attacks", "adv2-stadv")
@maker_of(PredictionAndMap)
def adv2_stadv(
    preset: str,
    against: str | None,
    eps: int,
    max_shift: float = MAX_SHIFT,
    drawn: bool = False,
    rescue: bool | None = None,
    **overrides: object,
) -> SearchAttack:
    """Reach the target class and the target map by bending the picture.

    The budget is ``max_shift``, px at an input of 224 px; ``eps`` does not matter. ``drawn`` says that the target map
    is a shape or a file, the map of no image; ``rescue`` is as in adv2, with StAdv for PGD.
    """
    chosen = options_of("adv2-stadv", against, preset, overrides, Flow, drawn)
    objective = PredictionAndMap(chosen.surrogate)
    alone = rescue_of(stadv.make(preset, None, eps, max_shift), "adv2-stadv", preset, rescue)
    return SearchAttack("adv2-stadv", Flow(max_shift, **chosen.space), objective, chosen.settings, alone)
