"""The attack on MASK without an inner loop (method, section 2.7): the victim takes the walk of the benign image.

The victim's walk depends on p_c and ∂p_c/∂m at the masks that it passes, and on nothing else of the image. If those of
the adversarial image for c_t equal those of the benign image for its class c at every mask on the way, the victim walks
to the benign map:

    ℓ_int = mean over masks of  level · ρ( ℓ_{c_t}(φ(x̂; m)) − ℓ_c(φ(x; m)) )
                              + field · mean over pixels ρ( (p(1−p) ∂ℓ_{c_t}(φ(x̂; m))/∂m − g) / mean|g| )

with the log-odds ℓ, ρ(e) = √(1+e²) − 1, and p and g = ∂p_c(φ(x; m))/∂m of the benign image. With log-odds both terms
have a slope also where p_{c_t} is near 0, which is where a search starts.

The masks are those of two walks: the recorded walk of the benign image, and the walk that the victim takes on the
present adversarial image (`Shadow`). The next step of a shadow needs only the gradient that this loss has computed
already, which is that of the smoothed network. There is no jitter here, also where the victim jitters: one offset is as
good as another.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Images, Labels, Maps, PerImage, Terms, UnderfireError
from underfire.heads import head_of
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.recent import Recent
from underfire.interpreters.mask.walk import Process, Visit, Walk, at_least
from underfire.interpreters.smooth import Slope, twin_of

GOLDEN = (5**0.5 - 1) / 2
"""A number whose multiples, modulo 1, fill the unit interval evenly: nothing random is needed."""
FALL = 20
"""Steps within which the class score of a walk falls to where it stays."""
TINY = 1e-6
"""A number that keeps logarithms and divisions finite."""
SURE = 9.0
"""Log-odds beyond which more certainty changes no mask."""


class Match:
    """The attacker's side of MASK by matching class scores and their derivatives along the walk.

    Args:
        process: the victim's own optimisation.
        x: reference images (N, 3, H, W): the clean images, or those whose maps are the target maps.
        y: target classes (N,).
        source: classes of the references (N,); m_t is the mask of ``x`` for them.
        recent: the victim's walks, of which that of the references may be one.
        path: masks of the benign walk at each look: in turn one of its first 20 steps, where p_c falls (log-uniform in
            time), and one of the rest, where p_c and the mask's price balance (uniform).
        record: length of the benign walk that is recorded, in steps.
        shadows: for each walk on the adversarial image, the lengths after which it starts anew, in turn.
        field: weight of the derivatives.
        level: weight of the log-odds.
        tau: τ of the smooth slopes.

    Raises:
        UnderfireError: a setting that is no such number, or neither ``path`` nor ``shadows``.
    """

    shows = False

    def __init__(
        self,
        process: Process,
        x: Images,
        y: Labels,
        source: Labels,
        recent: Recent,
        path: Annotated[int, Field(ge=0)] = 2,
        record: Annotated[int, Field(ge=1)] = 300,
        shadows: tuple[tuple[Annotated[int, Field(ge=1)], ...], ...] = (),
        field: Annotated[float, Field(ge=0)] = 3.0,
        level: Annotated[float, Field(ge=0)] = 1.0,
        tau: Annotated[float, Field(gt=0)] = 1e-2,
    ) -> None:
        for what, value, least in (("path", path, 0), ("record", record, 1)):
            at_least(what, value, least, whole=True)
        for what, weight in (("field", field), ("level", level)):
            at_least(what, weight, 0)
        if not isinstance(shadows, Sequence) or not all(isinstance(one, Sequence) and one for one in shadows):
            raise UnderfireError(
                f"mask shadows = {shadows!r}: give a list of walks, each a list of lengths, such as [[8, 16]]."
            )
        for length in itertools.chain(*shadows):
            at_least("shadows", length, 1, whole=True)
        if not path and not shadows:
            raise UnderfireError("mask path = 0 without shadows: there is no mask to match at. Give one of the two.")
        self.process, self.x, self.y, self.source = replace(process, jitter=0), x.detach(), y, source
        self.path, self.field, self.level, self.slope = path, field, level, Slope("monotone", tau)
        self.benign = recent.walk(self.process, self.x, source, record) if path else []
        self.shadows = [Shadow(self.process, x, lengths) for lengths in shadows]
        self.looks = 0
        self.twin = twin_of(process.classifier, x)

    def terms(self, x: Images) -> Terms:
        """Compute the logits and ℓ_int, at a few masks."""
        visits = [self.benign[k] for k in self.times()] + [self._benign_at(s.walk.m) for s in self.shadows]
        self.looks += 1
        n, m = len(visits), torch.cat([visit.m for visit in visits]).requires_grad_()
        blend = Blend(x, self.process.size)
        with self.twin.smoothed(self.slope):
            z = self.process.classifier.logits(blend.images(m))
            odds = head_of(self.process.classifier).log_odds(z, self.y.repeat(n))
            slope = torch.autograd.grad(odds.sum(), m, create_graph=True)[0]
        difference = self._difference(odds, slope, visits)
        p = odds.detach().sigmoid()[:, None, None]
        gradients = (p * (1 - p) * slope.detach()).chunk(n)[self.path :]
        for shadow, gradient in zip(self.shadows, gradients, strict=True):
            shadow.gradient = gradient
        return Terms(self.process.classifier.logits(x), difference.view(n, -1).mean(0), None)

    def _difference(self, odds: PerImage, slope: Maps, visits: list[Visit]) -> PerImage:
        p = torch.cat([visit.score for visit in visits]).clamp(TINY, 1 - TINY)
        wanted = torch.cat([visit.gradient for visit in visits])
        scale = wanted.abs().mean((1, 2), keepdim=True) + TINY
        field = huber(((p * (1 - p))[:, None, None] * slope - wanted) / scale).mean((1, 2))
        return self.field * field + self.level * huber(surplus(odds, p.logit()))

    def times(self) -> list[int]:
        """Pick the steps of the benign walk whose masks the next look uses."""
        return [self._time(turn) for turn in range(self.looks * self.path, (self.looks + 1) * self.path)]

    def _time(self, turn: int) -> int:
        n, share = len(self.benign), turn // 2 * GOLDEN % 1
        if turn % 2 and n > FALL:
            return FALL + int(share * (n - FALL))
        early = min(FALL, n)
        return min(int((early + 1) ** share) - 1, early - 1)

    def _benign_at(self, m: Maps) -> Visit:
        """Compute the score and its derivative of the benign image at masks that its own walk does not pass."""
        walk = Walk(m, self.process.lr)
        return next(iter(self.process.visits(self.x, self.source, walk, 1)))

    def advance(self, x: Images, progress: float) -> None:
        """Take the next step of each shadow."""
        for shadow in self.shadows:
            shadow.advance(x)

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.x, self.y, self.source = self.x[keep], self.y[keep], self.source[keep]
        self.benign = [Visit(*(part[keep] for part in visit)) for visit in self.benign]
        for shadow in self.shadows:
            shadow.walk = shadow.walk.select(keep)


class Shadow:
    """The victim's walk on the present adversarial image, started anew again and again.

    Args:
        process: the victim's own optimisation.
        x: images (N, 3, H, W).
        lengths: length of the first, second, … walk, in steps; after the last the first comes again.
    """

    def __init__(self, process: Process, x: Images, lengths: tuple[int, ...]) -> None:
        self.process, self.lengths = process, itertools.cycle(lengths)
        self.walk, self.length = process.start(x), next(self.lengths)
        self.gradient = torch.zeros_like(self.walk.m)

    def advance(self, x: Images) -> None:
        """Take one step with the gradient that the last look has computed."""
        self.walk.step(self.gradient + self.process.objective.slope(self.walk.m))
        if self.walk.taken >= self.length:
            self.walk, self.length = self.process.start(x), next(self.lengths)


def surplus(odds: PerImage, wanted: PerImage, sure: float = SURE) -> PerImage:
    """Compute by how much log-odds (N,) miss the wanted ones; where these are beyond ±sure, any value beyond fits."""
    miss = odds - wanted.clamp(-sure, sure)
    return torch.where(wanted > sure, miss.clamp_max(0), torch.where(wanted < -sure, miss.clamp_min(0), miss))


def huber(e: Tensor) -> Tensor:
    """Compute ρ(e) = √(1+e²) − 1 of each element: near e²/2 for small errors, near |e| for large ones."""
    return (1 + e * e).sqrt() - 1
