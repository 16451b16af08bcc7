"""Goals: what each photo is before any attack, and the class and the maps that are wanted of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import PurePath

import torch
from torch import Tensor

from underfire.core import Job, Photo
from underfire.heads import Head, head_of, kind_of
from underfire.images import pixels, targets
from underfire.trial.batch import Batch, Reference, labels, logits
from underfire.trial.load import Loaded
from underfire.trial.system import System
from underfire.trial.wanted import goal_maps


@torch.no_grad()
def look(system: System, job: Job, loaded: Loaded, references: Loaded | None = None) -> Batch:
    """Find predictions, wanted classes, benign and target maps; photos that have none of them are set aside.

    Args:
        system: who is asked.
        job: what is wanted.
        loaded: the photos.
        references: the photos whose maps are wanted, at the places of those that want them; None where none are.
    """
    batch = _with_references(system, job, _predicted(system, job, loaded), references)
    maps = {name: goal_maps(system, job, batch, interpreter) for name, interpreter in system.interpreters.items()}
    return replace(batch, goals=maps)


def _predicted(system: System, job: Job, loaded: Loaded) -> Batch:
    x = pixels.to_tensor(loaded.levels).to(system.device)
    with system.classifier.meter.counting(len(x)) as spent:
        z = logits(system, x)
    source = z.argmax(1)
    known = zip(loaded.photos, z, source.tolist(), strict=True)
    aims = [_aim(system, job, photo, scores, own) for photo, scores, own in known]
    return Batch(
        rows=loaded.rows,
        photos=loaded.photos,
        levels=loaded.levels,
        x=x,
        source=source,
        confidence=head_of(system.classifier).probabilities(z).gather(1, source[:, None])[:, 0],
        target=labels(system, [target for target, _ in aims]),
        passes=spent.passes,
        classes=system.classifier.classes,
        head=kind_of(system.classifier),
        errors=loaded.errors,
        files=loaded.files,
    ).without({row: why for row, (_, why) in zip(loaded.rows, aims, strict=True) if why})


def _aim(system: System, job: Job, photo: Photo, z: Tensor, source: int) -> tuple[int, str]:
    """The class that is wanted of a photo with logits ``z`` (K,), and why it cannot be attacked ('': it can)."""
    if not bool(z.isfinite().all()):
        return source, f"The classifier's scores of '{photo.path}' are not finite."
    target = target_class(job, photo, head_of(system.classifier), z, source)
    if target == source and job.target != "own":
        name = system.classifier.classes.names[source]
        return target, f"'{photo.path}' is already classified as {name} ({source}): give another --target."
    return target, ""


def target_class(job: Job, photo: Photo, head: Head, z: Tensor, source: int) -> int:
    """Choose the class c_t that is wanted of a photo with logits ``z`` (K,).

    A random label of a head with labels of their own is one that is off on the clean photo.
    """
    if isinstance(job.target, int):
        return job.target
    if job.target == "own":
        return source
    if job.target == "least-likely":
        return int(z.argmin())
    if job.target == "nearest":
        return int(z.scatter(0, torch.tensor([source], device=z.device), -torch.inf).argmax())
    return targets.draw_class(job.seed, photo, "target", len(z), head.taken(z, source))


# -- what target maps are maps of -------------------------------------------------------------------------------------


def _with_references(system: System, job: Job, batch: Batch, references: Loaded | None) -> Batch:
    if job.target_map.kind == "class":
        return _of_classes(system, job, batch)
    if references is None:
        return batch
    return _of_photos(system, batch, references)


def _of_classes(system: System, job: Job, batch: Batch) -> Batch:
    """Each photo itself, explained for another class."""
    names, wanted = system.classifier.classes.names, job.target_map.value
    if wanted == "random":
        known = zip(batch.photos, batch.source.tolist(), batch.target.tolist(), strict=True)
        y = [targets.draw_class(job.seed, p, "target map", len(names), [source, target]) for p, source, target in known]
    else:
        y = [int(wanted)] * len(batch)
    return replace(batch, reference=Reference(batch.x, labels(system, y), tuple(names[one] for one in y)))


def _of_photos(system: System, batch: Batch, references: Loaded) -> Batch:
    """Other photos, explained for their own classes."""
    index = {row: n for n, row in enumerate(references.rows)}
    lacking = [n for n, row in enumerate(batch.rows) if row not in index]
    errors = batch.told(dict.fromkeys(lacking, "the photo whose map is wanted cannot be read."))
    keep = batch.outside(errors)
    shown = references.levels[[index[row] for row in batch.rows if row in index]]
    x, y, passes = batch.x.clone(), batch.source.clone(), batch.passes.clone()
    x[keep] = pixels.to_tensor(shown).to(system.device)
    with system.classifier.meter.counting(len(shown)) as spent:
        z = logits(system, x[keep])
    y[keep] = z.argmax(1)
    passes[keep] += spent.passes
    bad = torch.arange(len(x))[keep][~z.isfinite().all(1).cpu()].tolist()
    errors |= batch.told(dict.fromkeys(bad, "the scores of the photo whose map is wanted are not finite."))
    of = tuple(_called(references.given[row - references.first].path) for row in batch.rows)
    return replace(batch, passes=passes, reference=Reference(x, y, of, errors))


def _called(path: str) -> str:
    """What a record calls a photo: of a path outside the images folder only its last part."""
    return PurePath(path).name if PurePath(path).is_absolute() else path
