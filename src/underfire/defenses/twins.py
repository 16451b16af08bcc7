"""The attacker's sight: what a detector would see, with a gradient."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from underfire.core import Classifier, Images, Labels, Maps, PerImage, Surrogate, Terms
from underfire.heads import head_of


@dataclass
class Twins:
    """A sight through the members' surrogates, for the target classes.

    Args:
        classifier: the classifier.
        parts: member -> its surrogate.
        x: the pictures.
        y: the target classes.
        wanted: member -> target maps. A member whose surrogate brings no map on the way (MASK) is taken to show these:
            its own ℓ_int draws it there.
        names: the detector's members, in its order.
        seen: the terms of the pictures themselves, where they are known already.
    """

    classifier: Classifier
    parts: Mapping[str, Surrogate]
    x: Images
    y: Labels
    wanted: Mapping[str, Maps]
    names: Sequence[str]
    seen: dict[str, Terms] = field(default_factory=dict)
    _copies: list[tuple[Images, dict[str, Terms]]] = field(default_factory=list)

    def log_p(self, x: Images) -> PerImage:
        """Compute log p_y (N,), from a member's own forward where there is one."""
        return head_of(self.classifier).log_probability(self._logits(x), self.y)

    def probabilities(self, x: Images) -> Tensor:
        """Compute the probabilities (N, K), likewise."""
        return head_of(self.classifier).probabilities(self._logits(x))

    def _logits(self, x: Images) -> Tensor:
        terms = self._terms(x)
        return next(iter(terms.values())).logits if terms else self.classifier.logits(x)

    def maps(self, x: Images) -> list[Maps]:
        """Compute each member's twin maps."""
        terms = self._terms(x)
        twins = [(name, terms[name].twin if name in terms else None) for name in self.names]
        return [self.wanted[name].to(x) if twin is None else twin for name, twin in twins]

    def twinned(self) -> list[str]:
        """Name the members whose twin maps have a gradient."""
        return [name for name in self.names if self._terms(self.x)[name].twin is not None]

    def _terms(self, x: Images) -> dict[str, Terms]:
        if x is self.x and self.seen:
            return self.seen
        for copy, terms in self._copies:
            if copy is x:
                return terms
        twinned = [name for name in self.names if name not in self.seen or self.seen[name].twin is not None]
        found = {name: self.parts[name].terms(x) for name in twinned}
        self._copies.append((x, found))
        return found


@dataclass
class Real:
    """A sight through the real interpreters for the target classes, without a gradient and as cheap as it goes.

    Args:
        classifier: the classifier.
        shown: (pictures) -> each of the detector's members' maps; of costly members the target maps.
        x: the pictures.
        y: the target classes.
    """

    classifier: Classifier
    shown: Callable[[Images], list[Maps]]
    x: Images
    y: Labels
    _own: list[Maps] = field(default_factory=list)

    def log_p(self, x: Images) -> PerImage:
        """Compute log p_y (N,)."""
        return head_of(self.classifier).log_probability(self.classifier.logits(x), self.y)

    def probabilities(self, x: Images) -> Tensor:
        """Compute the probabilities (N, K)."""
        return head_of(self.classifier).probabilities(self.classifier.logits(x))

    def maps(self, x: Images) -> list[Maps]:
        """Compute the maps; those of the pictures themselves once only."""
        if x is not self.x:
            return self.shown(x)
        if not self._own:
            self._own = self.shown(x)
        return self._own
