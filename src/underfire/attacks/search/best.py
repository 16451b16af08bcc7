"""The best iterate of each image so far."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from underfire.attacks.search.success import Reached, Success
from underfire.core import Images, PerImage


class Best:
    """The best iterate of each image so far, as `ranking` orders them; of equals the first.

    Args:
        x: (N, 3, H, W) clean images, which stay where nothing better is offered.
        success: what counts.
    """

    def __init__(self, x: Images, success: Success) -> None:
        self.success = success
        self.images = x.detach().clone()
        self.rank = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
        self.reached = torch.zeros(len(x), dtype=torch.bool, device=x.device)
        """(N,) whether what is kept has reached the target class."""
        self.extras: dict[str, Tensor] = {}

    def offer(
        self, rows: Tensor, x_hat: Images, reached: Reached, far: PerImage, measures: Mapping[str, PerImage]
    ) -> Tensor:
        """Keep the iterates that are better than what there is.

        Args:
            rows: (n,) which images of the batch these are.
            x_hat: (n, 3, H, W) their iterates.
            reached: how far their predictions have come.
            far: (n,) how far they are from the rest of the goal, in [0, 1]; compared among successes only.
            measures: further columns of the record, (n,) each.

        Returns:
            Bool (n,): which are better.
        """
        rank = ranking(reached, far, self.success)
        better = rank < self.rank[rows]
        rows = rows[better]
        self.images[rows], self.rank[rows], self.reached[rows] = x_hat[better], rank[better], reached.top[better]
        for name, measured in measures.items():
            column = self.extras.setdefault(name, torch.zeros(len(self.images), device=measured.device))
            column[rows] = measured[better].to(column)
        return better


def ranking(reached: Reached, far: PerImage, success: Success) -> PerImage:
    """Rank iterates; lower is better.

    A confident success ranks by ``far`` alone, in [0, 1]; a success that is not confident by ``far`` and by how much
    probability it lacks, in (1, 3]; a failure by the target's probability, in [3, 4].

    Args:
        reached: target probabilities, and whether the target is the prediction; (N,).
        far: (N,) in [0, 1], such as map_l1.
        success: what counts as confident.

    Returns:
        (N,) float64.
    """
    p = reached.p.double()
    short = (success.confidence - p).clamp_min(0)
    return torch.where(reached.top, far.double() + (short > 0) * (1 + short), 4 - p)
