"""All presets in one table, and those for target maps that are drawn."""

from __future__ import annotations

from underfire.attacks.presets import ball, flow
from underfire.attacks.presets.row import FOLLOWED, FULL_MASK, Preset, Rows

PRESETS: Rows = {**ball.ON_PREDICTION, **ball.ON_BOTH, **flow.ON_PREDICTION, **flow.ON_BOTH}

DRAWN: Rows = {
    (attack, "mask", preset): Preset(
        space,
        {
            **FOLLOWED,
            "steps": steps,
            "check": steps // masks,
            "step_passes": 43.0,
            "once": FULL_MASK * (masks + 1) + 30,
        },
        {"kind": "bilevel", "reset": steps // masks},
        why="A shape or a file has no image whose walk leads to it, so `fast` and `thorough` follow the victim's mask "
        "as `paper` does. A step costs 43 F (free mask steps 12, held ones 28, the image 3), and each full mask 900 "
        "F: that is the real map, and it chooses among the iterates.",
    )
    for attack, space in (("adv2", ball.SETTLING), ("adv2-stadv", flow.BENDING))
    for preset, steps, masks in (("fast", 100, 4), ("thorough", 400, 8))
}
"""Rows that go before those of `PRESETS` where the target map is a shape or a file."""
