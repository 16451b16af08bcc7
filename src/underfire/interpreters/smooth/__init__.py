"""The smoothed twin: exact forward, smooth slopes, for the time of a `with` block (paper, section 3.2)."""

from underfire.interpreters.smooth.bend import SLOPES, Kinks, Slope
from underfire.interpreters.smooth.mode import Smoothed, smoothed
from underfire.interpreters.smooth.twin import Twin, twin_of

__all__ = ["SLOPES", "Kinks", "Slope", "Smoothed", "Twin", "smoothed", "twin_of"]
