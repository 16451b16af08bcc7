"""The photos that a network learns from: found, labelled by the classifier, split by class, decoded when needed.

No labels are given: the class of a photo is what the classifier says it is, since that is what it must explain. All
photos of a class fall on one side of the split, so the figures are of classes that the network has not learnt from.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms.v2 import functional as transforms

from underfire.core import Classifier, Images, Labels, Photo, TooFewError, UnderfireError
from underfire.images.photos import Folder
from underfire.images.pixels import load, to_tensor
from underfire.registry import door_of
from underfire.registry.parts import DEFAULT_DOOR

SMALLEST = 16
"""With fewer photos there is nothing to learn from and nothing to judge by."""
RECOGNISED = 0.2
"""Mean probability of the predictions; below it the photos are of another domain than the classifier's."""

OVERSHOT = 2.0
"""So many times the share that is asked for may be held back, since classes are whole."""


@dataclass(frozen=True)
class LabelledPhoto:
    """A photo and its class.

    Args:
        photo: path and digest.
        label: the class that the classifier predicts.
        validation: whether the best epoch is chosen by it; the network does not learn from it.
        test: whether the network is judged by it in the end; it neither teaches nor chooses.
    """

    photo: Photo
    label: int
    validation: bool
    test: bool = False


class Photos:
    """The photos of one training.

    Args:
        source: a folder, or 'demo'.
        limit: so many, evenly spaced over the sorted paths; None: all.
        classifier: which labels them, and through whose front door they come.
        picture: a file of the training's own, which is no photo wherever it lies.
    """

    def __init__(self, source: str, limit: int | None, classifier: Classifier, picture: Path | None = None) -> None:
        self.folder, self.classifier = Folder(source), classifier
        self.policy, self.door = classifier.preprocess, door_of(classifier)
        self.photos = self.folder.photos(limit, _inside(self.folder, picture))
        self.skipped: dict[str, str] = {}
        """Reasons, by path, for photos that `labelled` could not use."""

    def shown(self, photo: Photo) -> np.ndarray[Any, Any]:
        """Decode a photo as the classifier is shown it, (H, W, C) levels."""
        return self.door.open(self.folder.bytes(photo.path), photo.path, self.folder.limits)

    def around(self, photo: Photo) -> np.ndarray[Any, Any]:
        """Decode what crops are taken from, (side, side, C) levels: with another door no more than is shown.

        The default door cuts the rim off a square that it has made; other doors may pad, squash or do anything else.
        """
        if self.door.name != DEFAULT_DOOR:
            return self.shown(photo)
        wide = replace(self.policy, input_size=self.policy.resize)
        return load(self.folder.bytes(photo.path), photo.path, wide, self.folder.limits)

    def clean(self, photos: Sequence[LabelledPhoto]) -> tuple[Images, Labels]:
        """Decode photos as the classifier sees them, with their classes, on its device."""
        x = to_tensor([self.shown(p.photo) for p in photos])
        return x.to(self.classifier.head.device), self.labels(photos)

    def labels(self, photos: Sequence[LabelledPhoto]) -> Labels:
        """Return the photos' classes, on the classifier's device."""
        return torch.tensor([p.label for p in photos], device=self.classifier.head.device)

    def batches(
        self, photos: Sequence[LabelledPhoto], size: int
    ) -> Iterator[tuple[Sequence[LabelledPhoto], Images, Labels]]:
        """Yield `clean` photos, ``size`` at a time."""
        for start in range(0, len(photos), size):
            part = photos[start : start + size]
            yield part, *self.clean(part)

    def augmented(self, photos: Sequence[LabelledPhoto], purpose: str) -> Images:
        """Decode random crops of at least half the area, mirrored, brighter or darker; drawn from ``purpose``."""
        rows = []
        for p in photos:
            x = to_tensor([self.around(p.photo)])
            rows.append(_augment(x, self.policy.input_size, seed_of(purpose, p.photo.sha256)))
        return torch.cat(rows).to(self.classifier.head.device)

    def labelled(self, share: float, seed: int, test: float = 0.0) -> list[LabelledPhoto]:
        """Label every photo that can be used, and split them; reasons for the others go to `skipped`.

        Args:
            share: of the photos, in whole classes, for validation.
            seed: of the split.
            test: share of the photos, in other whole classes, for the figures.

        Raises:
            UnderfireError: too few photos, too few classes, or photos that the classifier does not recognise.
        """
        predicted = self._predicted()
        _check(self, predicted)
        labels = [label for label, _ in predicted.values()]
        held = _held_back(labels, share, seed)
        judged = _held_back(labels, test, seed, held) if test else set()
        return [LabelledPhoto(photo, label, label in held, label in judged) for photo, (label, _) in predicted.items()]

    @torch.no_grad()
    def _predicted(self) -> dict[Photo, tuple[int, float]]:
        """Predict the class of each photo that can be used, and its probability."""
        predicted: dict[Photo, tuple[int, float]] = {}
        for photo in self.photos:
            try:
                x = to_tensor([self.shown(photo)])
            except UnderfireError as e:
                self.skipped[photo.path] = str(e)
                continue
            z = self.classifier.logits(x.to(self.classifier.head.device))
            if not bool(z.isfinite().all()):
                self.skipped[photo.path] = f"'{photo.path}': the scores of '{self.classifier.name}' are not finite."
                continue
            p = z.softmax(1)[0]
            predicted[photo] = int(p.argmax()), float(p.max())
        return predicted


def _inside(folder: Folder, file: Path | None) -> Collection[str]:
    """Give a file's path in a folder, if it lies there."""
    if file is None or not isinstance(folder.root, Path):
        return ()
    root, file = folder.root.resolve(), file.resolve()
    return (file.relative_to(root).as_posix(),) if file.is_relative_to(root) else ()


def _check(photos: Photos, predicted: Mapping[Photo, tuple[int, float]]) -> None:
    """Raise UnderfireError where nothing can be learnt from these photos."""
    source, name = photos.folder.source, photos.classifier.name
    if len(predicted) < SMALLEST:
        bad = f" ({len(photos.skipped)} more cannot be used)" if photos.skipped else ""
        raise TooFewError(
            f"'{source}' has {len(predicted)} photos{bad}: training needs at least {SMALLEST}, better 500 or more."
        )
    classes = {label for label, _ in predicted.values()}
    if len(classes) < 3:
        only = ", ".join(photos.classifier.classes.names[c] for c in sorted(classes))
        raise TooFewError(
            f"'{name}' sees too few classes in '{source}' ({only}): training needs photos of three or more, since "
            "the network learns what is not there too and is judged on classes that it has not learnt from."
        )
    sure = float(np.mean([p for _, p in predicted.values()]))
    if sure < RECOGNISED:
        raise UnderfireError(
            f"'{name}' hardly recognises anything in '{source}' (mean probability {sure:.2f} of its own answers): "
            "give photos of the kind it was trained on."
        )


def classes_of(photos: Sequence[LabelledPhoto]) -> list[int]:
    """List the classes of the photos that a network learns from.

    Raises:
        TooFewError: fewer than two, and so none that a photo does not show.
    """
    classes = sorted({p.label for p in photos})
    if len(classes) < 2:
        raise TooFewError(
            f"Photos of {len(classes)} class{'' if len(classes) == 1 else 'es'} are left to learn from, once those "
            "that choose and judge are set apart, and training needs two or more: give more photos, of other classes "
            "too."
        )
    return classes


def _held_back(labels: Sequence[int], share: float, seed: int, taken: Set[int] = frozenset()) -> set[int]:
    """Choose classes that are not ``taken``, in the order of their digests, until they hold ``share`` of the photos.

    A class that would make it more than `OVERSHOT` times as much is passed over, unless all would: then it is the
    smallest. Two classes are left.
    """
    sizes, wanted = Counter(labels), share * len(labels)
    free = sorted(set(labels) - taken, key=lambda c: hashlib.sha256(f"{seed}/class/{c}".encode()).hexdigest())
    held: set[int] = set()
    while len(free) > 2 and (so_far := sum(sizes[c] for c in held)) < wanted:
        fitting = [c for c in free if so_far + sizes[c] <= OVERSHOT * wanted]
        if held and not fitting:
            break
        held.add(chosen := fitting[0] if fitting else min(free, key=sizes.__getitem__))
        free.remove(chosen)
    return held


def _augment(x: Images, size: int, seed: int) -> Images:
    g = torch.Generator().manual_seed(seed)
    u = torch.rand(6, generator=g).tolist()
    side = round(x.shape[-1] * (0.5 + 0.5 * u[0]) ** 0.5)
    top, left = (round(v * (x.shape[-1] - side)) for v in u[1:3])
    x = transforms.resized_crop(x, top, left, side, side, [size, size], antialias=True)
    if u[3] < 0.5:
        x = x.flip(-1)
    varied: Images = ((x - 0.5) * (0.8 + 0.4 * u[4]) + 0.5 + 0.2 * (u[5] - 0.5)).clamp(0, 1)
    return varied


def seed_of(*words: object) -> int:
    """Draw a seed that depends on these words alone."""
    digest = hashlib.sha256("/".join(map(str, words)).encode()).digest()
    return int.from_bytes(digest[:7], "big")
