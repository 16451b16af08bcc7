"""Maps of what a layer represents: its activations, weighed by their gradients (method, section 8)."""

from __future__ import annotations

from underfire.interpreters.representation.layer_maps import GradCam, GradCamPlusPlus, HiResCam, LayerCam

__all__ = ["GradCam", "GradCamPlusPlus", "HiResCam", "LayerCam"]
