"""Occlusion (Zeiler & Fergus 2014): by how much the class score falls when a patch is covered.

evidence at a place = mean of p_c(x) − p_c(x with patch k covered) over the patches k that cover it
"""

from __future__ import annotations

import itertools
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Images, UnderfireError
from underfire.interpreters.removal.removal_map import Masks, RemovalMap
from underfire.interpreters.square import square_side
from underfire.registry import register


@register("interpreters", "occlusion")
class Occlusion(RemovalMap):
    """Occlusion by square patches.

    Args:
        classifier: any classifier.
        patch: side of a patch, px; by default an eighth of the input's side, 28 px at 224 px.
        stride: distance of neighbouring patches, px; by default half of a patch.
        fill: colour of the patch.

    Raises:
        UnderfireError: a patch that covers the whole input, or a stride with gaps between the patches.
    """

    name = "occlusion"

    def __init__(
        self,
        classifier: Classifier,
        patch: Annotated[int, Field(ge=1)] | None = None,
        stride: Annotated[int, Field(ge=1)] | None = None,
        fill: str = "grey",
    ) -> None:
        side = square_side(classifier, self.name)
        self.patch = patch or max(1, side // 8)
        self.stride = stride or max(1, self.patch // 2)
        if self.patch >= side or self.stride > self.patch:
            raise UnderfireError(
                f"occlusion patch = {self.patch}, stride = {self.stride}: a patch is smaller than the input ({side} "
                "px), and a stride no longer than a patch."
            )
        last = -(-(side - self.patch) // self.stride)
        self.starts = [min(k * self.stride, side - self.patch) for k in range(last + 1)]
        super().__init__(classifier, fill, len(self.starts) ** 2 + 1)

    def masks(self, x: Images) -> Masks:
        """Make a mask for each patch, and one that covers nothing."""
        return Patches(self, x)

    def draws(self, x: Images, n: int) -> Masks:
        """Make all masks: there are no others."""
        return self.masks(x)


class Patches(Masks):
    """A mask for each patch, row by row, after one that covers nothing."""

    def __init__(self, occlusion: Occlusion, x: Images) -> None:
        self.starts, self.patch, self.x = occlusion.starts, occlusion.patch, x
        self.n = len(self.starts) ** 2 + 1

    def keep(self, k: int) -> Tensor:
        """Make the mask of patch k − 1."""
        keep = torch.ones_like(self.x[:1, :1])
        if k:
            top, left = (self.starts[i] for i in divmod(k - 1, len(self.starts)))
            keep[..., top : top + self.patch, left : left + self.patch] = 0
        return keep

    def evidence(self, scores: Tensor) -> Tensor:
        """Compute the mean fall over the patches that cover a place, on the grid of the patches' edges."""
        edges = sorted({*self.starts, *(start + self.patch for start in self.starts)})
        centres = torch.tensor([(a + b) / 2 for a, b in itertools.pairwise(edges)])
        starts = torch.tensor(self.starts)[:, None]
        covers = ((starts <= centres) & (centres < starts + self.patch)).to(scores)
        falls = (scores[:, :1] - scores[:, 1:]).view(len(scores), len(self.starts), -1)
        total: Tensor = covers.T @ falls @ covers
        return total / (covers.sum(0)[:, None] * covers.sum(0))
