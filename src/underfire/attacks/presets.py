"""Every preset as data, in one table with its reasons. F = one forward pass; a step on the prediction or CAM costs 3 F.

`paper`     the published recipe (method.md section 4) with its flaws mended: judged on the rounded image, best iterate
            kept, every image on its own. No early stop, so that its cost is the published cost.
`fast`      the default: the cheapest search that reaches the paper's quality with a margin.
`thorough`  what a patient attacker gets.

A row for (attack, None, preset) serves every interpreter without a row of its own, third parties' too. `DRAWN` holds
the rows of attacks whose target map is a shape or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, NamedTuple

from underfire.attacks.search import Ball, Flow, Schedule, SearchSettings, Stages
from underfire.core import UnderfireError
from underfire.registry import unknown

BUDGETS = ("eps", "max_shift")
"""Fields of a search space that no preset sets."""
PRESET_NAMES = {
    "paper": "The published recipe, at its published cost.",
    "fast": "The default: the cheapest search that reaches the paper's quality with a margin.",
    "thorough": "What a patient attacker gets.",
}


class Preset(NamedTuple):
    """Arguments of the search space, of the search, and of the interpreter's surrogate."""

    space: Mapping[str, Any]
    search: Mapping[str, Any]
    surrogate: Mapping[str, Any] = MappingProxyType({})


# Sign steps of one level at ε = 8: the recipe's 1/255. All of its numbers are in method.md, section 4.
_PUBLISHED_STEP = {"step": Schedule(1.0)}
# Constant steps of a level keep the iterate bouncing between roundings. Starting at two levels crosses the ball in four
# steps; shrinking geometrically to a hundredth of a level settles the last rounding decisions one by one. On 8 photos,
# 60 steps: map_l1 0.0010, where a cosine from 2 to 0.02 gave 0.0026 and a cosine from 2 to 0.1 some 0.006.
_SETTLING = {"step": Schedule(2.0, 0.01, "geometric"), "momentum": 0.75}
# λ: the prediction falls first (10), the map gets the last word (300); a constant 10 or 30 ends two to four times
# farther, a constant 100 or more costs confidence.
_MAP_LAST = Schedule(10.0, 300.0, "geometric")

# Bends, in px: the step shrinks as the ball's does. 4 photos against CAM, 100 steps: from 0.1 to 0.005 px map_l1 0.0087
# and a mean flow of 0.23 px, from 0.15 px 0.0034 and 0.32 px; without the penalty on roughness 0.0026 and 0.48 px; a
# flow at half the resolution 0.045; β₂ = 0.99 0.016.
_BENDING = {"step": Schedule(0.15, 0.005, "geometric"), "smooth": 0.5}
# The map needs no last word here: the smallest bends that reach the class.
_BENDING_ON_PREDICTION = {"step": Schedule(0.1, 0.02, "geometric"), "smooth": 0.5}
# 2 photos against GRAD, 150 steps: from 0.15 px with half the penalty map_l1 0.020, but a mean flow of 0.73 px.
_BENDING_SECOND_ORDER = {"step": Schedule(0.1, 0.005, "geometric"), "smooth": 1.0}

# The map yields: on 6 photos of the 128 px ResNet-50 6 instead of 5 reached their target.
_GRAD = {"warmup": 10, "lam": Schedule(300.0), "yields": True}
_SETTLING_SECOND_ORDER = {"step": Schedule(2.0, 0.02, "geometric"), "momentum": 0.75}
# Matching looks at other masks each step, so the momentum averages over some ten of them.
_MATCHING = {"step": Schedule(2.0, 0.02, "geometric"), "momentum": 0.9}

# One mask of the recorded benign walk a step, and one where the victim itself walks.
_BESIDE = {"path": 1, "record": 150, "shadows": ((8, 16, 32, 64),), "field": 3.0}
# The map yields, and no look at the real one: the last confident iterate is kept.
_MATCHED = {"lam": Schedule(1.0), "confidence": 0.95, "yields": True, "check": 0}
# A look at the real maps and the score (12 F beside a step's 27) every fifth step. Quiet counts from a probability of ½
# on: a loud picture that is surer of itself is no success.
_JOINT = {"lam": _MAP_LAST, "confidence": 0.5, "yields": True, "check": 5, "once": 80.0}
# The record of the benign walk, and the last look, which takes no step. The published attack's full masks.
_RECORD, _MASKS = 3 * 150 + 9.0, 21 * 900 + 30.0
# On one photo at 96 px: half the penalty, a mean flow of 0.58 px and no nearer a map (both have an L1 below 0.00001).
_BENDING_MATCHING = {**_BENDING, "smooth": 1.0}

PRESETS: dict[tuple[str, str | None, str], Preset] = {
    ("pgd", None, "paper"): Preset(_PUBLISHED_STEP, {"steps": 1200}),
    # A random target falls in some 10 steps; the cap is for the stubborn image. Stops at 0.999 on the rounded image.
    ("pgd", None, "fast"): Preset(
        {"step": Schedule(1.0, 0.25, "cosine"), "momentum": 0.75},
        {"steps": 100, "stop_confidence": 0.999},
    ),
    ("pgd", None, "thorough"): Preset(
        {"step": Schedule(1.0, 0.1, "cosine"), "momentum": 0.75},
        {"steps": 300, "stop_confidence": 0.9999},
    ),
    # 400 steps on the prediction, 1,200 on both, c linear 5 -> 10.
    ("adv2", None, "paper"): Preset(_PUBLISHED_STEP, {"steps": 1600, "warmup": 400, "lam": Schedule(5.0, 10.0)}),
    # The map yields where a photo can hardly be moved to its target: on the 128 px ResNet-50, 8 photos, 8 instead of 7
    # reached it, at the same map distance.
    ("adv2", None, "fast"): Preset(_SETTLING, {"steps": 60, "lam": _MAP_LAST, "confidence": 0.95, "yields": True}),
    ("adv2", None, "thorough"): Preset(_SETTLING, {"steps": 150, "lam": _MAP_LAST, "confidence": 0.95, "yields": True}),
    # The paper gives no recipe for bent pictures: `paper` takes the L∞ attacks' counts of steps, without early stop.
    ("stadv", None, "paper"): Preset({"step": Schedule(0.02)}, {"steps": 1200}),
    ("stadv", None, "fast"): Preset(_BENDING_ON_PREDICTION, {"steps": 100, "stop_confidence": 0.999}),
    ("stadv", None, "thorough"): Preset(_BENDING_ON_PREDICTION, {"steps": 300, "stop_confidence": 0.9999}),
    ("adv2-stadv", None, "paper"): Preset(
        {"step": Schedule(0.02)}, {"steps": 1600, "warmup": 400, "lam": Schedule(5.0, 10.0)}
    ),
    ("adv2-stadv", None, "fast"): Preset(
        _BENDING, {"steps": 100, "lam": _MAP_LAST, "confidence": 0.95, "yields": True}
    ),
    ("adv2-stadv", None, "thorough"): Preset(
        _BENDING, {"steps": 250, "lam": _MAP_LAST, "confidence": 0.95, "yields": True}
    ),
    ("adv2-stadv", "grad", "fast"): Preset(
        _BENDING_SECOND_ORDER,
        {"steps": 150, "warmup": 10, "lam": Schedule(300.0), "smoothing": 0.01, "confidence": 0.95},
    ),
    ("adv2-stadv", "grad", "thorough"): Preset(
        _BENDING_SECOND_ORDER,
        {"steps": 400, "warmup": 10, "lam": Schedule(300.0), "smoothing": 0.005, "confidence": 0.98},
    ),
    # 300 steps on the prediction, 704 on both with c · sum(diff²) of the 56×56 map in four stages (c · 3136 on the
    # mean), label smoothing, the published slope; every 10 steps a look at the real map, the nearest with p > 0.8 kept.
    ("adv2", "grad", "paper"): Preset(
        _PUBLISHED_STEP,
        {
            "steps": 1004,
            "warmup": 300,
            "lam": Stages(tuple(c * 56 * 56 for c in (0.001, 0.004, 0.01, 0.05)), (301, 201, 101, 101)),
            "smoothing": 0.05,
            "confidence": 0.8,
            "check": 10,
        },
        {"slope": "published", "tau": 1e-4},
    ),
    # 300 steps on the prediction, 1,000 on both; the encoder's class loss is ℓ_prd itself, since the encoder is the
    # classifier (0.1 × more of it would change nothing but the scale).
    ("adv2", "rts", "paper"): Preset(_PUBLISHED_STEP, {"steps": 1300, "warmup": 300, "lam": Schedule(5.0, 10.0)}),
    # A step costs 7 F. λ = 300 on the mean squared difference: at 1,000 a photo in four loses its confidence. The map
    # gets nearer as the step shrinks, so the geometric decay does most of the work (see docs/grad.md).
    ("adv2", "grad", "fast"): Preset(
        _SETTLING_SECOND_ORDER,
        {**_GRAD, "steps": 120, "smoothing": 0.01, "confidence": 0.95},
    ),
    ("adv2", "grad", "thorough"): Preset(
        _SETTLING_SECOND_ORDER,
        {**_GRAD, "steps": 400, "smoothing": 0.005, "confidence": 0.98},
    ),
    # The whole ensemble and its alarm: as long as GRAD's own search, its hardest member.
    ("adv2", "ensemble", "fast"): Preset(
        _SETTLING_SECOND_ORDER,
        {**_JOINT, "steps": 120, "smoothing": 0.01},
    ),
    ("adv2", "ensemble", "thorough"): Preset(
        _SETTLING_SECOND_ORDER,
        {**_JOINT, "steps": 400, "smoothing": 0.005},
    ),
    # A step costs 20 F: 7 for each of two masks, 3 for the benign image's side of the second, 3 for the image.
    # Recording half of the benign walk costs 450 F, a look at the real map 900: `fast` takes none. `thorough` shrinks
    # its steps three times over and looks at the real map after each, since longer searches alone come no nearer.
    ("adv2", "mask", "fast"): Preset(
        _MATCHING,
        {**_MATCHED, "steps": 150, "once": _RECORD},
        _BESIDE,
    ),
    ("adv2", "mask", "thorough"): Preset(
        {**_MATCHING, "step": Schedule(2.0, 0.02, "geometric", cycles=3)},
        {**_MATCHED, "steps": 540, "check": 180, "once": _RECORD + 3 * 900},
        _BESIDE,
    ),
    # 400 sign steps on the margin, then 1,000 of: one margin step, 4 mask steps without and 4 with a graph, a 10-step
    # bisection; a full mask and reset every 50 (it chooses the best iterate too). A step: margin 3, free mask steps
    # 12, held ones 28, bisection 10. κ is ours: a lead of 5 is a confidence of 0.99 or so.
    ("adv2", "mask", "paper"): Preset(
        _PUBLISHED_STEP,
        {"steps": 1400, "warmup": 400, "margin": 5.0, "bisect": 10, "check": 50, "step_passes": 53.0, "once": _MASKS},
        {"kind": "bilevel"},
    ),
    # More steps than in the ball, since small bends go a shorter way in each; 20 F a step as there, so that 250 of them
    # and the record are 5,460 F, one and a half times the ball's.
    ("adv2-stadv", "mask", "fast"): Preset(_BENDING_MATCHING, {**_MATCHED, "steps": 250, "once": _RECORD}, _BESIDE),
    ("adv2-stadv", "mask", "thorough"): Preset(
        _BENDING_MATCHING, {**_MATCHED, "steps": 1000, "once": _RECORD}, _BESIDE
    ),
    # A bend has no step that could be halved, so prediction and map share one: no bisection.
    ("adv2-stadv", "mask", "paper"): Preset(
        {"step": Schedule(0.02)},
        {"steps": 1400, "warmup": 400, "lam": Schedule(5.0, 10.0), "check": 50, "step_passes": 43.0, "once": _MASKS},
        {"kind": "bilevel"},
    ),
}

# Where the wanted map is drawn, a shape or a file, MASK has no image whose walk leads there: `fast` and `thorough`
# follow the victim's mask instead. A step costs 43 F (12 for free mask steps, 28 for held ones, 3 for the image), and
# each full mask 900 F: that is the real map, and chooses among the iterates. ℓ_int is a mean square here: on eight toy
# pictures λ = 10 → 300 ended at a mean L1 of 0.34, 300 at 0.19, 1,000 at 0.09 with a confidence of 0.97.
_FOLLOWED = {"lam": Schedule(1000.0), "confidence": 0.95, "yields": True}

DRAWN: dict[tuple[str, str | None, str], Preset] = {
    (attack, "mask", preset): Preset(
        space,
        {**_FOLLOWED, "steps": steps, "check": steps // masks, "step_passes": 43.0, "once": 900.0 * (masks + 1) + 30},
        {"kind": "bilevel", "reset": steps // masks},
    )
    for attack, space in (("adv2", _SETTLING), ("adv2-stadv", _BENDING))
    for preset, steps, masks in (("fast", 100, 4), ("thorough", 400, 8))
}
"""Rows that go before those of `PRESETS` where the target map is drawn."""


class Chosen(NamedTuple):
    """A preset's numbers, with the user's in place of some.

    Attributes:
        space: arguments of the search space, but for its budget.
        settings: those of the search.
        surrogate: options of the interpreter's surrogate, sorted by name.
    """

    space: dict[str, Any]
    settings: SearchSettings
    surrogate: tuple[tuple[str, Any], ...]


def options_of(
    attack: str,
    against: str | None,
    preset: str,
    overrides: Mapping[str, object],
    space_type: type[Ball | Flow],
    drawn: bool = False,
) -> Chosen:
    """Look a preset up and put the user's settings in.

    Args:
        attack: its name.
        against: the interpreter that it is made against.
        preset: paper, fast or thorough.
        overrides: the user's settings, which win over the preset's.
        space_type: the search space; its fields may be set, but for its budget.
        drawn: the target map is a shape or a file, the map of no image.

    Raises:
        UnderfireError: for an unknown preset, or a setting that the attack does not have or that makes no sense.
    """
    if preset not in PRESET_NAMES:
        raise unknown("preset", preset, PRESET_NAMES)
    rows = PRESETS | DRAWN if drawn else PRESETS
    row = rows.get((attack, against, preset)) or rows[attack, None, preset]
    space, search, surrogate = dict(row.space), dict(row.search), dict(row.surrogate)
    of_space = (f.name for f in fields(space_type) if f.name not in BUDGETS)
    homes = {**dict.fromkeys(of_space, space), **dict.fromkeys((f.name for f in fields(SearchSettings)), search)}
    for key, value in overrides.items():
        if key == "surrogate" and isinstance(value, Mapping):
            surrogate |= value
        elif key in homes:
            homes[key][key] = _schedule(value) if key in ("step", "lam") else value
        else:
            raise UnderfireError(f"'{attack}' has no setting '{key}': it has {', '.join(sorted(homes))}.")
    return Chosen(space, SearchSettings(**search), tuple(sorted(surrogate.items())))


def _schedule(value: object) -> Schedule:
    """Read a schedule: a number, or a mapping of start, end, shape and cycles."""
    if isinstance(value, Mapping):
        return Schedule(**value)
    if isinstance(value, int | float):
        return Schedule(float(value))
    raise UnderfireError(f"'{value}' is no schedule: give a number, or start, end and shape.")
