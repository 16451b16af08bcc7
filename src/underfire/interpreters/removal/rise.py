"""RISE (Petsiuk et al. 2018): the mean of random masks, weighed by the class score of what they leave.

evidence = mean over k of p_c(x ⊙ M_k) M_k / p
"""

from __future__ import annotations

from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from underfire.core import Classifier, Images, UnderfireError
from underfire.interpreters.cells import by_cells, celled
from underfire.interpreters.drawn import generators
from underfire.interpreters.removal.removal_map import Masks, RemovalMap
from underfire.registry import register


@register("interpreters", "rise")
class Rise(RemovalMap):
    """RISE; the victim's masks are drawn from ``seed``, the same for every picture.

    Args:
        classifier: any classifier.
        n: number of masks; the authors take 4,000 or more.
        cells: cells of a mask a side, before it is enlarged.
        p: probability of a cell to be kept.
        seed: seed of the masks.
        fill: colour of what is removed.

    Raises:
        UnderfireError: more cells than pixels.
    """

    name = "rise"

    def __init__(
        self,
        classifier: Classifier,
        n: Annotated[int, Field(ge=2, le=100_000)] = 400,
        cells: Annotated[int, Field(ge=1)] = 7,
        p: Annotated[float, Field(gt=0, lt=1)] = 0.5,
        seed: int = 0,
        fill: str = "black",
    ) -> None:
        super().__init__(classifier, fill, n)
        if cells > self.side:
            raise UnderfireError(f"rise cells = {cells}: there are no more cells a side than pixels ({self.side}).")
        self.n, self.cells, self.p, self.seed = n, cells, p, seed
        self.digest = celled(self.digest, classifier)

    def masks(self, x: Images) -> Masks:
        """Draw the victim's masks."""
        return Enlarged(self, x, self.n, "rise")

    def draws(self, x: Images, n: int) -> Masks:
        """Draw masks of the same kind."""
        return Enlarged(self, x, n, "rise/attack")


class Enlarged(Masks):
    """Random cells, enlarged bilinearly and cut out at a random place.

    Args:
        rise: the interpreter.
        x: images (N, 3, H, W).
        n: masks of each.
        purpose: whose masks they are.
    """

    def __init__(self, rise: Rise, x: Images, n: int, purpose: str) -> None:
        self.n, self.side, self.x, self.p = n, rise.side, x, rise.p
        self.cell = -(-rise.side // rise.cells)
        started = generators(x, rise.seed, purpose)
        kept = [g.random((n, rise.cells + 1, rise.cells + 1)) < rise.p for g in started]
        self.kept = torch.from_numpy(np.stack(kept)).to(x)
        self.places = torch.from_numpy(np.stack([g.integers(self.cell, size=(n, 2)) for g in started]))
        self.enlarged = (rise.cells + 1) * self.cell

    def keep(self, k: int) -> Tensor:
        """Make the k-th mask of each image."""
        large = F.interpolate(self.kept[:, k, None], self.enlarged, mode="bilinear", align_corners=False)
        pairs = zip(large, self.places[:, k].tolist(), strict=True)
        return torch.stack([one[:, i : i + self.side, j : j + self.side] for one, (i, j) in pairs])

    def evidence(self, scores: Tensor) -> Tensor:
        """Compute the weighed mean of the masks, 4×4 averaged."""
        total = torch.zeros_like(self.x[:, :1])
        for k in range(self.n):
            total += scores[:, k, None, None, None].to(total) * self.keep(k)
        return by_cells((total / (self.n * self.p))[:, 0])
