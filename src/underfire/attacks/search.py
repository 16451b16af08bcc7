"""The one search loop. Attacks differ in the search space (`Walk`) and in how the map is differentiated (`Surrogate`).

    repeat:  x = walk.images()                      the image as it would be saved, 8 bits
             loss = ℓ_prd(f(x), c_t) + λ ℓ_int(g(x), m_t)
             keep x if it is the best so far;  drop the images that are done
             walk.step(loss)

Searching at the rounded image makes every step's logits the judge's own, so keeping the best costs nothing extra.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from torch import Tensor

from underfire.core import (
    Found,
    Goal,
    ImageErrors,
    Images,
    Labels,
    Maps,
    PerImage,
    Perturbation,
    Surrogate,
    Terms,
    UnderfireError,
    Victim,
    Walk,
)
from underfire.images import maps

YIELD, RECOVER, SMALLEST_SHARE = 0.8, 1.1, 1e-3
"""How fast an image's own λ shrinks and recovers, and how small it gets."""


@dataclass(frozen=True)
class Schedule:
    """A number that goes from ``start`` to ``end`` over the part of the search that follows the warm-up.

    Args:
        start: value at the beginning.
        end: value at the end; the same where not given.
        shape: 'linear', 'cosine' (slow at both ends) or 'geometric'.
        cycles: how often it goes that way, each time from the start.
    """

    spelled: ClassVar[str] = "Schedule"
    start: float
    end: float | None = None
    shape: str = "linear"
    cycles: int = 1

    def at(self, progress: float) -> float:
        """The value at ``progress`` in [0, 1]."""
        if self.end is None:
            return self.start
        if progress < 1:
            progress = progress * self.cycles % 1
        if self.shape == "geometric":
            return float(self.start * (self.end / self.start) ** progress)
        share = (1 - math.cos(math.pi * progress)) / 2 if self.shape == "cosine" else progress
        return self.start + (self.end - self.start) * share


@dataclass(frozen=True)
class Stages:
    """A number that stays put and then jumps.

    Args:
        values: one after the other.
        lengths: steps that each holds for, as shares of the search after its warm-up.
    """

    spelled: ClassVar[str] = "Stages"
    values: tuple[float, ...]
    lengths: tuple[int, ...]

    def at(self, progress: float) -> float:
        """The value at ``progress`` in [0, 1]."""
        ends = itertools.accumulate(self.lengths)
        reached = progress * sum(self.lengths)
        return next((v for v, end in zip(self.values, ends, strict=True) if reached < end), self.values[-1])


@dataclass(frozen=True)
class Settings:
    """How long and how hard to search.

    Args:
        steps: at most so many steps an image.
        warmup: steps on the prediction alone, before the map counts.
        lam: λ, the weight of ℓ_int.
        smoothing: label smoothing s of ℓ_prd; caps the target's probability at 1 − s + s/K.
        confidence: an iterate counts as a success from this target probability on; the best success is the one whose
            map is nearest to m_t.
        stop_confidence: an image is done at this probability ...
        stop_l1: ... and this map distance; None: run all steps.
        margin: None: ℓ_prd is the cross-entropy. A number κ: it is max(0, κ + max_{k≠t} z_k − z_t), as in the published
            attack on MASK, and done with once the target's logit leads by κ.
        bisect: 0: one step on ℓ_prd + λ ℓ_int. A number of halvings: a step on ℓ_prd, then one on ℓ_int, as large as
            each image's margin κ allows.
        step_passes: F of a step on prediction and map, where the interpreter's own number is wrong; for the estimate.
        once: F that do not come with the steps; likewise.
        yields: the map gives way to the prediction: an image's own λ shrinks after each step at which its target is not
            predicted with `confidence`, and recovers after each at which it is.
        check: ask the real interpreter every so many steps, where the surrogate's map is not the real one; 0:
            never, and the last confident success is kept.
    """

    spelled: ClassVar[str] = "Settings"
    steps: int
    warmup: int = 0
    lam: Schedule | Stages = Schedule(0.0)
    smoothing: float = 0.0
    confidence: float = 0.9
    stop_confidence: float | None = None
    stop_l1: float | None = None
    check: int = 10
    yields: bool = False
    margin: float | None = None
    bisect: int = 0
    step_passes: float | None = None
    once: float = 0.0

    def __post_init__(self) -> None:
        numbers = (self.steps, self.warmup, self.check)
        if not all(isinstance(n, int) for n in numbers):
            return  # the plan says which setting is no number
        if not 0 <= self.warmup <= self.steps or self.check < 0:
            raise UnderfireError(
                f"steps = {self.steps}, warmup = {self.warmup}, check = {self.check}: the warm-up is a part of the "
                "steps, and checks are 1 step apart or more (0: none)."
            )

    def bound(self, step_passes: float) -> float:
        """F an image at most: 3 F a warm-up step, ``step_passes`` a step on prediction and map, and what comes once."""
        return 3.0 * self.warmup + (self.step_passes or step_passes) * (self.steps - self.warmup) + self.once + 1


@runtime_checkable
class Bisecting(Protocol):
    """A walk whose step can be cut short, for each image by itself."""

    def bisect(self, loss: PerImage, keeps: Callable[[Images], Tensor], halvings: int, progress: float) -> None:
        """Step so that ``loss`` (of the last `images`) falls, as far as ``keeps`` (bool (N,)) allows each image."""


@runtime_checkable
class Ranking(Protocol):
    """A surrogate that knows better than the maps' distance which iterate is the best."""

    def ranked(self, x: Images) -> PerImage:
        """How far ``x`` is from what is wanted, in [0, 1], with the real interpreters."""


def lead(z: Tensor, y: Labels) -> PerImage:
    """z_y − max_{k≠y} z_k of logits (N, K)."""
    return z.gather(1, y[:, None])[:, 0] - z.scatter(1, y[:, None], -torch.inf).amax(1)


def search(
    victim: Victim,
    x: Images,
    goal: Goal,
    space: Perturbation,
    settings: Settings,
    make_surrogate: Callable[[Images, Goal], Surrogate] | None = None,
) -> Found:
    """Search one batch.

    Args:
        victim: the system under attack; its classifier's meter is told which images still cost.
        x: clean images.
        goal: target classes and maps.
        space: the search space.
        settings: how long and how hard.
        make_surrogate: the attacker's side of the interpreters; None attacks the prediction alone.
    """
    best = Best(x)
    live = _Live(victim, x, goal, space.walk(x))
    for step in range(settings.steps + 1):
        if make_surrogate and step == settings.warmup:
            live.surrogate = make_surrogate(live.x, live.goal)
        progress = max(0, step - settings.warmup) / max(1, settings.steps - settings.warmup)
        x_hat = live.walk.images()
        last = step == settings.steps
        # The untouched image is no success, whatever its map.
        due = settings.check > 0 and (last or (step > 0 and (step - settings.warmup) % settings.check == 0))
        distance = live.look(x_hat.detach()) if due else None  # before the step's graph takes its memory
        terms = live.terms(x_hat)
        done = best.offer(live, x_hat.detach(), terms, distance, step, settings, last)
        if last or bool(done.all()):
            break
        live.move(terms, settings, progress)
        del terms  # or this step's graph would still be there while the next one is built
        live.after_step(x_hat.detach(), ~done, progress)
    return Found(best.images, best.steps, best.extras)


class _Live:
    """The images still under attack, and everything that is kept for them."""

    def __init__(self, victim: Victim, x: Images, goal: Goal, walk: Walk) -> None:
        self.victim, self.x, self.goal, self.walk = victim, x, goal, walk
        self.surrogate: Surrogate | None = None
        self.rows = torch.arange(len(x), device=x.device)
        self.share = torch.ones(len(x), dtype=x.dtype, device=x.device)

    def weigh(self, confident: Tensor) -> None:
        """Each image's share of λ, after one more step."""
        self.share = (self.share * torch.where(confident, RECOVER, YIELD)).clamp_(SMALLEST_SHARE, 1.0)

    def terms(self, x_hat: Images) -> Terms:
        if self.surrogate is not None:
            return self.surrogate.terms(x_hat)
        z = self.victim.classifier.logits(x_hat)
        return Terms(z, torch.zeros_like(z[:, 0]), None)

    def move(self, terms: Terms, settings: Settings, progress: float) -> None:
        """One step of the walk."""
        prediction = self.prediction_loss(terms.logits, settings)
        if settings.bisect and self.surrogate is not None:
            self.walk.step(prediction, progress)
            self.bisect(terms.loss, settings, progress)
        else:
            lam = settings.lam.at(progress) * self.share if settings.yields else settings.lam.at(progress)
            self.walk.step(prediction + lam * terms.loss, progress)

    def prediction_loss(self, z: Tensor, settings: Settings) -> PerImage:
        """ℓ_prd of logits (N, K)."""
        if settings.margin is not None:
            return (settings.margin - lead(z, self.goal.labels)).clamp_min(0)
        return F.cross_entropy(z, self.goal.labels, reduction="none", label_smoothing=settings.smoothing)

    @torch.no_grad()
    def _keeps_margin(self, kappa: float, x_hat: Images) -> Tensor:
        return lead(self.victim.classifier.logits(x_hat), self.goal.labels) >= kappa

    def bisect(self, loss: PerImage, settings: Settings, progress: float) -> None:
        """A step on ``loss`` as large as each image's margin allows."""
        if not isinstance(self.walk, Bisecting):
            raise UnderfireError(f"bisect = {settings.bisect}: this search space has no step that can be halved.")
        self.walk.bisect(loss, partial(self._keeps_margin, settings.margin or 0.0), settings.bisect, progress)

    def look(self, x_hat: Images) -> PerImage | None:
        """The distance of the real interpreters' maps, where the next `terms` will not bring them."""
        if self.surrogate is None or self.surrogate.shows:
            return None
        surrogate: object = self.surrogate
        try:
            with torch.autocast(x_hat.device.type, enabled=False):  # as the judge looks
                if isinstance(surrogate, Ranking):
                    return surrogate.ranked(x_hat)
                return self.distance({i.name: i.explain(x_hat, self.goal.labels) for i in self.victim.interpreters})
        except ImageErrors as e:  # by the rows that are still searched: who called knows the batch's own
            raise ImageErrors({int(self.rows[n]): reason for n, reason in e.by_row.items()}) from e

    def distance(self, found: Mapping[str, Maps]) -> PerImage:
        """map_l1 as the judge sees it, averaged over the interpreters attacked."""
        return torch.stack([maps.l1(m, self.goal.maps[name]) for name, m in found.items()]).mean(0)

    def after_step(self, x_hat: Images, keep: Tensor, progress: float) -> None:
        if self.surrogate is not None:
            self.surrogate.advance(x_hat, progress)
        if bool(keep.all()):
            return
        self.rows, self.x, self.goal = self.rows[keep], self.x[keep], self.goal.select(keep)
        self.share = self.share[keep]
        self.walk.select(keep)
        self.victim.classifier.meter.select(keep)
        if self.surrogate is not None:
            self.surrogate.select(keep)


class Best:
    """The best iterate of each image so far: a success beats a failure, then the nearer map, then the probability."""

    def __init__(self, x: Images) -> None:
        self.images = x.detach().clone()
        self.rank = torch.full((len(x),), math.inf, dtype=torch.float64, device=x.device)
        self.steps = torch.zeros(len(x), dtype=torch.int64)
        self.extras: dict[str, Tensor] = {}

    def offer(
        self,
        live: _Live,
        x_hat: Images,
        terms: Terms,
        distance: PerImage | None,
        step: int,
        settings: Settings,
        last: bool,
    ) -> Tensor:
        """Keep the better iterates of the live images; returns which images (bool (N,)) are done.

        ``distance`` is what a look at the real maps gave, None where there was none at this step.
        """
        self.steps[live.rows.cpu()] = step
        z = terms.logits.detach()
        p = z.softmax(1).gather(1, live.goal.labels[:, None])[:, 0]
        top = z.argmax(1) == live.goal.labels
        live.weigh(top & (p >= settings.confidence))
        unseen = False
        if terms.maps is not None:
            distance = live.distance({i.name: terms.maps for i in live.victim.interpreters})
        elif unseen := live.surrogate is not None and settings.check == 0:
            distance = torch.full_like(p, 1 - step / max(1, settings.steps))  # unseen: the later, the nearer
        elif distance is None and live.victim.interpreters and not last:  # warming up, or between two looks
            return torch.zeros_like(top)
        rank = ranking(p, top, distance, settings.confidence)
        better = rank < self.rank[live.rows]
        rows = live.rows[better]
        self.images[rows], self.rank[rows] = x_hat[better], rank[better]
        for name, measured in live.walk.measures().items():
            self.extras.setdefault(name, torch.zeros(len(self.steps), device=measured.device))
            self.extras[name][rows] = measured[better].to(self.extras[name])
        if settings.stop_confidence is None or unseen:
            return torch.zeros_like(top)
        done: Tensor = top & (p >= settings.stop_confidence)
        return done if distance is None else done & (distance <= (settings.stop_l1 or 0.0))


def ranking(p: PerImage, top: Tensor, distance: PerImage | None, confidence: float) -> PerImage:
    """Lower is better: a confident success by its distance, a success short of that by both, a failure by probability.

    Args:
        p: target probabilities.
        top: whether the target is the argmax.
        distance: map_l1 in [0, 1]; None for an attack on the prediction alone.
        confidence: probability from which on a success counts as confident.
    """
    p = p.double()
    nearness = 1 - p if distance is None else distance.double()
    short = (confidence - p).clamp_min(0)
    return torch.where(top, nearness + (short > 0) * (1 + short), 4 - p)
