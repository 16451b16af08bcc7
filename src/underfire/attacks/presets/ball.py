"""The presets of the attacks in the L∞ ball: `pgd` and `adv2`."""

from __future__ import annotations

from dataclasses import replace

from underfire.attacks.presets.families import rows_of
from underfire.attacks.presets.row import (
    BESIDE,
    BY_LAYER,
    FULL_MASK,
    MAP_LAST,
    MASKS,
    MATCHED,
    PUBLISHED_LAM,
    RECORD,
    Preset,
    Rows,
)
from underfire.attacks.search import Schedule, Stages

PUBLISHED_STEP = {"step": Schedule(1.0)}
"""Sign steps of one level at ε = 8: the recipe's 1/255 (method, section 4)."""
SETTLING = {"step": Schedule(2.0, 0.01, "geometric"), "momentum": 0.75}
"""Constant steps of a level keep the iterate bouncing between roundings. Steps that start at two levels cross the ball
in four; shrinking geometrically to a hundredth of a level settles the last rounding decisions one by one. On 8 photos
with 60 steps: map_l1 0.0010, where a cosine from 2 to 0.02 gave 0.0026 and a cosine from 2 to 0.1 some 0.006."""
SETTLING_SECOND_ORDER = {"step": Schedule(2.0, 0.02, "geometric"), "momentum": 0.75}
MATCHING = {"step": Schedule(2.0, 0.02, "geometric"), "momentum": 0.9}
"""Matching looks at other masks at each step, so the momentum averages over some ten of them."""

GRAD = {"warmup": 10, "lam": Schedule(300.0), "yields": True}
"""The map gives way: on the 128 px ResNet-50 6 of 6 photos reached their target, and 5 without. λ weighs the mean
squared difference; at 1,000 a photo in four loses its confidence."""
JOINT = {"lam": MAP_LAST, "confidence": 0.5, "yields": True, "check": 5, "once": 80.0}
"""The ensemble and its alarm: a look at the real maps and the score every fifth step costs 12 F beside a step's 27. A
quiet picture counts from a probability of ½ on, since a loud one that is surer of itself is no success."""

ON_PREDICTION: Rows = {
    ("pgd", None, "paper"): Preset(PUBLISHED_STEP, {"steps": 1200}, why="The recipe: results are read at step 1,200."),
    ("pgd", None, "fast"): Preset(
        {"step": Schedule(1.0, 0.25, "cosine"), "momentum": 0.75},
        {"steps": 100, "stop_confidence": 0.999},
        why="A random target falls in some 10 steps; the cap is for the stubborn image. An image stops at a "
        "probability of 0.999, measured on the rounded image.",
    ),
    ("pgd", None, "thorough"): Preset(
        {"step": Schedule(1.0, 0.1, "cosine"), "momentum": 0.75},
        {"steps": 300, "stop_confidence": 0.9999},
        why="Three times the patience of `fast`, down to smaller steps.",
    ),
}

OF_WHOLE_MAPS = {
    "fast": Preset(
        SETTLING,
        {"steps": 60, "lam": MAP_LAST, "confidence": 0.95, "yields": True},
        why="The map gives way where a photo can hardly be moved to its target: on the 128 px ResNet-50 8 of 8 photos "
        "reached it, and 7 without, at the same map distance.",
    ),
    "thorough": Preset(
        SETTLING,
        {"steps": 150, "lam": MAP_LAST, "confidence": 0.95, "yields": True},
        why="As `fast`, with two and a half times its steps.",
    ),
}
"""CAM, RTS and RTSᴬ: their maps come with the prediction."""
WHOLE_MAPS = ("cam", "rts-a", "rts-aid")
OF_MASKS = {preset: replace(row, surrogate={"loss": "odds"}) for preset, row in OF_WHOLE_MAPS.items()}
"""RTS: its masks are black nearly everywhere, and a square does not see the order of what is black. By the packaged
yardstick the square was forged on 44 % of 48 attacks, this on 81 %, at the same passes; twice the steps add nothing."""

ON_BOTH: Rows = {
    **rows_of("adv2", SETTLING, SETTLING_SECOND_ORDER, MATCHING),
    **{("adv2", "rts", preset): row for preset, row in OF_MASKS.items()},
    ("adv2", None, "paper"): Preset(
        PUBLISHED_STEP,
        {"steps": 1600, "warmup": 400, "lam": PUBLISHED_LAM},
        why="The recipe against CAM: 400 steps on the prediction, then 1,200 on both.",
    ),
    **{("adv2", name, preset): row for name in WHOLE_MAPS for preset, row in OF_WHOLE_MAPS.items()},
    ("adv2", "grad", "paper"): Preset(
        PUBLISHED_STEP,
        {
            "steps": 1004,
            "warmup": 300,
            "lam": Stages(tuple(c * 56 * 56 for c in (0.001, 0.004, 0.01, 0.05)), (301, 201, 101, 101)),
            "smoothing": 0.05,
            "confidence": 0.8,
            "check": 10,
        },
        {"slope": "published", "tau": 1e-4},
        why="The recipe against GRAD: 300 steps on the prediction, 704 on both with c · sum(diff²) of the 56×56 map "
        "in four stages (c · 3136 on the mean), label smoothing and the published slope; every 10 steps a look at the "
        "real map, and the nearest one with p > 0.8 is kept.",
    ),
    ("adv2", "grad", "fast"): Preset(
        SETTLING_SECOND_ORDER,
        {**GRAD, "steps": 120, "smoothing": 0.01, "confidence": 0.95},
        BY_LAYER,
        why="A step costs 7 F. The map comes nearer as the step shrinks, so the geometric decay does most of the work "
        "(docs/grad.md).",
    ),
    ("adv2", "grad", "thorough"): Preset(
        SETTLING_SECOND_ORDER,
        {**GRAD, "steps": 400, "smoothing": 0.005, "confidence": 0.98},
        BY_LAYER,
        why="More steps, and half the label smoothing for a higher confidence.",
    ),
    ("adv2", "rts", "paper"): Preset(
        PUBLISHED_STEP,
        {"steps": 1300, "warmup": 300, "lam": PUBLISHED_LAM},
        why="The recipe against RTS: 300 steps on the prediction, 1,000 on both. The encoder's class loss is ℓ_prd "
        "itself, since the encoder is the classifier: 0.1 × more of it would change nothing but the scale.",
    ),
    ("adv2", "ensemble", "fast"): Preset(
        SETTLING_SECOND_ORDER,
        {**JOINT, "steps": 120, "smoothing": 0.01},
        why="The whole ensemble and its alarm: as long as the search against GRAD, its hardest member.",
    ),
    ("adv2", "ensemble", "thorough"): Preset(
        SETTLING_SECOND_ORDER,
        {**JOINT, "steps": 400, "smoothing": 0.005},
        why="As long as the patient search against GRAD.",
    ),
    ("adv2", "mask", "paper"): Preset(
        PUBLISHED_STEP,
        {"steps": 1400, "warmup": 400, "margin": 5.0, "bisect": 10, "check": 50, "step_passes": 53.0, "once": MASKS},
        {"kind": "bilevel"},
        why="The recipe against MASK: 400 sign steps on the margin, then 1,000 times one margin step, 4 mask steps "
        "without and 4 with a graph, and a 10-step bisection; a full mask and reset every 50 (it chooses the best "
        "iterate too). A step: margin 3 F, free mask steps 12, held ones 28, bisection 10. κ is ours: a lead of 5 is "
        "a confidence of 0.99 or so.",
    ),
    ("adv2", "mask", "fast"): Preset(
        MATCHING,
        {**MATCHED, "steps": 150, "once": RECORD},
        BESIDE,
        why="A step costs 20 F: 7 for each of two masks, 3 for the benign image's side of the second, 3 for the "
        "image. Recording half of the benign walk costs 450 F; a look at the real map would cost 900 F, so there is "
        "none.",
    ),
    ("adv2", "mask", "thorough"): Preset(
        {**MATCHING, "step": Schedule(2.0, 0.02, "geometric", cycles=3)},
        {**MATCHED, "steps": 540, "check": 180, "once": RECORD + 3 * FULL_MASK},
        BESIDE,
        why="Longer searches alone come no nearer, so this one shrinks its steps three times over and looks at the "
        "real map after each time.",
    ),
}
