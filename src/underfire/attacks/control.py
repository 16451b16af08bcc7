"""Controls: what a change of the same size does by itself, and what ADV²'s own search does without its map term."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from underfire.attacks.adv2 import adv2 as adv2_maker
from underfire.attacks.search import PredictionAndMap, Schedule, SearchAttack, maker_of
from underfire.core import LEVELS, Found, Goal, Images, UnderfireError, Victim, unknown
from underfire.core.presets import PRESET_NAMES
from underfire.registry import register


@register("attacks", "noise")
@dataclass(frozen=True)
class Noise:
    """Random noise: each colour value moves up or down by the whole budget; a control, not an attack.

    Args:
        eps: how far, in whole levels of 255.
    """

    name: ClassVar[str] = "noise"
    fools_interpreter: ClassVar[bool] = False
    forges_files: ClassVar[bool] = True
    spelled: ClassVar[str] = "Noise"
    draws: ClassVar[bool] = True
    eps: Annotated[int, Field(ge=1, le=LEVELS)]

    @classmethod
    def make(cls, preset: str, against: str | None, eps: int, **overrides: Any) -> Noise:
        """Make it; presets and settings change nothing."""
        if preset not in PRESET_NAMES:
            raise unknown("preset", preset, PRESET_NAMES)
        if overrides:
            raise UnderfireError(f"'noise' has no setting '{next(iter(overrides))}'.")
        return cls(eps)

    def bound(self, step_passes: float) -> float:
        """Give the F of an image: none."""
        return 0.0

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Draw the noise of the clean images ``x`` (N, C, H, W), or of their files, each from its own seed."""
        steps = torch.zeros(len(x), dtype=torch.int64)
        if victim.files is None:
            return Found(torch.cat([self._noisy(*one) for one in zip(torch.split(x, 1), seeds, strict=True)]), steps)
        parts = [self._noisy(*one) for one in zip(victim.files.clean, seeds, strict=True)]
        levels = [(part * LEVELS).round().byte() for part in parts]
        return Found(victim.files.shown(levels), steps, {}, levels)

    def _noisy(self, image: Tensor, seed: int) -> Tensor:
        """Add noise to one image (1, C, H, W) in [0, 1]."""
        signs = torch.randint(0, 2, image.shape[1:], generator=torch.Generator().manual_seed(seed % 2**63)) * 2 - 1
        return ((image * LEVELS).round() + self.eps * signs.to(image)).clamp(0, LEVELS) / LEVELS


@register("attacks", "adv2-control")
@maker_of(PredictionAndMap)
def adv2_control(
    preset: str,
    against: str | None,
    eps: int,
    drawn: bool = False,
    rescue: bool | None = None,
    **overrides: object,
) -> SearchAttack:
    """Search as adv2 does, with λ = 0: the map does not count. A control, not an attack.

    The best iterate is chosen as adv2 chooses it, so what remains is what the term λ ℓ_int does.
    """
    chosen = adv2_maker.make(preset, against, eps, drawn=drawn, rescue=rescue, **overrides)
    settings = dataclasses.replace(chosen.settings, lam=Schedule(0.0), yields=False, bisect=0)
    return dataclasses.replace(chosen, name="adv2-control", settings=settings)
