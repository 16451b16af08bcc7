"""The walk at the file: each file has a walk of its own in its own pixels, and the door makes one batch of them.

    images    x̂ = D(round(p̂))                 the deployed code itself, with the encoder where the file is lossy
    step      p̂ ← walk(p̂, R_vᵀ · ∂ℓ/∂x̂ · R_h)      straight through all roundings (method, section 7)

Photos of different sizes are a batch behind the door and a list before it. Any space walks there without code of its
own; only what the classifier sees of a file is walked in, so nothing else of it changes.

A space may walk in bands of rows (`Banded`), which is faster. Its momentum is then kept at the input: the way back is
linear, so a running sum of gradients goes back as one. Where a platform changes the way from step to step, it is not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from underfire.attacks.search.ball_in_bands import BallInBands
from underfire.attacks.search.finite import GRADIENT, NotFinite, refuse
from underfire.attacks.search.momentum import Momentum
from underfire.attacks.search.walks import Restarting
from underfire.core import LEVELS, Images, PerImage, Perturbation, UnderfireError
from underfire.core.door import Files, PartGradient


@runtime_checkable
class Banded(Protocol):
    """A space whose walk in a file takes a step a few rows at a time."""

    momentum: float

    def in_bands(self, part: Images) -> BallInBands:
        """Start at the part of a file."""


class FileWalk:
    """One batch's positions, each in its own file.

    Args:
        space: where each of them walks.
        files: the files, and what the classifier is shown of them.

    Raises:
        UnderfireError: a space without `walk_in`, which gives walks that take a gradient (`descend`) and not a loss.
    """

    def __init__(self, space: Perturbation, files: Files) -> None:
        self.files = files
        self.rows = list(range(len(files.clean)))
        """Which files of the whole batch these are."""
        self.begin(space)
        self._kept = [(part * LEVELS).round().byte().cpu() for part in files.clean]
        self._parts: list[Tensor] = []
        self._shown = torch.zeros(0)

    def begin(self, space: Perturbation) -> None:
        """Begin anew at the clean files that are left, in another space; what was kept stays kept."""
        self._momentum: Momentum | None = None
        if isinstance(space, Banded) and not self.files.changes:
            self._momentum = Momentum(space.momentum)
            self.walks: list[Any] = [space.in_bands(part) for part in self.files.clean]
            return
        walk_in = getattr(space, "walk_in", None)
        if walk_in is None:
            raise UnderfireError(f"{type(space).__name__} cannot walk in files (it has no 'walk_in'): give --at input.")
        each = zip(self.files.clean, self.files.views, self.rows, strict=True)
        self.walks = [walk_in(part, view, row) for part, view, row in each]

    def images(self) -> Images:
        """Give what the classifier is shown of the files as they would be saved, as a leaf."""
        self._parts = [walk.levels() for walk in self.walks]
        self._shown = self.files.shown(self._parts).requires_grad_()
        return self._shown

    def begin_map(self) -> None:
        """Hear that the map counts from here on: the walks in the files begin anew where they do that."""
        for walk in self.walks:
            if isinstance(walk, Restarting):
                walk.begin_map()

    def measures(self) -> Mapping[str, PerImage]:
        """Give the further columns that the walks have."""
        each = [walk.measures() for walk in self.walks]
        return {name: torch.cat([one[name] for one in each]) for name in (each[0] if each else ())}

    def step(self, loss: PerImage, progress: float) -> None:
        """Carry the gradient back to each file, and step there."""
        if self._momentum is not None:
            back = self.files.back(self._momentum.along(self._gradient(loss)))
            self.files.each(partial(BallInBands.follow, progress=progress), self.walks, back)
            return
        for n, (walk, slope) in enumerate(zip(self.walks, self._back(loss), strict=True)):
            try:
                walk.descend(slope.whole(), progress)
            except NotFinite as e:
                raise NotFinite([n], e.what) from e

    def aim(self, loss: PerImage, progress: float) -> None:
        """Choose a whole step in each file; `go` takes it."""
        for walk, slope in zip(self.walks, self._back(loss), strict=True):
            walk.turn(slope.whole(), progress)

    def tried(self, share: PerImage) -> Images:
        """Show what the classifier would see at a ``share`` (N,) of the step."""
        return self.files.shown([walk.tried_levels(one[None]) for walk, one in zip(self.walks, share, strict=True)])

    def go(self, share: PerImage) -> None:
        """Take a ``share`` (N,) of the step."""
        for walk, one in zip(self.walks, share, strict=True):
            walk.go(one[None])

    def _back(self, loss: PerImage) -> Sequence[PartGradient]:
        return self.files.back(self._gradient(loss))

    def _gradient(self, loss: PerImage) -> Images:
        gradient = torch.autograd.grad(loss.sum(), self._shown)[0]
        refuse(gradient.sum((1, 2, 3)), GRADIENT)
        return gradient

    def keep(self, better: Tensor) -> None:
        """Keep the files behind the last `images`, in the rows ``better`` (bool (N,))."""
        for n in better.nonzero()[:, 0].tolist():
            self._kept[self.rows[n]] = self._parts[n].to("cpu", copy=True)  # the next step overwrites it

    def kept(self) -> Sequence[Tensor]:
        """Return what was kept of each file, (1, 3, h, w) in 8-bit levels."""
        return self._kept

    def where(self, row: int) -> Tensor:
        """Give the position in one file."""
        found: Tensor = self.walks[row].where(0)
        return found

    def go_to(self, positions: Sequence[Tensor]) -> None:
        """Go to a position in each file."""
        for walk, position in zip(self.walks, positions, strict=True):
            walk.go_to([position])

    def select(self, keep: Tensor) -> None:
        """Keep only the rows ``keep`` (bool (N,))."""
        chosen = keep.nonzero()[:, 0].tolist()
        self.walks, self.rows = [self.walks[n] for n in chosen], [self.rows[n] for n in chosen]
        self.files.select(keep)
        if self._momentum is not None:
            self._momentum.select(keep)
