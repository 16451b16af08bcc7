"""The smoothed twin of a network: exact forward, smooth slopes, so that its gradient has a gradient."""

from __future__ import annotations

from underfire.interpreters.smooth.slopes import Kinks, Slope
from underfire.interpreters.smooth.twin import smoothed

__all__ = ["Kinks", "Slope", "smoothed"]
