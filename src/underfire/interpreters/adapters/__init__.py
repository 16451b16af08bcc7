"""Explanations of other libraries as judges: `captum:NAME` and `grad-cam:NAME`."""

from __future__ import annotations

from underfire.interpreters.adapters.captum_maps import Captum
from underfire.interpreters.adapters.grad_cam_maps import LibraryCam

__all__ = ["Captum", "LibraryCam"]
