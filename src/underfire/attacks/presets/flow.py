"""The presets of the attacks that bend the picture: `stadv` and `adv2-stadv`. Steps are in px at an input of 224 px."""

from __future__ import annotations

from underfire.attacks.presets.families import rows_of
from underfire.attacks.presets.row import (
    BESIDE,
    BY_LAYER,
    MAP_LAST,
    MASKS,
    MATCHED,
    PUBLISHED_LAM,
    RECORD,
    Preset,
    Rows,
)
from underfire.attacks.search import Schedule, Stages

PUBLISHED_FLOW = {
    **{"step": Schedule(0.01), "smooth": 5e-4 * 224 * 224, "momentum": 0.9, "memory": 0.999},
    **{"start": 0.1, "amsgrad": True, "diagonal": True, "restarts": True},
}
"""The authors' code (rev1/stadv_acid): Adam(0.01, amsgrad), a start in ± 0.1 px, τ = 5e-4 on the sum over the pixels of
a 224 px input, each compared with its four diagonal neighbours; a new Adam for the second stage. It has no bound, and
keeps every 50th iterate: ours has the bound of --max-shift, looks at every iterate and rounds colours to 8 bits."""
BENDING = {"step": Schedule(0.15, 0.005, "geometric"), "smooth": 0.5}
"""The step shrinks as the ball's does. 4 photos against CAM, 100 steps: from 0.1 to 0.005 px map_l1 0.0087 and a mean
flow of 0.23 px; from 0.15 px 0.0034 and 0.32 px; without the penalty on roughness 0.0026 and 0.48 px; with a flow at
half the resolution 0.045; with β₂ = 0.99 0.016."""
BENDING_ON_PREDICTION = {"step": Schedule(0.1, 0.02, "geometric"), "smooth": 0.5}
"""The map needs no last word here: the smallest bends that reach the class."""
BENDING_SECOND_ORDER = {"step": Schedule(0.1, 0.005, "geometric"), "smooth": 1.0}
"""2 photos against GRAD, 150 steps: from 0.15 px with half the penalty map_l1 is 0.020, but the mean flow 0.73 px."""
BENDING_MATCHING = {**BENDING, "smooth": 1.0}
"""On one photo at 96 px half the penalty gave a mean flow of 0.58 px and no nearer a map: both L1 are below 0.00001."""

ON_PREDICTION: Rows = {
    ("stadv", None, "paper"): Preset(
        PUBLISHED_FLOW,
        {"steps": 300},
        why="The authors' StAdv on the prediction: 300 steps of Adam on ℓ_prd + τ ℓ_flow, with no early stop.",
    ),
    ("stadv", None, "fast"): Preset(
        BENDING_ON_PREDICTION, {"steps": 100, "stop_confidence": 0.999}, why="As long as `pgd`, and stopped likewise."
    ),
    ("stadv", None, "thorough"): Preset(
        BENDING_ON_PREDICTION, {"steps": 300, "stop_confidence": 0.9999}, why="As long as `pgd`, and stopped likewise."
    ),
}

OF_WHOLE_MAPS = {
    "fast": Preset(
        BENDING,
        {"steps": 100, "lam": MAP_LAST, "confidence": 0.95, "yields": True},
        why="More steps than in the ball, since small bends go a shorter way in each.",
    ),
    "thorough": Preset(
        BENDING,
        {"steps": 250, "lam": MAP_LAST, "confidence": 0.95, "yields": True},
        why="As `fast`, with two and a half times its steps.",
    ),
}
"""CAM, RTS and RTSᴬ, and the ensemble, which has no rows of its own here."""
WHOLE_MAPS = ("cam", "rts", "rts-a", "rts-aid", "ensemble")

ON_BOTH: Rows = {
    **rows_of("adv2-stadv", BENDING, BENDING_SECOND_ORDER, BENDING_MATCHING, longer=1.5),
    ("adv2-stadv", None, "paper"): Preset(
        PUBLISHED_FLOW,
        {"steps": 800, "warmup": 200, "lam": PUBLISHED_LAM, "prediction": 2.0},
        why="The authors' recipe against CAM: 200 steps on ℓ_prd + τ ℓ_flow, then 600 on 2 ℓ_prd + c ℓ_int + τ ℓ_flow "
        "with c from 5 to 10.",
    ),
    ("adv2-stadv", "rts", "paper"): Preset(
        PUBLISHED_FLOW,
        {"steps": 800, "warmup": 200, "lam": PUBLISHED_LAM, "prediction": 1.1},
        why="The authors' recipe against RTS: as against CAM, with ℓ_prd + 0.1 of the encoder's class loss, which is "
        "ℓ_prd itself here: the encoder is the classifier.",
    ),
    ("adv2-stadv", "grad", "paper"): Preset(
        PUBLISHED_FLOW,
        {
            "steps": 1154,
            "warmup": 450,
            "lam": Stages(tuple(c * 56 * 56 for c in (0.003, 0.01, 0.05, 0.2)), (301, 201, 101, 101)),
            "confidence": 0.75,
            "check": 10,
        },
        {"slope": "published", "tau": 1e-4},
        why="The authors' recipe against GRAD: 450 steps on the prediction, 704 on both with c · sum(diff²) of the "
        "56×56 map in four stages; every 10 steps a look at the real map, and the nearest one with p > 0.75 is kept. "
        "Their Adam begins anew at each stage, ours at the first.",
    ),
    **{("adv2-stadv", name, preset): row for name in WHOLE_MAPS for preset, row in OF_WHOLE_MAPS.items()},
    ("adv2-stadv", "grad", "fast"): Preset(
        BENDING_SECOND_ORDER,
        {"steps": 150, "warmup": 10, "lam": Schedule(300.0), "smoothing": 0.01, "confidence": 0.95},
        BY_LAYER,
        why="λ, warm-up and label smoothing are those of the ball's attack on GRAD.",
    ),
    ("adv2-stadv", "grad", "thorough"): Preset(
        BENDING_SECOND_ORDER,
        {"steps": 400, "warmup": 10, "lam": Schedule(300.0), "smoothing": 0.005, "confidence": 0.98},
        BY_LAYER,
        why="λ, warm-up and label smoothing are those of the ball's patient attack on GRAD.",
    ),
    ("adv2-stadv", "mask", "paper"): Preset(
        {**PUBLISHED_FLOW, "step": Schedule(0.005), "smooth": 0.004 * 224 * 224},
        {
            **{"steps": 1400, "warmup": 400, "lam": Schedule(500.0 * 28 * 28), "margin": 5.0},
            **{"check": 50, "step_passes": 43.0, "once": MASKS},
        },
        {"kind": "bilevel"},
        why="The authors' recipe against MASK: 400 steps on the margin, then 1,000 on the margin + 500 sum(diff²) of "
        "the 28×28 mask + 0.004 ℓ_flow with Adam(0.005). Theirs starts with Adam(0.01) and τ = 5e-4; ours has the "
        "second stage's numbers throughout.",
    ),
    ("adv2-stadv", "mask", "fast"): Preset(
        BENDING_MATCHING,
        {**MATCHED, "steps": 250, "once": RECORD},
        BESIDE,
        why="More steps than in the ball, since small bends go a shorter way in each; 20 F a step as there, so that "
        "250 of them and the record cost 5,460 F, one and a half times what the ball's attack does.",
    ),
    ("adv2-stadv", "mask", "thorough"): Preset(
        BENDING_MATCHING,
        {**MATCHED, "steps": 1000, "once": RECORD},
        BESIDE,
        why="As `fast`, with four times its steps.",
    ),
}
