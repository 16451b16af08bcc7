"""Forged: adversarial images as read back from their files, as a struct of arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from underfire.core import PerImage, Resume
from underfire.trial.alarms import Alarms
from underfire.trial.batch import Batch
from underfire.trial.load import Levels
from underfire.trial.saved import FileFacts, Saved, chosen


@dataclass(frozen=True)
class Forged:
    """N adversarial images as read back from their files.

    Args:
        clean: the photos that they were made of; its errors say why others were not.
        saved: the files, and what the classifier is shown of them.
        steps: (N,) steps of the search.
        passes: (N,) F of the search with all its own checks.
        extras: further columns of the record, (N,) each.
        alarms: what the defense says of the images; None without one.
        notes: (N,) further columns of the record that are no tensors; empty: none.
        resume: where another search can go on, where that was asked for.
    """

    clean: Batch
    saved: Saved
    steps: Tensor
    passes: PerImage
    extras: Mapping[str, PerImage] = field(default_factory=dict)
    alarms: Alarms | None = None
    notes: tuple[Mapping[str, Any], ...] = ()
    resume: Resume | None = None

    @property
    def files(self) -> tuple[bytes, ...]:
        """(N,) the files."""
        return self.saved.files

    @property
    def levels(self) -> Levels:
        """(N, H, W, 3) what the classifier is shown of them."""
        return self.saved.levels

    @property
    def linf(self) -> PerImage:
        """(N,) largest change of a pixel, in levels of 255."""
        return self.saved.linf

    @property
    def facts(self) -> tuple[FileFacts, ...]:
        """(N,) what is known of forged files; empty where inputs were forged."""
        return self.saved.facts

    def without(self, errors: Mapping[int, str]) -> Forged:
        """Set aside the images of ``errors`` (by place in the unit), as `Batch.without`."""
        clean, keep = self.clean.without(errors), self.clean.outside(errors)
        return replace(self if bool(keep.all()) else self.select(keep), clean=clean)

    def select(self, keep: Tensor) -> Forged:
        """The images ``keep`` (bool (N,)), without their resume."""
        rows = keep.nonzero()[:, 0].tolist()
        return Forged(
            self.clean.select(keep),
            chosen(self.saved, rows),
            self.steps[keep],
            self.passes[keep],
            {column: values[keep] for column, values in self.extras.items()},
            self.alarms and self.alarms.select(keep),
            tuple(self.notes[n] for n in rows) if self.notes else (),
        )

    def rows(self) -> Iterator[Forged]:
        """The images one by one."""
        for n in range(len(self.clean)):
            yield self.select(torch.arange(len(self.clean)) == n)
