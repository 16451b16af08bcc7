"""Attributions of Captum: `captum:Saliency`, `captum:DeepLift`, `captum:GradientShap` and so on."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from underfire.core import Images, Labels
from underfire.interpreters.adapters.adapter import Adapter
from underfire.registry import register

GRID = 7
"""Cells a side of the segments that are given where an attribution works on features."""


@register("interpreters", "captum")
class Captum(Adapter):
    """Any attribution of Captum that fits, as a judge: |Σ colours|."""

    name = "captum:NAME"
    package, module = "captum", "captum.attr"

    @classmethod
    def explains(cls, kind: type) -> bool:
        """Tell whether a class attributes to the input."""
        from captum.attr import Attribution  # noqa: PLC0415 (an extra)
        from captum.attr._utils.attribution import InternalAttribution  # noqa: PLC0415

        return issubclass(kind, Attribution) and not issubclass(kind, InternalAttribution) and kind is not Attribution

    def evidence(self, x: Images, y: Labels) -> Tensor:
        """Compute |Σ colours attribution|."""
        attribution = self.kind(self.network)
        known = inspect.signature(attribution.attribute).parameters
        given = {key: value for key, value in usual(x).items() if key in known}
        found: Tensor = attribution.attribute(x, target=y, **{**given, **self.options})
        return found.sum(1).abs()


def usual(x: Images) -> Mapping[str, Any]:
    """Give what attributions ask for beside the image, by the names of their arguments."""
    h, w = x.shape[2:]
    rows, columns = (torch.arange(n, device=x.device) * GRID // n for n in (h, w))
    patch = max(1, h // 8), max(1, w // 8)
    return {
        "baselines": torch.zeros_like(x),
        "feature_mask": (rows[:, None] * GRID + columns)[None, None],
        "sliding_window_shapes": (3, *patch),
        "strides": (3, *(max(1, side // 2) for side in patch)),
    }
