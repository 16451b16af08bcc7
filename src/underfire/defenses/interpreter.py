"""The ensemble as an interpreter (paper, section 5.3): several interpreters explain a prediction.

    map        the mean of the members' maps
    alarm      s > s*, of the defense beside it, whichever that is
    attack     Σ_i w_i ℓ_i  +  w · max(0, s − s* + margin)     each member towards its own target map, without an alarm

The attack is that of an adversary who knows the members, the score and its threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from underfire import registry
from underfire.core import Classifier, Goal, Images, Interpreter, Labels, Maps, PerImage, UnderfireError, unknown
from underfire.defenses import calibration
from underfire.defenses.alarm import SIZE, Alarm
from underfire.defenses.attack import Joint
from underfire.defenses.ensemble import MEMBERS
from underfire.defenses.sight import Seen
from underfire.images import maps
from underfire.registry import register
from underfire.registry.values import check_options, hints_of

CHEAP = 50.0
"""F of a map, up to which a search looks at a member's real maps."""
CHECK = 5
"""Steps between two looks at the real maps, as in the presets; for the estimate of costs."""


@register("interpreters", "ensemble")
class Ensemble:
    """The mean map of several interpreters, and the defense beside them, where there is one.

    Args:
        classifier: a classifier that all members can explain.
        members: names of the interpreters; by default those of the defense, or four of different kinds.
        options: member -> options of its maker; they win over those of the file.
        defense: a file from `underfire defend calibrate`: its alarm is attacked along with the maps.
        attack: settings of the attack on it, those of `Joint`.

    Raises:
        UnderfireError: no members, one of them twice, or a file for another classifier or for other members.
    """

    name = "ensemble"
    attack_options: ClassVar[Mapping[str, Any]] = hints_of(Joint, but=("ensemble", "x", "goal"))

    def __init__(
        self,
        classifier: Classifier,
        members: Sequence[str] | None = None,
        options: Mapping[str, Mapping[str, Any]] | None = None,
        defense: str | None = None,
        attack: Mapping[str, Any] | None = None,
    ) -> None:
        self.classifier, self.attack = classifier, dict(attack or {})
        self.alarm, self.members = self._deployed(members, options or {}, defense)
        check_options("ensemble.attack", self.attack_options, self.attack)
        for name in (*(self.attack.get("weights") or ()), *(self.attack.get("options") or ())):
            if name not in self.members:
                raise unknown("member of the ensemble", name, self.members)
        self.threshold = self.alarm.threshold if self.alarm else float("inf")
        self.digest = "+".join([*(i.digest for i in self.members.values()), self.alarm.digest if self.alarm else ""])
        self.map_passes = sum(i.map_passes for i in self.members.values())
        self.step_passes = self._step_passes()

    def _deployed(
        self, members: Sequence[str] | None, options: Mapping[str, Mapping[str, Any]], defense: str | None
    ) -> tuple[Alarm | None, dict[str, Interpreter]]:
        """Build the alarm, and the members: those that it compares, or where it compares none those that are named."""
        alarm = None
        if defense is not None and calibration.read(defense).members:
            alarm = Alarm(self.classifier, defense, members, options)
            return alarm, dict(alarm.detector.members)
        if defense is not None:
            alarm = Alarm(self.classifier, defense)
        names = tuple(members or MEMBERS)
        if len(set(names)) != len(names) or self.name in names or len(names) < (1 if alarm else 2):
            raise UnderfireError(
                f"An ensemble of '{', '.join(names)}' has nothing to compare: name two or more different members."
            )
        return alarm, {n: registry.build_interpreter(n, self.classifier, options.get(n, {})) for n in names}

    def _step_passes(self) -> float:
        """Estimate F of a step: each member's step for each look of the alarm, and now and then the real maps."""
        detector = self.alarm.detector if self.alarm else None
        looks = max(1, detector.looks) if detector else 1
        steps = looks * sum(i.step_passes for i in self.members.values())
        alone = 3 * detector.passes if detector and not detector.members else 0.0
        real = looks * (1 + sum(self.members[name].map_passes for name in self.cheap))
        return steps + alone + (real + alone) / CHECK

    @property
    def cheap(self) -> tuple[str, ...]:
        """The members with cheap maps; all members, where there are none."""
        cheap = tuple(name for name, member in self.members.items() if member.map_passes <= CHEAP)
        return cheap or tuple(self.members)

    def shown(self, x: Images, y: Labels, names: Sequence[str] | None = None) -> list[Maps]:
        """Compute the real maps of each member, or of the members ``names``."""
        return [self.members[name].explain(x, y) for name in names or self.members]

    def explain(self, x: Images, y: Labels) -> Maps:
        """Compute the mean of the members' maps (N, 56, 56) in [0, 1] of images (N, 3, H, W) for classes ``y`` (N,)."""
        return mean_map(self.shown(x, y))

    def score(self, x: Images, y: Labels) -> PerImage:
        """Compute the alarm's scores (N,) of images ``x`` with the predictions ``y``; above `threshold` is an alarm.

        Raises:
            UnderfireError: there is no alarm.
        """
        if self.alarm is None:
            raise UnderfireError("This ensemble has no alarm: build it with defense=FILE.")
        with torch.no_grad():
            return self.alarm.score_of(Seen(self.classifier, self.alarm.detector.members, x, y))

    def surrogate(self, x: Images, goal: Goal, **options: Any) -> Joint:
        """Start the attacker's side; ``options`` are those of `Joint` and win over `attack`.

        Raises:
            UnderfireError: an option that it does not have.
        """
        options = {**self.attack, **options}
        try:
            return Joint(self, x, goal, **options)
        except TypeError as e:
            raise UnderfireError(f"The settings {options} do not suit the attack on an ensemble: {e}.") from e


def mean_map(shown: Sequence[Maps]) -> Maps:
    """Average maps of several members at one size (N, 56, 56)."""
    return torch.stack([maps.resize(m, (SIZE, SIZE)).to(shown[0]) for m in shown]).mean(0).clamp(0, 1)
