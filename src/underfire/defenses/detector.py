"""A detector: what gives a picture the score that an alarm is raised by; and how anybody's function becomes one."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from underfire import registry
from underfire.core import Classifier, Images, Interpreter, Maps, PerImage, UnderfireError
from underfire.defenses.sight import Sight
from underfire.registry.values import check_options, hints_of

Learnt = Mapping[str, Any]
"""What a detector has learnt from benign photos, as it stands in the alarm's file: numbers and lists of them."""


@runtime_checkable
class Detector(Protocol):
    """What an alarm's score is made of: evidence of each picture, and what is normal for benign photos."""

    name: str
    """Its name in the registry."""
    passes: float
    """F of one look at a picture, beside its prediction."""
    looks: int
    """How many times each member explains, for one score."""

    @property
    def members(self) -> Mapping[str, Interpreter]:
        """The interpreters that it compares; empty where it needs none."""

    def evidence(self, see: Sight) -> Tensor:
        """Measure pictures: (N, k), with a gradient where the sight has one; NaN where a picture has none."""

    def learn(self, evidence: Tensor) -> Learnt:
        """Learn what is normal from the evidence (n, k) of benign photos that give no threshold."""

    def score(self, evidence: Tensor, learnt: Learnt) -> PerImage:
        """Compute the scores (N,) of evidence (N, k): the higher, the less benign."""


@runtime_checkable
class Telling(Protocol):
    """A detector that can say what in a picture is unusual, and where."""

    labels: Sequence[str]
    """What each column of the evidence is, such as 'cam–rts'."""

    def unusual(self, evidence: Tensor, learnt: Learnt) -> Tensor:
        """Tell how unusual each part of the evidence is, (N, k); the most unusual one has the largest number."""

    def where(self, see: Sight, column: int) -> Maps:
        """Show where (N, h, w) in the pictures a part of the evidence comes from."""


class FunctionDetector:
    """A detector that is one function from pictures to scores.

    Args:
        name: its name in the registry.
        of: (classifier, pictures (N, 3, H, W), **options) -> scores (N,).
        classifier: the classifier that it stands beside.
        options: of the function.
    """

    looks = 0

    def __init__(self, name: str, of: Callable[..., PerImage], classifier: Classifier, **options: Any) -> None:
        self.name, self.of, self.classifier, self.options = name, of, classifier, options
        self.members: Mapping[str, Interpreter] = {}
        head = getattr(classifier, "device", "cpu")
        grey = torch.full((1, *classifier.preprocess.shape), 0.5, device=head)
        with torch.no_grad(), classifier.meter.counting(1) as spent:
            self._scores(grey)
        self.passes = float(spent.passes[0])

    def _scores(self, x: Images) -> Tensor:
        s = self.of(self.classifier, x, **self.options)
        if not isinstance(s, Tensor) or s.shape != (len(x),):
            said = tuple(s.shape) if isinstance(s, Tensor) else type(s).__name__
            raise UnderfireError(f"The detector '{self.name}' gave {said} for {len(x)} pictures: it must give (N,).")
        return s

    def evidence(self, see: Sight) -> Tensor:
        """Compute the scores as evidence (N, 1)."""
        return self._scores(see.x)[:, None]

    def learn(self, evidence: Tensor) -> Learnt:
        """Learn nothing."""
        return {}

    def score(self, evidence: Tensor, learnt: Learnt) -> PerImage:
        """Give the evidence back."""
        return evidence[:, 0]


def detector_of(
    kind: str,
    classifier: Classifier,
    members: Sequence[str] | None = None,
    member_options: Mapping[str, Mapping[str, Any]] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Detector:
    """Build a detector by name.

    Args:
        kind: as in ``underfire list``, under defenses.
        classifier: the classifier that it stands beside.
        members: names of the interpreters that it compares; None: its usual ones.
        member_options: member -> options of its maker.
        options: its own settings.

    Raises:
        UnderfireError: an unknown name or setting, members that it does not take, or a classifier that does not fit.
    """
    made: Any = registry.maker("defenses", kind)
    own = dict(options or {})
    if not isinstance(made, type):
        check_options(kind, {k: v for k, v in hints_of(made).items() if k not in _given(made)}, own)
        _refuse_members(kind, members)
        return FunctionDetector(kind, made, classifier, **own)
    made = cast(Any, made)
    check_options(kind, hints_of(made, but=("classifier", "members")), own)
    if "members" not in inspect.signature(made).parameters:
        _refuse_members(kind, members)
        alone: Detector = made(classifier, **own)
        return alone
    names = tuple(members if members is not None else made.usual(own))
    of = {name: dict((member_options or {}).get(name, {})) for name in names}
    built = {name: registry.build_interpreter(name, classifier, of[name]) for name in dict.fromkeys(names)}
    if len(built) < len(names):
        raise UnderfireError(f"The members '{', '.join(names)}': name each of them once.")
    comparing: Detector = made(classifier, built, **own)
    return comparing


def _given(function: Callable[..., Any]) -> tuple[str, ...]:
    """Name the parameters that are no options: the classifier and the pictures."""
    return tuple(inspect.signature(function).parameters)[:2]


def _refuse_members(kind: str, members: Sequence[str] | None) -> None:
    if members:
        raise UnderfireError(f"'{kind}' compares no interpreters: leave out --interpreter {members[0]}.")
