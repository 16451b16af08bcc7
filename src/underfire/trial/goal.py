"""The clean side of a trial: what each image is before any attack, and the class and map that are wanted of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from underfire.core import Classifier, Interpreter, Job, Photo, UnderfireError
from underfire.images import pixels, targets
from underfire.images.photos import Folder, PhotoLostError, planned
from underfire.interpreters.checked import explain
from underfire.trial.system import System

Levels: TypeAlias = "NDArray[np.uint8]"
"""(H, W, 3) pixels, 0 to 255."""

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass
class Clean:
    """What is known of one clean image, and what is wanted of it; maps are by interpreter.

    Args:
        row: its place in the unit.
        photo: its identity.
        levels: (H, W, 3) pixels.
        x: (3, H, W) the same in [0, 1].
        source: the classifier's own prediction.
        confidence: its probability.
        target: the class that is wanted.
        prediction_passes: F spent on predictions.
        maps: benign maps in float64.
        wanted: target maps in float64; the benign ones where those are wanted.
        model: the image and class whose map is wanted, where that is not its own.
        wanted_of: the class or photo whose map is wanted; None where nobody's or its own.
        map_passes: F spent on both.
        errors: why there is no map.
    """

    row: int
    photo: Photo
    levels: Levels
    x: Tensor
    source: int
    confidence: float
    target: int
    prediction_passes: float
    maps: dict[str, Tensor] = field(default_factory=dict)
    wanted: dict[str, Tensor] = field(default_factory=dict)
    model: tuple[Tensor, int] | None = None
    wanted_of: str | None = None
    map_passes: dict[str, float] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)


def load(folder: Folder, photos: Sequence[Photo], classifier: Classifier) -> tuple[dict[int, Levels], dict[int, str]]:
    """Pixels by row, and why others have none."""
    levels, errors = {}, {}
    for i, photo in enumerate(photos):
        try:
            levels[i] = pixels.load(planned(folder, photo), photo.path, classifier.preprocess)
        except PhotoLostError:  # no property of this photo, but a mistake that the user can mend
            raise
        except UnderfireError as e:
            errors[i] = str(e)
    return levels, errors


@torch.no_grad()
def look(
    system: System,
    job: Job,
    photos: Sequence[Photo],
    levels: Mapping[int, Levels],
    partners: Mapping[int, tuple[Photo, Levels]],
) -> tuple[list[Clean], dict[int, str]]:
    """Predictions, wanted classes, benign and wanted maps; and by row why an image has none of them.

    Args:
        system: who is asked.
        job: what is wanted.
        photos: all photos of the unit.
        levels: pixels of those that could be read, by row.
        partners: the photos whose maps are wanted, with their pixels, by row, where the job says so.
    """
    if not levels:
        return [], {}
    classifier, rows, errors = system.classifier, list(levels), dict[int, str]()
    x = pixels.to_tensor([levels[i] for i in rows]).to(system.device)
    classifier.meter.open(len(rows))
    z = classifier.logits(x)
    passes = classifier.meter.close()
    clean = []
    for n, i in enumerate(rows):
        if not bool(z[n].isfinite().all()):
            errors[i] = f"The classifier's scores of '{photos[i].path}' are not finite."
            continue
        source = int(z[n].argmax())
        target = target_class(job, photos[i], z[n], source)
        if target == source:
            name = classifier.classes.names[source]
            errors[i] = f"'{photos[i].path}' is already classified as {name} ({source}): give another --target."
            continue
        p = float(z[n].softmax(0)[source])
        clean.append(Clean(i, photos[i], levels[i], x[n], source, p, target, passes[n]))
    if clean:
        models = _models(system, job, clean, partners)
        for c in clean:
            c.model = models.get(c.row)
        for name, interpreter in system.interpreters.items():
            _benign_maps(system, name, interpreter, clean)
            _wanted_maps(system, job, name, interpreter, clean, models)
    return clean, errors


def target_class(job: Job, photo: Photo, z: Tensor, source: int) -> int:
    """The class c_t that is wanted of a photo with logits ``z`` (K,)."""
    if isinstance(job.target, int):
        return job.target
    if job.target == "least-likely":
        return int(z.argmin())
    return targets.draw_class(job.seed, photo, "target", len(z), [source])


def labels(system: System, classes: Sequence[int]) -> Tensor:
    """Classes (N,) on the system's device."""
    return torch.tensor(classes, dtype=torch.int64, device=system.device)


def _benign_maps(system: System, name: str, interpreter: Interpreter, clean: Sequence[Clean]) -> None:
    meter = system.classifier.meter
    meter.open(len(clean))
    found, errors = explain(interpreter, torch.stack([c.x for c in clean]), labels(system, [c.source for c in clean]))
    for n, (c, passes) in enumerate(zip(clean, meter.close(), strict=True)):
        c.map_passes[name] = passes
        if n in errors:
            c.errors[name] = f"'{c.photo.path}': {errors[n]}"
        else:
            c.maps[name] = found[n]


def _models(
    system: System, job: Job, clean: Sequence[Clean], partners: Mapping[int, tuple[Photo, Levels]]
) -> dict[int, tuple[Tensor, int]]:
    """Row -> the image and the class whose map is wanted, where target maps are maps of something."""
    if job.target_map.kind == "class":
        names, models = system.classifier.classes.names, {}
        for c in clean:
            wanted = job.target_map.value
            if wanted == "random":
                wanted = targets.draw_class(job.seed, c.photo, "target map", len(names), [c.source, c.target])
            c.wanted_of = names[int(wanted)]
            models[c.row] = c.x, int(wanted)
        return models
    able = [c for c in clean if c.row in partners] if job.target_map.kind == "image" else []
    if not able:
        return {}
    meter = system.classifier.meter
    x = pixels.to_tensor([partners[c.row][1] for c in able]).to(system.device)
    meter.open(len(able))
    source = system.classifier.logits(x).argmax(1).tolist()
    for c, passes in zip(able, meter.close(), strict=True):
        c.prediction_passes += passes
        path = partners[c.row][0].path
        c.wanted_of = PurePath(path).name if PurePath(path).is_absolute() else path
    return {c.row: (x[n], source[n]) for n, c in enumerate(able)}


def _wanted_maps(
    system: System,
    job: Job,
    name: str,
    interpreter: Interpreter,
    clean: Sequence[Clean],
    models: Mapping[int, tuple[Tensor, int]],
) -> None:
    target = job.target_map
    able = [c for c in clean if name in c.maps]
    if target.kind in ("class", "image"):
        _maps_of_models(system, name, interpreter, [c for c in able if c.row in models], models)
        for c in able:
            if c.row not in models:
                c.errors[name] = f"'{c.photo.path}': the photo whose map is wanted cannot be read."
        return
    for c in able:
        size = (c.maps[name].shape[0], c.maps[name].shape[1])
        if target.kind == "shape":
            c.wanted[name] = torch.from_numpy(targets.draw_shape(str(target.value), job.seed, c.photo, size))
        elif target.kind == "file":
            c.wanted[name] = torch.from_numpy(targets.read_map(target, size))
        else:
            c.wanted[name] = c.maps[name]


def _maps_of_models(
    system: System,
    name: str,
    interpreter: Interpreter,
    able: Sequence[Clean],
    models: Mapping[int, tuple[Tensor, int]],
) -> None:
    if not able:
        return
    meter = system.classifier.meter
    meter.open(len(able))
    x, y = torch.stack([models[c.row][0] for c in able]), labels(system, [models[c.row][1] for c in able])
    found, errors = explain(interpreter, x, y)
    for n, (c, passes) in enumerate(zip(able, meter.close(), strict=True)):
        c.map_passes[name] += passes
        if n in errors:
            c.errors[name] = f"'{c.photo.path}': its target map: {errors[n]}"
        else:
            c.wanted[name] = found[n]
