"""The attack on an ensemble (method, section 6.1): each member's map is moved to its target, and no alarm is raised."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from underfire.core import Goal, Images, Maps, PerImage, Surrogate, Terms, UnderfireError, UnsuitableError
from underfire.defenses.alarm import Alarm
from underfire.defenses.sight import Sight
from underfire.defenses.slopes import NO_SLOPE, dead, estimated, false, slope_of
from underfire.defenses.twins import Real, Twins
from underfire.images import maps

if TYPE_CHECKING:
    from underfire.defenses.interpreter import Ensemble


class Joint:
    """The attacker's side of an ensemble: a weighted sum of the members' ℓ_int and the alarm's score.

    Args:
        ensemble: the defended system.
        x: clean images (N, 3, H, W).
        goal: the target classes; each member's target map is its own map of the references, or of the clean images.
        weights: member -> w_i; by default 1.
        alarm: w, the weight of the score; 0 moves the members' maps alone.
        margin: how far below the threshold the score shall fall, in the unit that scores are counted in (`unit_of`).
        aim: the score to fall below, in place of the threshold less the margin; 0 means as low as possible, where
            scores are distances. This is for a defender who may choose another threshold, and for the AUC.
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
        self.quiet = ensemble.threshold if aim is None else aim
        self.unit = unit_of(ensemble.alarm) if ensemble.alarm else 1.0
        self.aim = ensemble.threshold - margin * self.unit if aim is None else aim
        self.weights = {name: (weights or {}).get(name, 1.0) for name in ensemble.members}
        self.goal = self._goal(x, goal)
        self.parts: dict[str, Surrogate] = {
            name: member.surrogate(x, self.goal, **(options or {}).get(name, {}))
            for name, member in ensemble.members.items()
        }
        self.checked, self.blind, self.asked = False, False, 0

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
        if self.alarm and self.ensemble.alarm is not None:
            score = self._score(parts, x).to(loss)
            loss = loss + self.alarm * (score - self.aim).clamp_min(0) / self.unit
        return Terms(next(iter(parts.values())).logits, loss, None)

    def _score(self, parts: Mapping[str, Terms], x: Images) -> PerImage:
        """Compute the alarm's score with a gradient, estimated where it has none."""
        self.asked += 1
        if self.blind:
            return estimated(self._alone, x, self.asked)
        see = self._sight(x, parts)
        score = self._of(see)
        loud = (score > self.aim).detach()  # who is quiet needs no slope: his score may be as low as it goes
        if not self.checked and bool(loud.any()):
            self.checked = True
            self.blind = self._check(score, see, x, loud)
            if self.blind:
                return estimated(self._alone, x, self.asked)
        return score

    def _sight(self, x: Images, parts: Mapping[str, Terms] | None = None) -> Twins:
        names = tuple(self._alarm.detector.members)
        own = {name: parts[name] for name in names} if parts else {}
        return Twins(self.ensemble.classifier, self.parts, x, self.goal.labels, self.goal.maps, names, own)

    @property
    def _alarm(self) -> Alarm:
        if self.ensemble.alarm is None:
            raise UnderfireError("This ensemble has no alarm: build it with defense=FILE.")
        return self.ensemble.alarm

    def _of(self, see: Sight) -> PerImage:
        return self._alarm.score_of(see)

    def _alone(self, x: Images) -> PerImage:
        """Ask a detector that sees the picture alone."""
        return self._of(self._sight(x))

    def ranked(self, x: Images) -> PerImage:
        """Rank images (N, 3, H, W): those without an alarm by the members' mean map_l1, in [0, ½); others by the score.

        The ranks of the others are in [½, 1). Members with costly maps, such as MASK, are left out, unless there are no
        others: the alarm is asked as if they showed their target maps.
        """
        names = self.ensemble.cheap
        shown = dict(zip(names, self.ensemble.shown(x, self.goal.labels, names), strict=True))
        l1 = torch.stack([maps.l1(m, self.goal.maps[name]) for name, m in shown.items()]).mean(0)
        if self.ensemble.alarm is None:
            return l1 / 2
        with torch.no_grad():
            see = Real(self.ensemble.classifier, self._shown_of(x, shown), x, self.goal.labels)
            # a score that is no number raises the alarm; of infinity the rank below would be no number itself
            above = (self._of(see).to(l1).nan_to_num(nan=1e30) - self.quiet).clamp_min(0)
        return torch.where(above > 0, 1 + above / (1 + above), l1) / 2

    def _shown_of(self, x: Images, shown: Mapping[str, Maps]) -> Callable[[Images], list[Maps]]:
        """Give what shows the detector its members' maps; those of ``x`` itself are known."""

        def of(copy: Images) -> list[Maps]:
            asked = self.ensemble.cheap
            found = shown
            if copy is not x:
                found = dict(zip(asked, self.ensemble.shown(copy, self.goal.labels, asked), strict=True))
            return [found.get(name, self.goal.maps[name]) for name in self._alarm.detector.members]

        return of

    def _check(self, score: PerImage, see: Twins, x: Images, loud: Tensor) -> bool:
        """Check that the score of the ``loud`` images (bool (N,)) has a true gradient, also by each member.

        Returns:
            Whether the gradient must be estimated.

        Raises:
            UnsuitableError: a score of maps without one.
        """
        slope = slope_of(score, x)
        odd = dead(slope)[loud]
        if not float(odd.float().mean()) >= NO_SLOPE:
            odd = odd | false(score, slope, self._alone, x)[loud]
        if not see.names:
            return float(odd.float().mean()) >= NO_SLOPE
        self._refuse(odd, "")
        for name in see.twinned():
            self._refuse(dead(slope_of(self._through(see, name), x)), f" through '{name}'")
        return False

    def _through(self, see: Twins, name: str) -> PerImage:
        """Give the sum of a member's twin map, as far as its slope reaches the picture."""
        m = see.maps(see.x)[list(see.names).index(name)]
        return (m * torch.linspace(0, 1, m[0].numel(), dtype=m.dtype, device=m.device).reshape(m.shape[1:])).sum((1, 2))

    def _refuse(self, odd: Tensor, through: str) -> None:
        if float(odd.float().mean()) >= NO_SLOPE:
            raise UnsuitableError(
                f"The alarm's score has no gradient to follow{through} on {int(odd.sum())} of {len(odd)} images "
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


SPREAD = 5.0
"""How many units a benign photo in the middle is below the threshold: about as many as under the alarm `squeeze`, whose
scores count as they are, and for which the weight of the score was chosen."""


def unit_of(alarm: Alarm) -> float:
    """Give the unit that an alarm's scores are counted in, since anybody's detector has a scale of its own."""
    if alarm.name == "squeeze":
        return 1.0
    scores = alarm.known.scores
    middle = scores[len(scores) // 2]
    return (alarm.threshold - middle) / SPREAD if alarm.threshold > middle else 1.0
