"""The presets for the families of deployed explanations, and for interpreters of other packages.

One rule for all: λ counts in units of each photo's own map distance after a few steps on the prediction alone
(`relative`). A squared distance is 0.1 for one interpreter and 0.0004 for another, so an absolute λ has to be tuned for
each: by trial (method, section 8) 30 suited Grad-CAM, 300 Integrated Gradients and 10,000 attention rollout, and in
units of the distance these are all between 1 and 4. No interpreter has a number of its own here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from underfire.attacks.presets.row import Preset, Rows
from underfire.attacks.search import Schedule

BY_LAYER = ("gradcam", "hirescam", "gradcam++", "layercam", "relevance", "rollout")
"""Representation: maps that one pass shows."""
BY_POINTS = ("ig", "smoothgrad")
"""Back-propagation: maps of many points, a few of which are drawn anew at each step."""
AT_THE_IMAGE = ("inputxgrad",)
BY_REMOVAL = ("occlusion", "rise", "lime", "kernelshap")

RELATIVE = {"relative": True, "confidence": 0.95, "yields": True}
EVEN = Schedule(3.0)
"""λ where each step sees other points or masks: the distance that is left has noise, and the prediction must hold."""
LAST_WORD = Schedule(1.0, 30.0, "geometric")
"""λ where a step sees the whole map: the prediction falls first, and the map gets the last word. It is CAM's own λ,
from 10 to 300, in units of a distance of 0.1."""

Space = Mapping[str, Any]


def rows_of(attack: str, settling: Space, second_order: Space, matching: Space, longer: float = 1.0) -> Rows:
    """Make the rows of one attack on both, `fast` and `thorough`.

    Args:
        attack: its name.
        settling: the space where a step sees the whole map.
        second_order: the space where it is a gradient at some points.
        matching: the space where each step sees other masks.
        longer: how many times as many steps as in the ball.
    """
    rows: Rows = {}
    for preset, times in (("fast", longer), ("thorough", 3 * longer)):
        for names, row in _families(times, settling, second_order, matching):
            rows |= {(attack, name, preset): row for name in names}
    return rows


def _families(
    times: float, settling: Space, second_order: Space, matching: Space
) -> Iterator[tuple[tuple[str | None, ...], Preset]]:
    def steps(n: int) -> int:
        return round(n * times)

    yield (
        (None, *BY_LAYER),
        Preset(
            settling,
            {**RELATIVE, "steps": steps(190), "warmup": steps(5), "lam": LAST_WORD},
            why="A step costs 3 F to 7 F: second order from the chosen layer on, so a late layer costs little more.",
        ),
    )
    gradient = {**RELATIVE, "warmup": steps(10), "lam": EVEN, "smoothing": 0.01}
    yield AT_THE_IMAGE, Preset(second_order, {**gradient, "steps": steps(120)}, why="As GRAD, 7 F a step.")
    of_ig = {**gradient, "steps": steps(120), "check": steps(20), "once": 690.0}
    yield (
        ("ig",),
        Preset(second_order, of_ig, why="Two points a step, 17 F, and seven looks at the real map."),
    )
    yield (
        ("smoothgrad",),
        Preset(
            second_order,
            {**gradient, "steps": steps(90), "check": steps(20), "step_passes": 31.0, "once": 260.0},
            {"draws": 4},
            why="Four of the victim's copies a step, 31 F: so all 16 are seen within four steps.",
        ),
    )
    yield (
        BY_REMOVAL,
        Preset(
            matching,
            {**RELATIVE, "steps": steps(120), "warmup": steps(5), "lam": EVEN, "check": steps(40), "once": 2100.0},
            why="Eight masks a step, 27 F, the benign side of all masks, and four looks at the real map.",
        ),
    )
