"""Attack an ensemble: each member is drawn to its own benign map, and the alarm is kept quiet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Goal, Images, Maps, PerImage, Surrogate, Terms, UnderfireError
from underfire.defenses.ensemble.score import distances, log_probability, smoothed
from underfire.images import maps

if TYPE_CHECKING:
    from underfire.defenses.ensemble.interpreter import Ensemble


class Joint:
    """A surrogate that is a weighted sum of the members' and of the alarm's score.

    Args:
        ensemble: the defended system.
        x: clean images.
        goal: the target class; each member's target map is its own benign one (or that of the goal's model image).
        weights: member -> w_i; 1 where not given.
        alarm: w, the weight of the score; 0: the members' maps alone.
        margin: the score is pushed this far below the threshold.
        aim: the score that it is pushed below, in place of the threshold's; 0: as low as it goes. The attacker of a
            defender who may choose another threshold, and the one that an AUC is about.
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
            model, y = goal.models or (x, goal.source)
            found = dict(zip(self.ensemble.members, self.ensemble.shown(model, y), strict=True))
        return Goal(goal.labels, goal.source, {**goal.maps, **found}, goal.models, goal.drawn)

    def terms(self, x: Images) -> Terms:
        """Logits and the weighted sum; each member's forward is its own."""
        parts = {name: part.terms(x) for name, part in self.parts.items()}
        loss = torch.stack([self.weights[name] * t.loss for name, t in parts.items()]).sum(0)
        if self.alarm:
            score = self._score({name: t.twin for name, t in parts.items() if t.twin is not None}, x)
            above = score if self.aim == -float("inf") else (score - self.aim).clamp_min(0)
            loss = loss + self.alarm * above
        return Terms(next(iter(parts.values())).logits, loss, None)

    def _score(self, twins: Mapping[str, Maps], x: Images) -> PerImage:
        """The score of the members whose maps have a slope; the others' (MASK's) are drawn to benign ones alone."""
        if not twins:
            raise UnderfireError(
                f"The alarm's score has no gradient: none of its members {', '.join(self.parts)} has a map that can be "
                "differentiated. Attack the maps alone with --set 'ensemble.attack={alarm: 0}', or give a member's "
                "surrogate a twin."
            )
        again, log_p = self._copies(x, list(twins))
        score = self.ensemble.score_of(list(twins.values()), again, log_p, list(twins))
        if not self.checked:
            self._check(score, twins, again, log_p, x)
        return score

    def _copies(self, x: Images, names: Sequence[str]) -> tuple[list[Maps], PerImage]:
        """The twin maps of the images' copies, and log p of the wanted classes there."""
        copy = smoothed(x)
        terms = [self.parts[name].terms(copy) for name in names]
        return [t.twin for t in terms if t.twin is not None], log_probability(terms[0].logits, self.goal.labels)

    def ranked(self, x: Images) -> PerImage:
        """Quiet iterates come first, by the members' mean map_l1 in [0, ½); then loud ones, by the score in [½, 1).

        Members whose maps are optimisations of their own (MASK's) are left out, unless there are no others.
        """
        names = self.ensemble.cheap
        looks = self.ensemble.looks(x, self.goal.labels, names)
        l1 = torch.stack([maps.l1(m, self.goal.maps[name]) for name, m in zip(names, looks[0], strict=True)]).mean(0)
        above = (self.ensemble.score_of(*looks, names) - self.quiet).clamp_min(0).to(l1)
        return torch.where(above > 0, 1 + above / (1 + above), l1) / 2

    def _check(
        self, score: PerImage, twins: Mapping[str, Maps], again: Sequence[Maps], log_p: PerImage, x: Images
    ) -> None:
        """A defense that only hides its gradient must not look like one that holds, nor must one member."""
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
        """A slope that is there and far too small leads nowhere either: along it the score must change as it says."""
        after = (x + STEP * slope.sign()).detach().requires_grad_()
        shown = [twin for name in names if (twin := self.parts[name].terms(after).twin) is not None]
        change = (self.ensemble.score_of(shown, *self._copies(after, names), names) - score).detach().abs()
        told = STEP * slope.abs().sum((1, 2, 3))
        self._refuse((told < FALSE * change) | ~change.isfinite(), "", x)

    def _refuse(self, dead: Tensor, through: str, x: Images) -> None:
        if float(dead.float().mean()) >= NO_SLOPE:
            raise UnderfireError(
                f"The alarm's score has no gradient to follow{through} on {int(dead.sum())} of {len(x)} images "
                f"(members {', '.join(self.ensemble.members)}): an attack that follows gradients says nothing about "
                "this defense. Give the members a differentiable surrogate."
            )

    def advance(self, x: Images, progress: float) -> None:
        """Every member's inner state."""
        for part in self.parts.values():
            part.advance(x, progress)

    def select(self, keep: Tensor) -> None:
        """Keep only some rows."""
        self.goal = self.goal.select(keep)
        for part in self.parts.values():
            part.select(keep)


STEP, FALSE = 1e-4, 0.1
"""How far a slope is followed to see whether it tells the truth, and by what factor it may be too small."""
NO_SLOPE = 0.5
"""Share of images without a gradient of the score from which on an attack that follows gradients says nothing."""
