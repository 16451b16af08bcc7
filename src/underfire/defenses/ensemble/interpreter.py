"""The ensemble as an interpreter (paper, section 5.3): several interpreters explain a prediction.

    map        the mean of the members' maps
    alarm      s > s*, the score of their disagreement (`score`), calibrated on benign images
    attack     Σ_i w_i ℓ_i  +  w · max(0, s − s* + margin)     each member towards its own target map, without an alarm

The attack is that of an adversary who knows the members, the score and its threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch

from underfire import registry
from underfire.core import Classifier, Goal, Images, Labels, Maps, MismatchError, PerImage, UnderfireError, unknown
from underfire.defenses.ensemble import calibration
from underfire.defenses.ensemble.attack import Joint
from underfire.defenses.ensemble.score import alarm_score, distances, smoothed_copy
from underfire.heads import head_of
from underfire.images import maps
from underfire.registry import register
from underfire.registry.values import check_options, hints_of

MEMBERS = ("cam", "grad", "rts")
"""Members by default."""
SIZE = 56
"""Side of the mean map, px."""
CHEAP = 50.0
"""F of a map, up to which a search looks at a member's real maps."""
CHECK = 5
"""Steps between two looks at the real maps, as in the presets; for the estimate of costs."""


@register("interpreters", "ensemble")
class Ensemble:
    """The mean map of several interpreters, and an alarm where they disagree.

    Args:
        classifier: a classifier that all members can explain.
        members: names of two or more interpreters; by default three with cheap maps.
        options: member -> options of its maker; they win over those of the file.
        defense: a file from `underfire defend calibrate`, which then gives the members, options and statistics.
        attack: settings of the attack on it, those of `Joint`.

    Raises:
        UnderfireError: fewer than two members, or a file for another classifier or for other members.
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
        known = calibration.read(defense) if defense else None
        if known:
            _refuse_other(classifier, known, members, str(defense))
            members = known.names
            options = {m.name: {**m.options, **(options or {}).get(m.name, {})} for m in known.members}
        names = tuple(members or MEMBERS)
        if len(set(names)) != len(names) or len(names) < 2 or self.name in names:
            raise UnderfireError(
                f"An ensemble of '{', '.join(names)}' has nothing to compare: name two or more different members."
            )
        self.classifier, self.attack = classifier, dict(attack or {})
        self.options = {name: dict((options or {}).get(name, {})) for name in names}
        check_options("ensemble.attack", self.attack_options, self.attack)
        for name in (*(self.attack.get("weights") or ()), *(self.attack.get("options") or ())):
            if name not in names:
                raise unknown("member of the ensemble", name, names)
        self.members = {name: registry.build_interpreter(name, classifier, self.options[name]) for name in names}
        n = 1 + len(names)
        self.mean: Sequence[float] = (0.0,) * n
        self.covariance: Sequence[Sequence[float]] = torch.eye(n).tolist()
        self.threshold = float("inf")
        if known:
            _refuse_other_digests(self, known, str(defense))
            self.mean, self.covariance, self.threshold = known.mean, known.covariance, known.threshold
        self.digest = "+".join(
            [*(i.digest for i in self.members.values()), calibration.digest(defense) if defense else ""]
        )
        self.map_passes = sum(i.map_passes for i in self.members.values())
        looks = 2 * (1 + sum(self.members[name].map_passes for name in self.cheap)) / CHECK
        self.step_passes = 2 * sum(i.step_passes for i in self.members.values()) + looks

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

    def score_of(
        self, shown: Sequence[Maps], again: Sequence[Maps], log_p: PerImage, names: Sequence[str] | None = None
    ) -> PerImage:
        """Compute the alarm's scores (N,) from maps.

        Args:
            shown: each member's maps of the images.
            again: each member's maps of their copies.
            log_p: (N,) log-probabilities of the classes on the copies.
            names: the members whose maps these are; by default all.
        """
        rows = [0, *(i for i, name in enumerate(self.members, 1) if names is None or name in names)]
        d = distances(shown, again, log_p)
        mean, covariance = d.new_tensor(self.mean), d.new_tensor(self.covariance)
        return alarm_score(d, mean[rows], covariance[rows][:, rows])

    def looks(
        self, x: Images, y: Labels, names: Sequence[str] | None = None
    ) -> tuple[list[Maps], list[Maps], PerImage]:
        """Compute the members' maps of images for classes ``y``, those of their copies, and log p_y of the copies."""
        copy = smoothed_copy(x)
        with torch.no_grad():
            log_p = head_of(self.classifier).log_probability(self.classifier.logits(copy), y)
        return self.shown(x, y, names), self.shown(copy, y, names), log_p

    def score(self, x: Images, y: Labels) -> PerImage:
        """Compute the alarm's scores (N,) of images ``x`` with the predictions ``y``; above `threshold` is an alarm."""
        with torch.no_grad():
            return self.score_of(*self.looks(x, y))

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
    return torch.stack([maps.resize(m, (SIZE, SIZE)) for m in shown]).mean(0).clamp(0, 1)


def _refuse_other(
    classifier: Classifier, known: calibration.Calibration, members: Sequence[str] | None, path: str
) -> None:
    if known.classifier_digest != classifier.digest:
        raise MismatchError(
            f"'{path}' was calibrated for '{known.classifier}' with other weights or sizes than those of "
            f"'{classifier.name}' here: name that classifier with --classifier, --weights and its sizes, or calibrate "
            "again, for the classifier that is deployed."
        )
    for name in members or ():
        registry.maker("interpreters", name)  # an unknown name has an error of its own
    if members is not None and set(members) != set(known.names):
        raise MismatchError(
            f"'{path}' was calibrated for the members {', '.join(known.names)}, not {', '.join(members)}: calibrate "
            "again, with the members that are deployed."
        )


def _refuse_other_digests(ensemble: Ensemble, known: calibration.Calibration, path: str) -> None:
    for member in known.members:
        if ensemble.members[member.name].digest != member.digest:
            raise MismatchError(
                f"'{path}' was calibrated with another network of '{member.name}' than the one here: calibrate again."
            )
