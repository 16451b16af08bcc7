"""The attack on an ensemble (method, section 6.1): each member's map is moved to its target, and no alarm is raised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Goal, Images, Maps, PerImage, Surrogate, Terms, UnsuitableError
from underfire.defenses.ensemble.score import distances, smoothed_copy
from underfire.heads import head_of
from underfire.images import maps

if TYPE_CHECKING:
    from underfire.defenses.ensemble.interpreter import Ensemble


class Joint:
    """The attacker's side of an ensemble: a weighted sum of the members' ℓ_int and the alarm's score.

    Args:
        ensemble: the defended system.
        x: clean images (N, 3, H, W).
        goal: the target classes; each member's target map is its own map of the references, or of the clean images.
        weights: member -> w_i; by default 1.
        alarm: w, the weight of the score; 0 moves the members' maps alone.
        margin: how far below the threshold the score shall fall.
        aim: the score to fall below, in place of the threshold less the margin; 0 means as low as possible. This is for
            a defender who may choose another threshold, and for the AUC.
        options: member -> options of its surrogate.
    """

    shows = False

    def __init__(
        self,
        ensemble: Ensemble,
        x: Images,
        goal: Goal,
        weights: Mapping[str, Annotated[float, Field(ge=0)]] | None = None,
        alarm: Annotated[float, Field(ge=0)] = 0.01,
        margin: float = 0.5,
        aim: float | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self.ensemble, self.alarm = ensemble, alarm
        calibrated = ensemble.threshold < float("inf")
        self.quiet = ensemble.threshold if aim is None else aim
        self.aim = (ensemble.threshold - margin if calibrated else -float("inf")) if aim is None else aim
        self.weights = {name: (weights or {}).get(name, 1.0) for name in ensemble.members}
        self.goal = self._goal(x, goal)
        self.parts: dict[str, Surrogate] = {
            name: member.surrogate(x, self.goal, **(options or {}).get(name, {}))
            for name, member in ensemble.members.items()
        }
        self.checked = False

    def _goal(self, x: Images, goal: Goal) -> Goal:
        if goal.drawn:
            wanted = goal.maps[self.ensemble.name]
            found = {
                name: maps.resize(wanted, (m.shape[1], m.shape[2])).to(x)
                for name, m in zip(self.ensemble.members, self.ensemble.shown(x, goal.source), strict=True)
            }
        else:
            references, y = goal.references or (x, goal.source)
            found = dict(zip(self.ensemble.members, self.ensemble.shown(references, y), strict=True))
        return Goal(goal.labels, goal.source, {**goal.maps, **found}, goal.references, goal.drawn)

    def terms(self, x: Images) -> Terms:
        """Compute the logits and the weighted sum; each member has its own forward."""
        parts = {name: part.terms(x) for name, part in self.parts.items()}
        loss = torch.stack([self.weights[name] * t.loss for name, t in parts.items()]).sum(0)
        if self.alarm:
            score = self._score({name: t.twin for name, t in parts.items() if t.twin is not None}, x)
            above = score if self.aim == -float("inf") else (score - self.aim).clamp_min(0)
            loss = loss + self.alarm * above
        return Terms(next(iter(parts.values())).logits, loss, None)

    def _score(self, twins: Mapping[str, Maps], x: Images) -> PerImage:
        """Compute the score of the members whose maps have a gradient; others, such as MASK, have their ℓ_int alone."""
        if not twins:
            raise UnsuitableError(
                f"The alarm's score has no gradient: none of its members {', '.join(self.parts)} has a map that can be "
                "differentiated. Attack the maps alone with --set 'ensemble.attack={alarm: 0}', or give the surrogate "
                "of a member a twin."
            )
        again, log_p = self._copies(x, list(twins))
        score = self.ensemble.score_of(list(twins.values()), again, log_p, list(twins))
        if not self.checked:
            self._check(score, twins, again, log_p, x)
        return score

    def _copies(self, x: Images, names: Sequence[str]) -> tuple[list[Maps], PerImage]:
        """Compute the twin maps of the images' copies, and the copies' log p of the target classes."""
        copy = smoothed_copy(x)
        terms = [self.parts[name].terms(copy) for name in names]
        log_p = head_of(self.ensemble.classifier).log_probability(terms[0].logits, self.goal.labels)
        return [t.twin for t in terms if t.twin is not None], log_p

    def ranked(self, x: Images) -> PerImage:
        """Rank images (N, 3, H, W): those without an alarm by the members' mean map_l1, in [0, ½); others by the score.

        The ranks of the others are in [½, 1). Members with costly maps, such as MASK, are left out, unless there are no
        others.
        """
        names = self.ensemble.cheap
        looks = self.ensemble.looks(x, self.goal.labels, names)
        l1 = torch.stack([maps.l1(m, self.goal.maps[name]) for name, m in zip(names, looks[0], strict=True)]).mean(0)
        above = (self.ensemble.score_of(*looks, names) - self.quiet).clamp_min(0).to(l1)
        return torch.where(above > 0, 1 + above / (1 + above), l1) / 2

    def _check(
        self, score: PerImage, twins: Mapping[str, Maps], again: Sequence[Maps], log_p: PerImage, x: Images
    ) -> None:
        """Check that the score has a true gradient, also by each member: a defense must not only hide its gradient."""
        self.checked = True
        self._refuse_false(score, self._refuse_flat(score, "", x), list(twins), x)
        d = distances(list(twins.values()), again, log_p)
        for column, name in enumerate(twins, 1):
            self._refuse_flat(d[:, column], f" through '{name}'", x)

    def _refuse_flat(self, of: PerImage, through: str, x: Images) -> Tensor:
        slope = torch.autograd.grad(of.sum(), x, retain_graph=True, allow_unused=True)[0] if of.requires_grad else None
        if slope is None:
            slope = torch.zeros_like(x)
        usable = (slope != 0).flatten(1).any(1) & slope.isfinite().flatten(1).all(1)
        self._refuse(~usable, through, x)
        return slope

    def _refuse_false(self, score: PerImage, slope: Tensor, names: Sequence[str], x: Images) -> None:
        """Refuse a gradient that is far too small: along it, the score must change as the gradient says."""
        after = (x + STEP * slope.sign()).detach().requires_grad_()
        shown = [twin for name in names if (twin := self.parts[name].terms(after).twin) is not None]
        change = (self.ensemble.score_of(shown, *self._copies(after, names), names) - score).detach().abs()
        told = STEP * slope.abs().sum((1, 2, 3))
        self._refuse((told < FALSE * change) | ~change.isfinite(), "", x)

    def _refuse(self, dead: Tensor, through: str, x: Images) -> None:
        if float(dead.float().mean()) >= NO_SLOPE:
            raise UnsuitableError(
                f"The alarm's score has no gradient to follow{through} on {int(dead.sum())} of {len(x)} images "
                f"(members {', '.join(self.ensemble.members)}): an attack that follows gradients says nothing about "
                "this defense. Give the members a differentiable surrogate."
            )

    def advance(self, x: Images, progress: float) -> None:
        """Move the inner state of every member."""
        for part in self.parts.values():
            part.advance(x, progress)

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep``."""
        self.goal = self.goal.select(keep)
        for part in self.parts.values():
            part.select(keep)


STEP, FALSE = 1e-4, 0.1
"""Length of the step that tests a gradient, and the factor by which the gradient may be too small."""
NO_SLOPE = 0.5
"""Share of images without a gradient of the score at which the attack is refused."""
