"""The published attack on MASK (method, section 2.7): a running mask follows the image, a few steps at a time.

m*(x) has no formula, so the attacker keeps a running mask m for the present image. Each look takes ``free`` of the
victim's own Adam steps without a graph, then ``held`` steps with one:

    m ← Adam(m; x)  (free times) ,   m_{j+1}(x) = clip(m_j(x) − lr · v̂₁(x) / √v̂₂)   (held times)
    ℓ_int = mean (1 − m_held(x) − m_t)²

The running mask lags behind. So after every ``reset`` looks it is optimised anew from ½, as the victim does it: this is
the real map, which also serves to choose the best iterate. Where the victim jitters, the real map has its jitter; the
steps between have none, since each offset holds for one step only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Images, Labels, Maps, Terms
from underfire.core.precision import judging
from underfire.images import maps
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.walk import Process, Walk, at_least
from underfire.interpreters.smooth import Slope, twin_of


class Bilevel:
    """The attacker's side of MASK by truncated unrolling.

    Args:
        process: the victim's own optimisation.
        y: target classes (N,).
        wanted: target maps m_t (N, h, w).
        free: mask steps without a graph at each look.
        held: mask steps with a graph at each look.
        reset: looks from one full optimisation to the next.
        tau: τ of the smooth slopes.

    Raises:
        UnderfireError: a setting that is no such number.
    """

    def __init__(
        self,
        process: Process,
        y: Labels,
        wanted: Maps,
        free: Annotated[int, Field(ge=0)] = 4,
        held: Annotated[int, Field(ge=1)] = 4,
        reset: Annotated[int, Field(ge=1)] = 50,
        tau: Annotated[float, Field(gt=0)] = 1e-2,
    ) -> None:
        for what, value, least in (("free", free, 0), ("held", held, 1), ("reset", reset, 1)):
            at_least(what, value, least, whole=True)
        self.process, self.y, self.wanted = process, y, wanted
        self.still = replace(process, jitter=0)
        self.free, self.held, self.reset = free, held, reset
        self.slope = Slope("monotone", tau)
        self.looks = 0
        self.walk = Walk(1 - wanted, process.lr)  # replaced at the first look

    @property
    def shows(self) -> bool:
        """Whether the next look is a reset, which gives the victim's map."""
        return self.looks % self.reset == 0

    def terms(self, x: Images) -> Terms:
        """Compute the logits, ℓ_int of the mask a few steps ahead and, after a reset, the real maps."""
        real = None
        if self.shows:
            self.walk = self.process.start(x)
            with judging():
                _follow(self.process, x, self.y, self.walk, self.process.steps)
            real = 1 - self.walk.m
        self.looks += 1
        _follow(self.still, x, self.y, self.walk, self.free)
        ahead = self._unrolled(x, self.walk)
        loss = maps.l2(1 - ahead.m, self.wanted)
        self.walk = ahead.detached()
        return Terms(self.process.classifier.logits(x), loss, real)

    def _unrolled(self, x: Images, walk: Walk) -> Walk:
        """Take ``held`` steps from ``walk``, as a function of ``x``."""
        ahead = walk.detached()
        blend, twin = Blend(x, self.process.size), twin_of(self.process.classifier, x)
        for _ in range(self.held):
            m = ahead.m if ahead.m.requires_grad else ahead.m.requires_grad_()
            with twin.smoothed(self.slope):  # the network only: the mask's own clamp keeps its kinks
                score = self.process.score(blend.images(m), self.y)
                gradient = torch.autograd.grad(score.sum(), m, create_graph=x.requires_grad)[0]
            ahead.step(gradient + self.process.objective.slope(m))
        return ahead

    def advance(self, x: Images, progress: float) -> None:
        """Do nothing: `terms` has moved the mask."""

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.y, self.wanted = self.y[keep], self.wanted[keep]
        self.walk = self.walk.select(keep)


def _follow(process: Process, x: Images, y: Labels, walk: Walk, steps: int) -> None:
    """Take the victim's next steps."""
    for _ in process.visits(x, y, walk, steps):
        pass
