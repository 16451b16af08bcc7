"""The attack on a map by removal through the map itself: the scores at a few masks, chosen anew at each step.

    m̂ = min-max scaled evidence(M, ŝ) ,   ŝ_k = the score last seen at mask k ,   ℓ_int = mean (m̂ − m_t)²

To match the benign scores is more than the map needs, and sometimes more than can be: the adversarial image is to be
sure of its class at 0.95, and cannot have the scores of a benign one that is sure at 0.25. Most maps do not change when
all scores are multiplied or moved, so the map can still be the same.

Evidence is a linear function of the scores. So what each mask's score does to ℓ_int is known without a pass; a step
looks at the masks that matter most, each with the weight that makes up for how often it is looked at.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Goal, Images, Maps, PerImage, Terms
from underfire.heads import head_of
from underfire.images import maps
from underfire.interpreters.drawn import GOLDEN
from underfire.interpreters.removal.surrogate import of_rows

if TYPE_CHECKING:
    from underfire.interpreters.removal.removal_map import RemovalMap

LEAST = 0.02
"""The smallest slope p (1 − p) of a score by its log-odds: where a score is 0 or 1, there must be a way back."""


class MatchedMap:
    """The attacker's side of a map by removal, by its map.

    Args:
        interpreter: whose map it is.
        x: clean images (N, 3, H, W).
        goal: the target classes and maps.
        looks: masks that a step looks at.
        known: whether the attacker knows the victim's masks; else he draws masks of the same kind.
        stock: masks that he draws then.
        even: share of the looks that goes to all masks evenly, in (0, 1]; the others go to the masks that matter.
        rounds: how often all masks are looked at, evenly over the search; those that seem not to matter are seldom
            looked at in between.
        top: weight of the edge of the brightest fifth (`maps.crossed`).
    """

    shows = False

    def __init__(
        self,
        interpreter: RemovalMap,
        x: Images,
        goal: Goal,
        looks: Annotated[int, Field(ge=1)] = 8,
        known: bool = True,
        stock: Annotated[int, Field(ge=1)] = 256,
        even: Annotated[float, Field(gt=0, le=1)] = 0.25,
        rounds: Annotated[int, Field(ge=1)] = 3,
        top: Annotated[float, Field(ge=0)] = 0.0,
    ) -> None:
        self.interpreter, self.goal, self.looks, self.even, self.top = interpreter, goal, looks, even, top
        self.masks = interpreter.masks(x.detach()) if known else interpreter.draws(x.detach(), stock)
        self.head = head_of(interpreter.classifier)
        self.rows = torch.arange(len(x), device=x.device)
        """Which images of the whole batch these are."""
        self.odds = x.new_zeros(len(x), self.masks.n)
        """The log-odds last seen at each mask, of the whole batch."""
        self.taken, self.rounds, self.progress, self.round = 0, rounds, 0.0, 0

    def terms(self, x: Images) -> Terms:
        """Compute the logits and ℓ_int; of the scores, those at a few masks are new and have a graph."""
        if self.progress * self.rounds >= self.round:
            self._see_all(x)
            self.round += 1
        k, weight = self._chosen()
        images = [self.interpreter.masked(x, self._keep(one)) for one in k]
        z = self.interpreter.classifier.logits(torch.cat([x, *images]))
        odds = self.head.log_odds(z[len(x) :], self.goal.labels.repeat(len(k))).view(len(k), -1)
        self.odds[self.rows, k] = odds.detach()
        scores = self.odds[self.rows].sigmoid()
        moved = weight * _slope(odds.detach()) * (odds - odds.detach())  # 0, with the slope of the scores
        scores = scores.index_put((torch.arange(len(x), device=x.device).expand_as(k), k), moved, accumulate=True)
        m = self._map(scores)
        return Terms(z[: len(x)], self._distance(m), None, m)

    @torch.no_grad()
    def _see_all(self, x: Images) -> None:
        """Look at all masks, of the images that are left."""
        looks = self.interpreter.logits(x.detach(), self.masks, self.rows)
        self.odds[self.rows] = torch.stack([self.head.log_odds(z, self.goal.labels) for z in looks], 1)

    def _chosen(self) -> tuple[Tensor, Tensor]:
        """Choose masks (looks, n) for each image, and weigh each by how seldom it is chosen."""
        size = self._matters()
        n = size.shape[1]
        total = size.sum(1, keepdim=True).clamp_min(torch.finfo(size.dtype).tiny)
        share = (1 - self.even) * size / total + self.even / n
        turns = torch.arange(self.taken, self.taken + self.looks, device=size.device)
        self.taken += self.looks
        drawn = ((turns + 0.5) * GOLDEN % 1).to(share).expand(len(share), -1).contiguous()
        k = torch.searchsorted(share.cumsum(1), drawn).clamp_max(n - 1)
        return k.T, 1 / (self.looks * share.gather(1, k)).T

    def _matters(self) -> Tensor:
        """Compute how far ℓ_int moves with the log-odds at each mask (n, masks)."""
        odds = self.odds[self.rows]
        with torch.enable_grad():
            scores = odds.sigmoid().requires_grad_()
            (slope,) = torch.autograd.grad(self._distance(self._map(scores)).sum(), scores)
        return slope.abs() * _slope(odds)

    def _map(self, scores: Tensor) -> Maps:
        """Compute maps (n, h, w) of scores (n, masks) of the images that are left."""
        of_all = scores.new_zeros(self.odds.shape).index_put((self.rows,), scores)
        return maps.unit_scale(self.masks.evidence(of_all)[self.rows])

    def _distance(self, m: Maps) -> PerImage:
        return maps.apart(m, self.goal.maps[self.interpreter.name].to(m), self.top)

    def _keep(self, k: Tensor) -> Tensor:
        """Make the masks (n, 1, H, W) with the numbers ``k`` (n,)."""
        each = zip(k.tolist(), self.rows[:, None], strict=True)
        return torch.cat([of_rows(self.masks.keep(one), row) for one, row in each])

    def advance(self, x: Images, progress: float) -> None:
        """Note how much of the search is over."""
        self.progress = progress

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal, self.rows = self.goal.select(keep), self.rows[keep]


def _slope(odds: Tensor) -> Tensor:
    """Compute the slope of scores by their log-odds, at least `LEAST`."""
    p = odds.sigmoid()
    return (p * (1 - p)).clamp_min(LEAST)
