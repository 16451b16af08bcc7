"""A row of the presets, and the pieces that rows share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from underfire.attacks.search import Schedule


@dataclass(frozen=True)
class Preset:
    """A row: the numbers, and why these.

    Args:
        space: arguments of the search space, but for its budget.
        search: arguments of `SearchSettings`.
        surrogate: options of the interpreter's surrogate.
        why: the reason for the numbers, and what was measured.
    """

    space: Mapping[str, Any]
    search: Mapping[str, Any]
    surrogate: Mapping[str, Any] = field(default_factory=dict)
    why: str = field(kw_only=True)


Rows: TypeAlias = dict[tuple[str, str | None, str], Preset]
"""(attack, interpreter, preset) -> row. None serves every interpreter without a row of its own, third parties' too."""

MAP_LAST = Schedule(10.0, 300.0, "geometric")
"""λ: the prediction falls first (10), and the map gets the last word (300). A constant 10 or 30 ends two to four times
as far from the map; a constant 100 or more costs confidence."""

PUBLISHED_LAM = Schedule(5.0, 10.0)
"""The recipe's c, linear from 5 to 10."""

MATCHED = {"lam": Schedule(1.0), "confidence": 0.95, "yields": True, "check": 0}
"""MASK by matching: the map gives way to the prediction, and nobody looks at the real map: the last confident iterate
is kept."""

FOLLOWED = {"lam": Schedule(1000.0), "confidence": 0.95, "yields": True}
"""MASK by following the victim's own mask. ℓ_int is a mean square here: on eight toy pictures λ = 10 → 300 ended at a
mean L1 of 0.34, λ = 300 at 0.19, λ = 1,000 at 0.09 with a confidence of 0.97."""

BESIDE = {"path": 1, "record": 150, "shadows": ((8, 16, 32, 64),), "field": 3.0}
"""MASK's surrogate for matching: at each step one mask of the recorded benign walk, and one where the victim itself
walks."""

BY_LAYER = {"by_layer": True}
"""τ in units of each layer (docs/grad.md). L1 with it and without, the same successes: 0.022 and 0.039 on the deployed
open_nsfw (24 photos), 0.032 and 0.035, 0.025 and 0.027 on the 128 px ResNet-50 and DenseNet-169 (48), 0.0156 and 0.0148
on EfficientNet-Lite0 (48)."""

FULL_MASK = 900.0
"""F of one MASK map."""
RECORD = 3 * 150 + 9.0
"""F of recording half of MASK's benign walk, and of the last look, which takes no step."""
MASKS = 21 * FULL_MASK + 30.0
"""F of the published attack's full masks, and of the last look, which takes no step."""
