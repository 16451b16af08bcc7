"""What a detector may look at: pictures, what the classifier says of them, and the members' maps.

A detector's formula is written once, against `Sight`. The defender's sight (`Seen`) asks the real interpreters, and
finds out of which pictures there is no map. The attacker's (`attack.Twins`) has a gradient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from underfire.core import Classifier, Images, Interpreter, Labels, Maps, PerImage
from underfire.heads import head_of
from underfire.interpreters import checked


class Sight(Protocol):
    """A look at a batch of pictures, for one class each."""

    @property
    def x(self) -> Images:
        """The pictures (N, 3, H, W) in [0, 1]."""

    @property
    def y(self) -> Labels:
        """The classes (N,) that are predicted for them."""

    def log_p(self, x: Images) -> PerImage:
        """Compute log p_y (N,) of pictures ``x``: of these or of copies of them."""

    def probabilities(self, x: Images) -> Tensor:
        """Compute the probabilities (N, K) of pictures ``x``."""

    def maps(self, x: Images) -> list[Maps]:
        """Compute each member's maps (N, h, w) of pictures ``x`` for `y`."""


@dataclass
class Seen:
    """The defender's sight: real maps in float64 on the CPU, NaN where a member has none.

    Args:
        classifier: the classifier.
        members: name -> interpreter.
        x: the pictures.
        y: their classes.
        shown: member -> maps of the pictures themselves, once they are asked for.
        failed: row -> why some member has no map of the picture or of a copy.
    """

    classifier: Classifier
    members: Mapping[str, Interpreter]
    x: Images
    y: Labels
    shown: dict[str, Maps] = field(default_factory=dict)
    failed: dict[int, str] = field(default_factory=dict)

    def log_p(self, x: Images) -> PerImage:
        """Compute log p_y (N,) in float64 on the CPU."""
        with torch.no_grad():
            z = self.classifier.logits(x).double()
            return head_of(self.classifier).log_probability(z, self.y).cpu()

    def probabilities(self, x: Images) -> Tensor:
        """Compute the probabilities (N, K) in float64 on the CPU."""
        with torch.no_grad():
            return head_of(self.classifier).probabilities(self.classifier.logits(x).double()).cpu()

    def maps(self, x: Images) -> list[Maps]:
        """Compute each member's maps; those of the pictures themselves once only."""
        if x is self.x and self.shown:
            return list(self.shown.values())
        found = {name: self._of(member, x) for name, member in self.members.items()}
        if x is self.x:
            self.shown = found
        return list(found.values())

    def _of(self, member: Interpreter, x: Images) -> Tensor:
        with torch.enable_grad():
            m, errors = checked.explain(member, x, self.y)
        self.failed |= {row: reason for row, reason in errors.items() if row not in self.failed}
        return m if m[0].numel() else m.new_full((len(x), 1, 1), torch.nan)  # not one picture has a map
