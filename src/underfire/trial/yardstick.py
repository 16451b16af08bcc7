"""The making of a yardstick (method, section 5.5): from benign photos, or from an audit's own clean ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from underfire import registry
from underfire.core import (
    Cell,
    Classifier,
    ClassifierOptions,
    Interpreter,
    Job,
    Listener,
    Photo,
    Quiet,
    Record,
    Scale,
    UnderfireError,
)
from underfire.core.place import absolute_files
from underfire.images.photos import Folder
from underfire.images.pixels import forged_note
from underfire.metrics.ranked import Four, RankedPhoto, of_four, yardsticks
from underfire.metrics.yardstick import SHARE, flat, triple
from underfire.metrics.yardstick_file import YardstickFile, said
from underfire.plan.attacks import attack_of
from underfire.trial.load import Loaded, load
from underfire.trial.natural import Natural, measure, rounded, wrong_maps
from underfire.trial.rows import scales
from underfire.trial.system import System
from underfire.trial.trial import Trial

BATCH, BATCH_GPU = 8, 64
"""Photos that share a batch: a map of many steps costs a GPU hardly more for many photos than for one."""
EPS = 8
"""Budget of the impostor PGD, in levels: the paper's."""


def measure_scale(system: System, parts: Sequence[Loaded], seed: int = 0) -> list[Scale]:
    """Measure natural copies and wrong maps of each clean photo: rows by interpreter, then by photo.

    Args:
        system: the classifier, and the interpreters.
        parts: the photos, in batches. The wrong maps of a photo are of the photos of all of them.
        seed: of the copies.
    """
    return [row for one in system.interpreters.values() for row in _scales(system, one, parts, seed)]


def _scales(system: System, interpreter: Interpreter, parts: Sequence[Loaded], seed: int) -> Iterator[Scale]:
    found = [measure(system, interpreter, loaded, seed) for loaded in parts]
    there = [one.benign for one in found if len(one.benign)]
    wrong = iter(wrong_maps(np.concatenate(there)) if there else [])
    for loaded, one in zip(parts, found, strict=True):
        yield from _rows(interpreter, loaded, one, [next(wrong) for _ in one.benign])


def _rows(interpreter: Interpreter, loaded: Loaded, found: Natural, wrong: Sequence[Mapping[str, Four]]) -> list[Scale]:
    errors = {**loaded.errors, **{loaded.rows[n]: why for n, why in found.lacking.items()}}
    known = {
        row: (found.jpeg_l1[n], _exact(found.copies[n]), _exact([*_both(wrong[n]), found.swap[n]]))
        for n, row in enumerate(loaded.rows)
        if row not in errors
    }
    return scales(loaded, interpreter.name, known, errors)


def _both(wrong: Mapping[str, Four]) -> list[Four | None]:
    return [wrong.get("other_photo"), wrong.get("mean_map")]


def _exact(fours: Sequence[Four | None]) -> list[float | None]:
    """The columns of `Scale` hold the ranks of the numbers."""
    return flat([None if d is None else of_four(d, shown=False) for d in fours])


def make_yardstick(
    classifier: Classifier,
    interpreter: str,
    images: str,
    *,
    options: Mapping[str, Any] | None = None,
    share: float = SHARE,
    limit: int | None = None,
    seed: int = 0,
    listener: Listener | None = None,
) -> tuple[YardstickFile, dict[str, str]]:
    """Make the yardstick of a classifier and an interpreter from benign photos.

    Example:
        ``make_yardstick(classifier, "cam", "benign")[0].yardstick.power``

    Args:
        classifier: the classifier.
        interpreter: name of the interpreter.
        images: a folder of benign photos.
        options: options of the interpreter.
        share: a, the share of natural copies that may be called touched, in (0, 1).
        limit: number of photos that are used, evenly spaced over the sorted paths; by default all.
        seed: of the noise, the other classes and PGD's target classes.
        listener: hears how it goes on.

    Returns:
        The yardstick; and by path, why photos were left out.

    Raises:
        UnderfireError: too few photos, or photos that underfire has attacked.
    """
    if not 0 < share < 1:
        raise UnderfireError(f"--false-rejects {share:g}: give a share above 0 and below 1, such as 0.05.")
    built = registry.build_interpreter(interpreter, classifier, dict(options or {}))
    system = System(classifier, {built.name: built}, str(getattr(classifier, "device", "cpu")))
    photos, skipped = _measured(system, built, images, limit, seed, listener or Quiet())
    as_shown, exact = yardsticks(photos, share)
    return YardstickFile(
        classifier=classifier.name,
        classifier_digest=classifier.digest,
        interpreter=built.name,
        yardstick=as_shown,
        options=absolute_files(said(options or {}, built.digest)),
        interpreter_digest=built.digest,
        exact=exact,
    ), skipped


def _measured(
    system: System, interpreter: Interpreter, images: str, limit: int | None, seed: int, listener: Listener
) -> tuple[tuple[RankedPhoto, ...], dict[str, str]]:
    """Measure each photo; the maps of all clean photos are kept until the mean is known."""
    folder = Folder(images)
    photos = list({photo.sha256: photo for photo in folder.photos(limit)}.values())
    _refuse_forged(folder, photos)
    kept: list[RankedPhoto] = []
    maps, skipped = [], dict[str, str]()
    job = _job(system, images, seed)
    listener.begin("yardstick", len(photos), 0)
    size = BATCH if system.device == "cpu" else BATCH_GPU
    for first in range(0, len(photos), size):
        some = photos[first : first + size]
        loaded = load(some, lambda photo: folder.bytes(photo.path), system.door, system.classifier.preprocess)
        clean, found, why = _batch(system, interpreter, loaded, job)
        kept += found
        maps += clean
        skipped |= why
        listener.done(min(first + size, len(photos)))
    if not kept:
        raise UnderfireError(f"No photo in '{images}' gives a map: {next(iter(skipped.values()), 'there are none')}")
    return _with_wrong_maps(kept, np.stack(maps)), skipped


def _batch(
    system: System, interpreter: Interpreter, loaded: Loaded, job: Job
) -> tuple[list[Any], list[RankedPhoto], dict[str, str]]:
    """Measure a batch: clean maps and distances of the photos with a copy of their class, and why others lack them."""
    natural = measure(system, interpreter, loaded, job.seed)
    trial = Trial(system, job, "yardstick", loaded)
    trial.run()
    pgd = {record.image_sha256: record for record in trial.records if record.error is None}
    skipped = {loaded.given[row - loaded.first].path: why for row, why in loaded.errors.items()}
    clean, kept = [], []
    for n, photo in enumerate(loaded.photos):
        copies = tuple(d for d in natural.copies[n] if d is not None)
        if n in natural.lacking or not copies:
            skipped[photo.path] = natural.lacking.get(n, "no natural copy keeps the photo's class.")
            continue
        wrong = {"pgd": _of_record(pgd.get(photo.sha256)), "class_swap": natural.swap[n]}
        clean.append(natural.benign[n])
        kept.append(RankedPhoto(photo.sha256, copies, {k: d for k, d in wrong.items() if d is not None}))
    return clean, kept, skipped


def _of_record(record: Record | None) -> Four | None:
    if record is None or record.map_l1 is None or record.map_iou is None or record.map_rank_shown is None:
        return None
    l1, iou, rank = triple(record.map_l1, record.map_iou, record.map_rank)
    return rounded(l1), rounded(iou), rounded(rank), rounded(1 - record.map_rank_shown)


def _with_wrong_maps(kept: Sequence[RankedPhoto], maps: Any) -> tuple[RankedPhoto, ...]:
    wrong = wrong_maps(maps)
    return tuple(
        RankedPhoto(one.sha256, one.copies, {**one.impostors, **more}) for one, more in zip(kept, wrong, strict=True)
    )


def _job(system: System, images: str, seed: int) -> Job:
    """PGD `fast` on random classes, judged by the interpreter."""
    cell = Cell(attack_of("pgd", "fast", None, EPS, {}, {}), None)
    return Job(
        source=images,
        classifier=system.classifier.name,
        options=ClassifierOptions(),
        interpreters=tuple(system.interpreters),
        interpreter_options={},
        cells=(cell,),
        preset="fast",
        eps=EPS,
        target="random",
        seed=seed,
        threads=torch.get_num_threads(),
        precision="fp32",
        device=system.device,
    )


def _refuse_forged(folder: Folder, photos: Sequence[Photo]) -> None:
    for photo in photos:
        try:
            note = forged_note(folder.bytes(photo.path))
        except UnderfireError:  # a photo that cannot be read is left out when its turn comes
            continue
        if note:
            raise UnderfireError(f"'{photo.path}' was made by underfire ({note}): give benign photos only.")
