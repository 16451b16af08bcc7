"""The attack on maps by removal through the scores: the benign image's log-odds at masks of the victim's kind.

    ℓ_int = mean over masks of  ρ( ℓ_{c_t}(x̂ at M_k) − ℓ_c(x at M_k) ) ,   ρ(e) = √(1+e²) − 1

Every map of the family is a function of p at its masks. Where the log-odds of the adversarial image for c_t are those
of the benign image for c at masks that are drawn as the victim draws his, all of these maps are the benign ones. It is
of first order, and the benign image's side is paid once, for a stock of masks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Images, Labels, Terms
from underfire.heads import head_of
from underfire.interpreters.drawn import stride
from underfire.interpreters.mask.match import SURE, huber, surplus

if TYPE_CHECKING:
    from underfire.interpreters.removal.removal_map import RemovalMap


def of_rows(keep: Tensor, rows: Tensor | None) -> Tensor:
    """Pick the ``rows`` (n,) of a mask of each image (N, 1, H, W); one for all stays, and None picks all."""
    return keep if rows is None or len(keep) == 1 else keep[rows]


class RemovalSurrogate:
    """The attacker's side of a map by removal.

    Args:
        interpreter: whose map it is.
        x: reference images (N, 3, H, W): the clean images, or those whose maps are the target maps.
        y: target classes (N,).
        source: classes of the references (N,).
        looks: masks that a step looks at, in turn.
        known: whether the attacker knows the victim's masks; else he draws masks of the same kind.
        stock: masks that he draws then.
        sure: log-odds beyond which more certainty changes no score.
    """

    shows = False

    def __init__(
        self,
        interpreter: RemovalMap,
        x: Images,
        y: Labels,
        source: Labels,
        looks: Annotated[int, Field(ge=1)] = 8,
        known: bool = True,
        stock: Annotated[int, Field(ge=1)] = 256,
        sure: Annotated[float, Field(gt=0)] = SURE,
    ) -> None:
        self.interpreter, self.y, self.looks, self.taken = interpreter, y, looks, 0
        self.sure = sure
        self.masks = interpreter.masks(x.detach()) if known else interpreter.draws(x.detach(), stock)
        self.rows = torch.arange(len(x), device=x.device)
        self.head = head_of(interpreter.classifier)
        with torch.no_grad():
            benign = [self.head.log_odds(z, source) for z in interpreter.logits(x.detach(), self.masks)]
        self.benign = torch.stack(benign)

    def terms(self, x: Images) -> Terms:
        """Compute the logits and ℓ_int, at the next masks of the stock."""
        some = self._next()
        keeps = [of_rows(self.masks.keep(k), self.rows) for k in some]
        images = torch.cat([self.interpreter.masked(x, keep) for keep in keeps])
        z = self.interpreter.classifier.logits(torch.cat([x, images]))
        odds = self.head.log_odds(z[len(x) :], self.y.repeat(len(some))).view(len(some), -1)
        wanted = self.benign[some][:, self.rows]
        return Terms(z[: len(x)], huber(surplus(odds, wanted, self.sure)).mean(0), None)

    def _next(self) -> list[int]:
        """Take the next masks, spread evenly over the stock."""
        n = len(self.benign)
        taken = range(self.taken, self.taken + min(self.looks, n))
        self.taken += len(taken)
        return [k * stride(n) % n for k in taken]

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: `terms` takes other masks each time."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.y, self.rows = self.y[keep], self.rows[keep]
