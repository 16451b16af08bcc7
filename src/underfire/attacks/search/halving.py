"""The halved step: an image goes as far along a step as something that it has is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from underfire.core import Images, PerImage


@runtime_checkable
class Bisecting(Protocol):
    """A walk whose step can be cut short, for each image by itself."""

    def aim(self, loss: PerImage, progress: float) -> None:
        """Choose a whole step, so that ``loss`` (of the last `images`) falls."""

    def tried(self, share: PerImage) -> Images:
        """Show the images that lie at a ``share`` (N,) of the step."""

    def go(self, share: PerImage) -> None:
        """Take a ``share`` (N,) of the step."""


@torch.no_grad()
def halve(walk: Bisecting, keeps: Callable[[Images], Tensor], share: PerImage, halvings: int) -> None:
    """Take the largest share of a step that each image is allowed.

    Args:
        walk: where the step was aimed.
        keeps: images -> bool (N,), whether an image may go there.
        share: (N,) the share that every image may take, such as 0.
        halvings: the share is found to 2^−halvings.
    """
    for halving in range(1, halvings + 1):
        tried = share + 0.5**halving
        share = torch.where(keeps(walk.tried(tried)), tried, share)
    walk.go(share)
