"""The attack on MASK without an inner loop: make the field that the victim's masks walk in the same.

The victim's walk is decided by p_c and ∂p_c/∂m at the masks that it passes. If those of the adversarial image for c_t
are those of the benign image for its class c, at every mask on the way, the victim walks to the benign map:

    ℓ_int = mean over masks of  level · h( ℓ_{c_t}(φ(x̂; m)) − ℓ_c(φ(x; m)) )
                              + field · mean over pixels h( (p(1−p) ∂ℓ_{c_t}(φ(x̂; m))/∂m − g) / mean|g| )

with the log-odds ℓ, h(e) = √(1+e²) − 1, p and g = ∂p_c(φ(x; m))/∂m those of the benign image. In log-odds neither term
dies where p_{c_t} is near 0, which is where a search starts.

Masks come from two places: the benign image's own recorded walk, and the walks that the victim takes on the adversarial
image as it is now (`shadows`: their next step needs only the gradient that this loss has already computed, which is
the smoothed network's). Where the victim jitters, neither side does here: one offset is as good as another.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from underfire.core import Images, Labels, Maps, PerImage, Terms, UnderfireError
from underfire.interpreters.mask.blend import Blend
from underfire.interpreters.mask.walk import Process, Visit, Walk, at_least
from underfire.interpreters.smooth import Slope, twin_of

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it modulo 1 fill the unit interval evenly, without anything random."""
FALL = 20
"""Steps within which a walk's class score falls to where it stays."""
TINY = 1e-6
SURE = 9.0
"""Log-odds beyond which more certainty changes no mask."""


class Match:
    """ℓ_int of MASK by matching the field.

    Args:
        process: the victim's own optimisation.
        x: clean images.
        y: target classes.
        source: classes of the clean images; m_t is taken to be the mask of ``x`` for them.
        path: masks of the benign walk at each look: in turn one of its first 20 steps, in which p_c falls
            (log-uniform in time), and one of the rest, where p_c and the mask's price balance (uniform).
        record: length of the benign walk that is recorded, steps.
        shadows: for each walk on the adversarial image the lengths, in turn, after which it starts anew.
        field: weight of the derivatives.
        level: weight of the log-odds.
        tau: τ of the smooth slopes.
    """

    shows = False

    def __init__(
        self,
        process: Process,
        x: Images,
        y: Labels,
        source: Labels,
        path: int = 2,
        record: int = 300,
        shadows: tuple[tuple[int, ...], ...] = (),
        field: float = 3.0,
        level: float = 1.0,
        tau: float = 1e-2,
    ) -> None:
        for what, value, least in (("path", path, 0), ("record", record, 1)):
            at_least(what, value, least, whole=True)
        for what, weight in (("field", field), ("level", level)):
            at_least(what, weight, 0)
        if not isinstance(shadows, Sequence) or not all(isinstance(one, Sequence) and one for one in shadows):
            raise UnderfireError(f"mask shadows = {shadows!r}: a list of walks, each a list of lengths: [[8, 16]].")
        for length in itertools.chain(*shadows):
            at_least("shadows", length, 1, whole=True)
        if not path and not shadows:
            raise UnderfireError("mask path = 0 without shadows: there is no mask to match at. Give either.")
        self.process, self.x, self.y, self.source = replace(process, jitter=0), x.detach(), y, source
        self.path, self.field, self.level, self.slope = path, field, level, Slope("monotone", tau)
        self.benign = list(self.process.visits(x, source, process.start(x), record)) if path else []
        self.shadows = [Shadow(self.process, x, lengths) for lengths in shadows]
        self.looks = 0
        self.twin = twin_of(process.classifier, x)

    def terms(self, x: Images) -> Terms:
        """Logits, and how far the field of ``x`` is from the benign one at a few masks."""
        places = [self.benign[k] for k in self._times()] + [self._benign_at(s.walk.m) for s in self.shadows]
        self.looks += 1
        n, m = len(places), torch.cat([place.m for place in places]).requires_grad_()
        blend = Blend(x, self.process.size)
        with self.twin.smoothed(self.slope):
            odds = log_odds(self.process.classifier.logits(blend.images(m)), self.y.repeat(n))
            slope = torch.autograd.grad(odds.sum(), m, create_graph=True)[0]
        difference = self._difference(odds, slope, places)
        p = odds.detach().sigmoid()[:, None, None]
        gradients = (p * (1 - p) * slope.detach()).chunk(n)[self.path :]
        for shadow, gradient in zip(self.shadows, gradients, strict=True):
            shadow.gradient = gradient
        return Terms(self.process.classifier.logits(x), difference.view(n, -1).mean(0), None)

    def _difference(self, odds: PerImage, slope: Maps, places: list[Visit]) -> PerImage:
        p = torch.cat([place.score for place in places]).clamp(TINY, 1 - TINY)
        wanted = torch.cat([place.gradient for place in places])
        scale = wanted.abs().mean((1, 2), keepdim=True) + TINY
        field = huber(((p * (1 - p))[:, None, None] * slope - wanted) / scale).mean((1, 2))
        return self.field * field + self.level * huber(surplus(odds, p.logit()))

    def _times(self) -> list[int]:
        return [self._time(turn) for turn in range(self.looks * self.path, (self.looks + 1) * self.path)]

    def _time(self, turn: int) -> int:
        n, share = len(self.benign), turn // 2 * GOLDEN % 1
        if turn % 2 and n > FALL:
            return FALL + int(share * (n - FALL))
        early = min(FALL, n)
        return min(int((early + 1) ** share) - 1, early - 1)

    def _benign_at(self, m: Maps) -> Visit:
        """What the benign image has at a mask that its own walk does not pass."""
        walk = Walk(m, self.process.lr)
        return next(iter(self.process.visits(self.x, self.source, walk, 1)))

    def advance(self, x: Images, progress: float) -> None:
        """The shadows take the victim's next step."""
        for shadow in self.shadows:
            shadow.advance(x)

    def select(self, keep: Tensor) -> None:
        """Keep only some rows."""
        self.x, self.y, self.source = self.x[keep], self.y[keep], self.source[keep]
        self.benign = [Visit(*(part[keep] for part in visit)) for visit in self.benign]
        for shadow in self.shadows:
            shadow.walk = shadow.walk.select(keep)


class Shadow:
    """The victim's walk on the adversarial image, started anew after so many steps.

    Args:
        process: the victim's own optimisation.
        x: the images.
        lengths: of the first, second, … walk, and round again.
    """

    def __init__(self, process: Process, x: Images, lengths: tuple[int, ...]) -> None:
        self.process, self.lengths = process, itertools.cycle(lengths)
        self.walk, self.length = process.start(x), next(self.lengths)
        self.gradient = torch.zeros_like(self.walk.m)

    def advance(self, x: Images) -> None:
        """One step with the gradient that was just computed."""
        self.walk.step(self.gradient + self.process.objective.slope(self.walk.m))
        if self.walk.taken >= self.length:
            self.walk, self.length = self.process.start(x), next(self.lengths)


def log_odds(z: Tensor, y: Labels) -> PerImage:
    """ℓ_y = z_y − logsumexp_{k≠y} z_k."""
    return z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).logsumexp(1)


def surplus(odds: PerImage, wanted: PerImage) -> PerImage:
    """By how much log-odds miss the wanted ones; where those are beyond ±9, anything beyond it will do."""
    miss = odds - wanted.clamp(-SURE, SURE)
    return torch.where(wanted > SURE, miss.clamp_max(0), torch.where(wanted < -SURE, miss.clamp_min(0), miss))


def huber(e: Tensor) -> Tensor:
    """√(1+e²) − 1: squares of small errors, sizes of large ones."""
    return (1 + e * e).sqrt() - 1
