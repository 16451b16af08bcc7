"""The smoothed twin of a network: exact forward, smooth slopes, for the time of a `with` block (paper, section 3.2).

A saliency map is itself a gradient, so moving it takes second derivatives, and ReLU has none. In the twin every kink
has a smooth slope.
"""

from underfire.interpreters.smooth.bend import SLOPES, Kinks, Slope
from underfire.interpreters.smooth.mode import Smoothed, smoothed
from underfire.interpreters.smooth.twin import Twin, twin_of

__all__ = ["SLOPES", "Kinks", "Slope", "Smoothed", "Twin", "smoothed", "twin_of"]
