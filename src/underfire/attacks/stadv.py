"""StAdv: spatial transformation (Xiao et al. 2018), on the prediction alone and, as StAdv-ADV², on prediction and map.

min_f  ℓ_prd(f(x̂), c_t) + λ ℓ_int(g(x̂; f), m_t) + smooth · roughness(f)   s.t.  x̂ = warp(x_o, f), ‖f(p)‖₂ ≤ max_shift
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from underfire.attacks.adv2 import joint_search
from underfire.attacks.flow import Flow
from underfire.attacks.presets import options_of
from underfire.attacks.search import Settings, search
from underfire.core import Found, Goal, Images, Victim
from underfire.registry import register

MAX_SHIFT = 2.0
"""px at 224 px: the default of --max-shift."""


@register("attacks", "stadv")
@dataclass(frozen=True)
class Stadv:
    """Reach the target class by bending the picture; the explanation is left to itself."""

    name: ClassVar[str] = "stadv"
    spelled: ClassVar[str] = "Stadv"
    fools_interpreter: ClassVar[bool] = False
    eps: ClassVar[int | None] = None
    flow: Flow
    settings: Settings

    @classmethod
    def make(
        cls, preset: str, against: str | None, eps: int, max_shift: float = MAX_SHIFT, **overrides: object
    ) -> Stadv:
        """The attack with a preset's settings; its bound is ``max_shift``, not ε."""
        flow, settings, _ = options_of(cls.name, None, preset, overrides, Flow)
        return cls(Flow(max_shift, **flow), Settings(**settings))

    def bound(self, step_passes: float) -> float:
        """F an image at most."""
        return self.settings.bound(3.0)

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Search; nothing here is random."""
        return search(Victim(victim.classifier), x, goal, self.flow, self.settings)


@register("attacks", "adv2-stadv")
@dataclass(frozen=True)
class Adv2Stadv:
    """Reach the target class and the target map by bending the picture."""

    name: ClassVar[str] = "adv2-stadv"
    spelled: ClassVar[str] = "Adv2Stadv"
    fools_interpreter: ClassVar[bool] = True
    eps: ClassVar[int | None] = None
    flow: Flow
    settings: Settings
    surrogate: tuple[tuple[str, Any], ...] = ()
    """Options of the interpreter's surrogate."""

    @classmethod
    def make(
        cls,
        preset: str,
        against: str | None,
        eps: int,
        max_shift: float = MAX_SHIFT,
        drawn: bool = False,
        **overrides: object,
    ) -> Adv2Stadv:
        """The attack with the preset's settings for the interpreter ``against``; its bound is ``max_shift``, not ε.

        ``drawn``: the target map is no image's.
        """
        flow, settings, surrogate = options_of(cls.name, against, preset, overrides, Flow, drawn)
        return cls(Flow(max_shift, **flow), Settings(**settings), tuple(sorted(surrogate.items())))

    def bound(self, step_passes: float) -> float:
        """F an image at most."""
        return self.settings.bound(step_passes)

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Search; nothing here is random."""
        return joint_search(victim, x, goal, self.flow, self.settings, self.surrogate)
