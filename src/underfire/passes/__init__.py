"""What a pass through a network is made of, written so that a search can take it faster, or differentiate it twice."""

from underfire.passes.convolution import Depthwise, conv2d
from underfire.passes.layout import lies_last, line

__all__ = ["Depthwise", "conv2d", "lies_last", "line"]
