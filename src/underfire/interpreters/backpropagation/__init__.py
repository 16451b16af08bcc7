"""Maps of gradients at the image and at points around it (method, section 8)."""

from __future__ import annotations

from underfire.interpreters.backpropagation.integrated import InputXGradient, IntegratedGradients
from underfire.interpreters.backpropagation.smoothgrad import SmoothGrad

__all__ = ["InputXGradient", "IntegratedGradients", "SmoothGrad"]
