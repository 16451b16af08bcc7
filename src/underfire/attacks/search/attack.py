"""An attack by the one search, and what is registered under its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Generic, ParamSpec

from underfire.attacks.search.ball import Ball
from underfire.attacks.search.flow import Flow, SeededFlow
from underfire.attacks.search.loop import search
from underfire.attacks.search.objective import PredictionAlone, PredictionAndMap
from underfire.attacks.search.rescue import Rescue
from underfire.attacks.search.settings import SearchSettings
from underfire.core import Found, Goal, Images, UnderfireError, Victim

P = ParamSpec("P")


@dataclass(frozen=True)
class SearchAttack:
    """A search space and an objective, with the settings of the search.

    Args:
        name: the attack's name in the registry and in records.
        space: where adversarial images are searched, with its budget.
        objective: what they shall reach.
        settings: how long and how hard to search.
        rescue: what photos get whose class is not reached in the end; None: nothing more.

    Raises:
        UnderfireError: for halved steps in a space, or on an objective, that has none.
    """

    forges_files: ClassVar[bool] = True
    """The search walks in files as it does in inputs."""
    name: str
    space: Ball | Flow
    objective: PredictionAlone | PredictionAndMap
    settings: SearchSettings
    rescue: Rescue | None = None

    def __post_init__(self) -> None:
        if self.settings.bisect and not (isinstance(self.space, Ball) and self.fools_interpreter):
            raise UnderfireError(
                f"{self.name}.bisect={self.settings.bisect}: only adv2 has a step on the map that can be halved; leave "
                "it out here."
            )

    @property
    def fools_interpreter(self) -> bool:
        """Whether the attack is made against an interpreter."""
        return self.objective.fools_interpreter

    @property
    def eps(self) -> int | None:
        """L∞ budget in whole levels of 255; None for a space with another budget."""
        return self.space.eps

    @property
    def draws(self) -> bool:
        """Whether another seed gives another picture for the same target."""
        return isinstance(self.space, Flow) and self.space.start > 0

    def bound(self, step_passes: float) -> float:
        """Give the most F that an image can cost, where a step on prediction and map costs ``step_passes``."""
        alone = 0.0 if self.rescue is None else self.rescue.bound()
        return self.settings.bound(self.objective.step_passes(step_passes)) + alone

    def run(self, victim: Victim, x: Images, goal: Goal, seeds: Sequence[int]) -> Found:
        """Search adversarial images for the clean images ``x`` (N, 3, H, W); ``seeds`` are for starts that are drawn.

        Raises:
            UnderfireError: for a victim that the objective is not made for.
        """
        space = SeededFlow(self.space, tuple(seeds)) if isinstance(self.space, Flow) else self.space
        return search(victim, x, goal, space, self.settings, self.objective.surrogate_for(victim), self.rescue)

    def spelling(self) -> tuple[str, dict[str, Any]]:
        """Give the name and the fields that digests know this attack by: each name had a class of its own once."""
        budget = {} if self.eps is None else {"eps": self.eps}
        space = {self.space.spelled.lower(): self.space}
        content = {**budget, **space, "settings": self.settings, **vars(self.objective)}
        content |= {} if self.rescue is None else {"rescue": self.rescue}
        return self.name.title().replace("-", ""), content


class AttackMaker(Generic[P]):
    """What is registered under an attack's name.

    Attributes:
        make: (preset, against, eps, …) -> the attack. Its further parameters are the audit's own settings that this
            attack takes, and ``overrides``, which replace numbers of the preset.
        fools_interpreter: whether attacks of this name are made against an interpreter.
    """

    def __init__(self, make: Callable[P, SearchAttack], fools_interpreter: bool) -> None:
        self.make, self.fools_interpreter = make, fools_interpreter
        self.__doc__ = make.__doc__


def maker_of(
    objective: type[PredictionAlone | PredictionAndMap],
) -> Callable[[Callable[P, SearchAttack]], AttackMaker[P]]:
    """Turn a function that makes attacks with this objective into their `AttackMaker` (a decorator)."""

    def of(make: Callable[P, SearchAttack]) -> AttackMaker[P]:
        return AttackMaker(make, objective.fools_interpreter)

    return of
