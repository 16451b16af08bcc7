"""The images of a batch that are still under attack, and everything that is kept for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from underfire.attacks.search.file import FileWalk
from underfire.attacks.search.finite import POSITION, NotFinite, origin, rows_of
from underfire.attacks.search.halving import Bisecting, halve
from underfire.attacks.search.settings import SearchSettings
from underfire.attacks.search.walks import Keeping, Ranking, Resuming
from underfire.core import (
    Goal,
    ImageErrors,
    Images,
    Maps,
    PerImage,
    Perturbation,
    Resume,
    SearchWalk,
    Surrogate,
    Terms,
    UnderfireError,
    Victim,
)
from underfire.core.precision import judging
from underfire.heads import head_of
from underfire.images import maps

YIELD, RECOVER, SMALLEST_SHARE = 0.8, 1.1, 1e-3
"""Factors by which an image's own share of λ shrinks and recovers at a step, and the smallest share."""

SMALLEST_UNIT = 1e-6
"""The smallest ℓ_int that λ is counted in: below it the map has not moved."""


class LiveBatch:
    """The images still under attack; their numbers shrink as images are done.

    Args:
        victim: the system under attack; its classifier's meter is told which images still cost.
        x: (N, 3, H, W) clean images in [0, 1].
        goal: target classes and maps.
        walk: where in the search space the images are.
    """

    def __init__(self, victim: Victim, x: Images, goal: Goal, walk: SearchWalk) -> None:
        self.victim, self.x, self.goal, self.walk = victim, x, goal, walk
        self.head = head_of(victim.classifier)
        self.surrogate: Surrogate | None = None
        """The attacker's side of the interpreters; None while the search is on the prediction alone."""
        self.rows = torch.arange(len(x), device=x.device)
        """Which images of the whole batch these are."""
        self._shown = x
        self.share = torch.ones(len(x), dtype=x.dtype, device=x.device)
        """Each image's own share of λ, in (0, 1]."""
        self.unit: PerImage | None = None
        """(N,) ℓ_int of each image of the whole batch when the map began to count."""
        self.places: list[Tensor] | None = None
        """(N,) where the best of each image is; None: nobody asks."""
        self.stopped = False
        """Whether whoever watches has ended the search."""
        self.maps: Mapping[str, Maps] = {}
        """The real maps (n, h, w) that the last `see` measured, by interpreter; empty where it saw none."""

    def see(self, x_hat: Images, look: bool) -> tuple[Terms, PerImage | None]:
        """Run one forward pass, and find out how far the real maps are where this step tells.

        Args:
            x_hat: (n, 3, H, W) iterates of the live images.
            look: whether to ask the real interpreters where the forward pass does not bring their maps.

        Returns:
            The forward pass's terms, and the distance (n,) of the real maps; None where they were not seen.

        Raises:
            ImageErrors: for images without a map, or with scores, a loss or a map that are not finite, by their rows in
                the whole batch.
        """
        self.maps = {}
        looked = self._look(x_hat.detach()) if look else None  # before this step's graph takes its memory
        terms = self._terms(x_hat)
        self._shown = x_hat
        if terms.maps is not None:
            looked = self._distance({i.name: terms.maps.detach() for i in self.victim.interpreters})
        self._refuse_not_finite(terms, looked)
        return terms, looked

    def _refuse_not_finite(self, terms: Terms, distance: PerImage | None) -> None:
        seen = {"the classifier's scores": terms.logits.detach().isfinite().all(1)}
        seen["ℓ_int"] = terms.loss.detach().isfinite()
        if distance is not None:
            seen["the map"] = distance.isfinite()
        if bool(torch.stack([*seen.values()]).all()):
            return
        what, sound = next((what, sound) for what, sound in seen.items() if not bool(sound.all()))
        raise self._told(rows_of(~sound), f"{what} is not finite.".replace("scores is", "scores are"))

    def _told(self, rows: Sequence[int], seen: str) -> ImageErrors:
        """Find out why some of the live images met what is not finite."""
        why = "in the search " + origin(self.victim.classifier, self._shown.detach(), self._losses, seen)
        return ImageErrors({int(self.rows[n]): why for n in rows})

    def _losses(self, x_hat: Images) -> dict[str, PerImage]:
        terms = self._terms(x_hat)
        on_prediction = {"ℓ_prd": self.head.loss(terms.logits, self.goal.labels, self.goal.source)}
        return on_prediction if self.surrogate is None else {**on_prediction, "ℓ_int": terms.loss}

    def _terms(self, x_hat: Images) -> Terms:
        if self.surrogate is not None:
            return self.surrogate.terms(x_hat)
        z = self.victim.classifier.logits(x_hat)
        return Terms(z, torch.zeros_like(z[:, 0]), None)

    def _look(self, x_hat: Images) -> PerImage | None:
        if self.surrogate is None or self.surrogate.shows:
            return None
        surrogate: object = self.surrogate
        try:
            with judging():
                if isinstance(surrogate, Ranking):
                    return surrogate.ranked(x_hat)
                return self._distance({i.name: i.explain(x_hat, self.goal.labels) for i in self.victim.interpreters})
        except ImageErrors as e:
            raise ImageErrors({int(self.rows[n]): reason for n, reason in e.by_row.items()}) from e

    def _distance(self, found: Mapping[str, Maps]) -> PerImage:
        """Measure map_l1 as the judge does, averaged over the interpreters attacked."""
        self.maps = found
        return torch.stack([maps.l1(m, self.goal.maps[name]) for name, m in found.items()]).mean(0)

    def yield_lambda(self, confident: Tensor) -> None:
        """Let maps give way: λ shrinks for images that are not ``confident`` (bool (n,)), and recovers for others."""
        self.share = (self.share * torch.where(confident, RECOVER, YIELD)).clamp_(SMALLEST_SHARE, 1.0)

    def step(self, terms: Terms, settings: SearchSettings, progress: float) -> None:
        """Take one step of the walk, down ℓ_prd + λ ℓ_int or down one after the other.

        Raises:
            ImageErrors: for images whose gradient or position is not finite, by their rows in the whole batch.
        """
        prediction = self._prediction_loss(terms.logits, settings)
        try:
            if settings.bisect and self.surrogate is not None:
                map_loss = self._alone(terms.loss)
                self.walk.step(prediction, progress)
                self._bisect(map_loss, settings, progress)
            else:
                weight = settings.prediction if self.surrogate is not None else 1.0
                loss = weight * prediction + self._weight(terms, settings, progress) * terms.loss
                self.walk.step(loss, progress)
        except NotFinite as e:
            if e.what == POSITION:
                why = "in the search the step led to a position that is not finite."
                raise ImageErrors({int(self.rows[n]): why for n in e.by_row}) from e
            sum_of = "ℓ_prd" if self.surrogate is None else "ℓ_prd + λ ℓ_int"
            raise self._told(list(e.by_row), f"the gradient of {sum_of} is not finite.") from e

    def _weight(self, terms: Terms, settings: SearchSettings, progress: float) -> float | PerImage:
        """Give λ, or each image's own."""
        lam = settings.lam.at(progress)
        own: float | PerImage = lam * self.share if settings.yields else lam
        if settings.relative and self.surrogate is not None:
            if self.unit is None:
                self.unit = terms.loss.detach().clamp_min(SMALLEST_UNIT)
            own = own / self.unit[self.rows]
        return own

    def _alone(self, loss: PerImage) -> PerImage:
        """Give a loss with the same gradient and a graph of its own: the step before frees the other."""
        slope = torch.autograd.grad(loss.sum(), self._shown, retain_graph=True)[0]
        return (slope * self._shown).sum((1, 2, 3))

    def _prediction_loss(self, z: Tensor, settings: SearchSettings) -> PerImage:
        if settings.margin is not None:
            return (settings.margin - self._lead(z)).clamp_min(0)
        return self.head.loss(z, self.goal.labels, self.goal.source, settings.smoothing)

    def _lead(self, z: Tensor) -> PerImage:
        return self.head.lead(z, self.goal.labels, self.goal.source)

    def _bisect(self, loss: PerImage, settings: SearchSettings, progress: float) -> None:
        if not isinstance(self.walk, Bisecting):
            raise UnderfireError(f"bisect = {settings.bisect}: this search space has no step that can be halved.")
        self.walk.aim(loss, progress)
        halve(self.walk, partial(self._keeps_margin, settings.margin or 0.0), torch.zeros_like(loss), settings.bisect)

    @torch.no_grad()
    def _keeps_margin(self, kappa: float, x_hat: Images) -> Tensor:
        return self._lead(self.victim.classifier.logits(x_hat)) >= kappa

    def keep(self, better: Tensor) -> None:
        """Keep what is behind the last images in the rows ``better`` (bool (n,)), where that is more than they are."""
        if self.places is not None and isinstance(self.walk, Resuming):
            for n in better.nonzero()[:, 0].tolist():
                self.places[int(self.rows[n])] = self.walk.where(n)
        if isinstance(self.walk, Keeping):
            self.walk.keep(better)

    def parts(self) -> Sequence[Tensor]:
        """Return what was kept for each image of the whole batch; nothing where the images are all there is."""
        return self.walk.kept() if isinstance(self.walk, Keeping) else ()

    def advance(self, x_hat: Images, progress: float) -> None:
        """Move the surrogate's inner state after a step from ``x_hat``."""
        if self.surrogate is not None:
            self.surrogate.advance(x_hat, progress)

    def go_on(self, resume: Resume) -> None:
        """Go on where an earlier search was at its best, and remember where this one is."""
        if not isinstance(self.walk, Resuming):
            raise UnderfireError("This search space has no budget that can be made smaller: give a fixed one.")
        if resume.positions:
            self.walk.go_to(resume.positions)
        self.unit = resume.unit
        self.places = [self.walk.where(n) for n in range(len(self.rows))]

    def begin(self, space: Perturbation) -> None:
        """Begin anew at the clean images that are left, in another space and on the prediction alone."""
        self.surrogate = None
        if isinstance(self.walk, FileWalk):
            self.walk.begin(space)
        else:
            self.walk = space.walk(self.x)

    def select(self, keep: Tensor) -> None:
        """Keep only the images ``keep`` (bool (N,)) under attack; the others cost nothing from here on."""
        if bool(keep.all()):
            return
        self.rows, self.x, self.goal = self.rows[keep], self.x[keep], self.goal.select(keep)
        self.share = self.share[keep]
        self.walk.select(keep)
        self.victim.classifier.meter.select(keep)
        if self.surrogate is not None:
            self.surrogate.select(keep)
