"""The batch: photos that can be attacked, and what is wanted of them, as a struct of arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import torch
from torch import Tensor

from underfire.core import ClassNames, Images, Labels, Maps, PerImage, Photo
from underfire.images.saving import FilePhoto
from underfire.trial.alarms import Alarms
from underfire.trial.load import Levels
from underfire.trial.system import System

T = TypeVar("T")


@dataclass(frozen=True)
class Reference:
    """What target maps are maps of, where those are not the photos' own benign ones.

    Args:
        x: (N, 3, H, W) the images whose maps are wanted.
        y: (N,) the classes that these are explained for.
        of: (N,) what records call each of them.
        errors: place in the unit -> why a photo has no reference; its row holds the photo itself.
    """

    x: Images
    y: Labels
    of: tuple[str, ...]
    errors: Mapping[int, str] = field(default_factory=dict)

    def select(self, keep: Tensor) -> Reference:
        """The references of the images ``keep`` (bool (N,) or int indices)."""
        return Reference(self.x[keep], self.y[keep], picked(self.of, keep), self.errors)


@dataclass(frozen=True)
class GoalMaps:
    """The maps of a batch under one interpreter, in float64 on the CPU.

    Args:
        benign: (N, h, w) of the clean images for their own classes.
        wanted: (N, h, w) target maps m_t; the benign ones where those are wanted.
        passes: (N,) F spent on both.
        errors: place in the unit -> why an image has none of the one or of the other.
    """

    benign: Maps
    wanted: Maps
    passes: PerImage
    errors: Mapping[int, str]

    def select(self, keep: Tensor) -> GoalMaps:
        """The maps of the images ``keep`` (bool (N,) or int indices)."""
        return GoalMaps(self.benign[keep], self.wanted[keep], self.passes[keep], self.errors)


@dataclass(frozen=True)
class Batch:
    """N photos before any attack, and what is wanted of them.

    Args:
        rows: (N,) places in the unit.
        photos: (N,) identities.
        levels: (N, H, W, C) pixels.
        x: (N, 3, H, W) the same in [0, 1].
        source: (N,) the classifier's own predictions.
        confidence: (N,) their probabilities.
        target: (N,) the classes c_t that are wanted.
        passes: (N,) F spent on predictions.
        classes: what source and target classes are called.
        head: kind of the classifier's head.
        errors: place in the unit -> why another photo is not, or no longer, in the batch.
        reference: what the target maps are maps of; None where that is the photos themselves, or nothing.
        goals: interpreter -> benign and target maps.
        alarms: what the defense says of the clean images; None without one.
        files: (N,) the photos' files, where these are forged; else empty.
    """

    rows: tuple[int, ...]
    photos: tuple[Photo, ...]
    levels: Levels
    x: Images
    source: Labels
    confidence: PerImage
    target: Labels
    passes: PerImage
    classes: ClassNames
    head: str = "softmax"
    errors: Mapping[int, str] = field(default_factory=dict)
    reference: Reference | None = None
    goals: Mapping[str, GoalMaps] = field(default_factory=dict)
    alarms: Alarms | None = None
    files: tuple[FilePhoto, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def select(self, keep: Tensor) -> Batch:
        """The batch of the images ``keep`` (bool (N,) or int indices)."""
        return replace(
            self,
            rows=picked(self.rows, keep),
            photos=picked(self.photos, keep),
            levels=self.levels[keep.numpy()],
            x=self.x[keep],
            source=self.source[keep],
            confidence=self.confidence[keep],
            target=self.target[keep],
            passes=self.passes[keep],
            reference=self.reference and self.reference.select(keep),
            goals={name: maps.select(keep) for name, maps in self.goals.items()},
            alarms=self.alarms and self.alarms.select(keep),
            files=picked(self.files, keep) if self.files else (),
        )

    def outside(self, errors: Mapping[int, str]) -> Tensor:
        """(N,) whether ``errors`` (by place in the unit) says nothing of an image."""
        return torch.tensor([row not in errors for row in self.rows], dtype=torch.bool)

    def without(self, errors: Mapping[int, str]) -> Batch:
        """Set aside the images of ``errors`` (by place in the unit); what was said of one first is what stays said."""
        keep = self.outside(errors)
        rest = self if bool(keep.all()) else self.select(keep)
        return replace(rest, errors={**errors, **self.errors})

    def told(self, reasons: Mapping[int, str], about: str = "") -> dict[int, str]:
        """Errors by place in the unit, with the photos' paths, from reasons by index of this batch."""
        return {self.rows[n]: f"'{self.photos[n].path}': {about}{why}" for n, why in reasons.items()}


def picked(items: Sequence[T], keep: Tensor) -> tuple[T, ...]:
    """Those of N items that ``keep`` (bool (N,) or int indices) names."""
    return tuple(items[n] for n in torch.arange(len(items))[keep].tolist())


def labels(system: System, classes: Sequence[int]) -> Labels:
    """Classes (N,) on the system's device."""
    return torch.tensor(classes, dtype=torch.int64, device=system.device)


def logits(system: System, x: Images) -> Tensor:
    """Class scores (N, K) in the network's own precision; a batch of no images is never shown to a network."""
    with torch.autocast(x.device.type, enabled=False):  # that of somebody's own program, around an audit
        return system.classifier.logits(x) if len(x) else x.new_zeros(0, len(system.classifier.classes))
