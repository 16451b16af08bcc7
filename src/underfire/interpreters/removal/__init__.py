"""Maps of what the class score loses when parts of the image are removed (method, section 8)."""

from __future__ import annotations

from underfire.interpreters.removal.linear import KernelShap, Lime
from underfire.interpreters.removal.occlusion import Occlusion
from underfire.interpreters.removal.rise import Rise

__all__ = ["KernelShap", "Lime", "Occlusion", "Rise"]
