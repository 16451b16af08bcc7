"""A whole training: photos in, a network's file with its card out; killed, the same call goes on where it was.

photos -> the classifier's own predictions -> a split by class -> epochs -> the best network, with its card
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from underfire.core import Classifier, MismatchError, UnderfireError, unknown
from underfire.core.files import writable_or_say, write_whole
from underfire.core.place import slug
from underfire.interpreters.rts.card import Card, packed, read_card
from underfire.interpreters.rts.fits import refuse_unsuitable
from underfire.registry.parts import DEFAULT_DOOR
from underfire.train.aid import AidTask
from underfire.train.loop import Nobody, Task, TrainingLoop, TrainListener
from underfire.train.photos import LabelledPhoto, Photos
from underfire.train.rts import RtsTask
from underfire.train.rts_a import AdversarialTask
from underfire.train.settings import AdversarialSettings, AidSettings, TrainSettings
from underfire.train.teacher import load_teacher

Adversarial: TypeAlias = Literal["aid", "doubt"]
"""Trainings on forged images: the paper's, and RTSᴬ's."""
MOST_THREADS = 256
"""Up to so many are tried for a file of a version that had the number of threads in its fingerprint."""
StartTask: TypeAlias = Callable[[Photos, Sequence[LabelledPhoto]], Task]


@dataclass(frozen=True)
class Trained:
    """A finished training.

    Args:
        path: the network's file.
        picture: PNG of a few validation photos and their maps.
        card: what the network is and is worth.
        skipped: reasons, by path, for photos that could not be used.
        fresh: whether anything was trained; False where the file was there.
    """

    path: Path
    picture: Path
    card: Card
    skipped: Mapping[str, str]
    fresh: bool


def train_rts(
    classifier: Classifier,
    images: str,
    out: Path | None = None,
    *,
    adversarial: Adversarial | None = None,
    plain: str | None = None,
    epochs: int | None = None,
    patience: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    precision: str = "fp32",
    listener: TrainListener | None = None,
    **options: Any,
) -> Trained:
    """Train the network of RTS, or of RTSᴬ, for a classifier; the same call goes on where a kill stopped it.

    Example:
        ``train_rts(underfire.classifier("efficientnet-lite0"), "photos", epochs=12).card.figures``

    Args:
        classifier: whose predictions shall be explained; one with a feature pyramid and a linear head.
        images: photos without labels: a folder, or 'demo'. Some 500 or more, of the kind the classifier was trained on.
        out: the file to write; by default rts-CLASSIFIER.safetensors, or rts-a-… (doubt), or rts-aid-….
        adversarial: train on forged images too, starting from a plain network: 'aid' as the paper does, or 'doubt', for
            RTSᴬ.
        plain: that network's file, with ``adversarial`` alone; by default the packaged one.
        epochs: at most so many; by default 24; 12 of AID; 16 of RTSᴬ, whose epoch is an eighth of the photos.
        patience: stop after so many epochs without a better one; by default 8; 12 of AID and 16 of RTSᴬ.
        limit: photos used, evenly spaced over the sorted paths; by default all.
        seed: of every random choice.
        precision: of the classifier's passes, 'fp32' or 'bf16'; on forged images 'fp32' alone.
        options: settings of the training in place of its own, such as ``apart=1.0`` of AID.
        listener: who hears how it goes on.

    Raises:
        UnderfireError: photos that nothing can be learnt from, a file that cannot be written or is another
            training's, or settings that make no sense.
    """
    out = out or default_out(classifier.name, adversarial)
    writable_or_say(out, "give another --out")
    chosen: dict[str, Any] = {"limit": limit, "seed": seed, "precision": precision, **options}
    chosen |= {name: n for name, n in (("epochs", epochs), ("patience", patience)) if n is not None}
    settings, start = _adversarial(classifier, plain, adversarial, chosen) if adversarial else _plain(plain, chosen)
    return fit(classifier, images, settings, start, out, listener)


def _plain(plain: str | None, chosen: Mapping[str, Any]) -> tuple[TrainSettings, StartTask]:
    if plain is not None:
        raise UnderfireError(f"--from {plain}: a plain network starts from the photos alone; add --adversarial.")
    settings = TrainSettings(**chosen)
    return settings, partial(RtsTask, settings=settings)


def _adversarial(
    classifier: Classifier, plain: str | None, how: Adversarial, chosen: Mapping[str, Any]
) -> tuple[TrainSettings, StartTask]:
    training_of(how)
    if chosen["precision"] != "fp32":
        raise UnderfireError(f"--precision {chosen['precision']}: --adversarial trains in float32 alone; leave it out.")
    teacher = load_teacher(classifier, plain)
    if how == "aid":
        aid = AidSettings(teacher=teacher.digest, **chosen)
        return aid, partial(AidTask, settings=aid, teacher=teacher)
    settings = AdversarialSettings(teacher=teacher.digest, **chosen)
    return settings, partial(AdversarialTask, settings=settings, teacher=teacher)


def training_of(word: str | None) -> Adversarial | None:
    """Turn a user's word into a training on forged images; UnderfireError for one that there is not."""
    known: tuple[Adversarial | None, ...] = (None, *get_args(Adversarial))
    if word not in known:
        raise unknown("adversarial training", str(word), get_args(Adversarial))
    return known[known.index(word)]


def default_out(classifier: str, adversarial: Adversarial | None) -> Path:
    """Name a network's file after its classifier."""
    kind = {"aid": AidTask.kind, "doubt": AdversarialTask.kind}.get(adversarial or "", RtsTask.kind)
    return Path(f"{kind}-{slug(classifier)}.safetensors")


def fit(
    classifier: Classifier,
    images: str,
    settings: TrainSettings,
    start: StartTask,
    out: Path,
    listener: TrainListener | None = None,
) -> Trained:
    """Train a task on photos; do nothing where its file is there already.

    Args:
        classifier: whose predictions shall be explained; one with a feature pyramid and a linear head.
        images: photos: a folder, or 'demo'.
        settings: how to train; with the photos and the classifier they are the training's identity.
        start: makes the task of (photos, labelled photos).
        out: the file to write; its checkpoint lies beside it as ``out`` + '.partial', and a picture of validation maps,
            new after every epoch, with the ending .png.
        listener: who hears how it goes on.

    Raises:
        UnderfireError: photos that nothing can be learnt from, or other files at ``out`` or where its picture goes.
    """
    refuse_unsuitable(classifier)
    partly, picture = out.with_name(out.name + ".partial"), _picture_of(out)
    photos = Photos(images, settings.limit, classifier, picture)
    fingerprint, *older = _fingerprints(photos, settings)
    if out.exists():
        return _finished(out, (fingerprint, *older))
    if picture.exists() and not partly.exists():
        raise UnderfireError(
            f"'{picture}' is there already, where the picture of the maps would be written: give another --out, or "
            "move it."
        )
    task = start(photos, photos.labelled(settings.validation, settings.seed, settings.test))
    loop = TrainingLoop(task, settings)
    if partly.exists():
        loop.resume(partly, (fingerprint, *older))
    _run(loop, partly, picture, fingerprint, listener or Nobody())
    card = _finish(loop, fingerprint)
    write_whole(picture, task.evaluator.picture(task.net, task.held))
    write_whole(out, packed(task.net, card))
    partly.unlink(missing_ok=True)
    return Trained(out, picture, card, photos.skipped, True)


def _run(loop: TrainingLoop, partly: Path, picture: Path, fingerprint: str, listener: TrainListener) -> None:
    """Run the epochs that are left, with a checkpoint after each and then a picture, which is never there alone."""
    task = loop.task
    listener.begin(len(task.train), len(task.held), loop.settings.epochs, task.steps, loop.epoch)
    while not loop.over:
        loop.run_epoch(listener)
        loop.save(partly, fingerprint)
        write_whole(picture, task.evaluator.picture(task.net, task.held))


def _finish(loop: TrainingLoop, fingerprint: str) -> Card:
    """Go back to the best network, and write its card."""
    t, figures = loop.finish()
    classifier = loop.task.evaluator.classifier
    known = {"fingerprint": fingerprint, "best_epoch": loop.best_epoch, "epochs_run": loop.epoch}
    held = tuple(p.photo.sha256 for p in (*loop.task.held, *loop.task.test))
    settings = asdict(loop.settings) | known
    return Card(classifier.name, classifier.digest, t, settings, figures, held, loop.task.kind)


def _finished(out: Path, fingerprints: Collection[str]) -> Trained:
    """Take a training's file that is there; UnderfireError where it is another training's."""
    card = read_card(out)
    if card.settings.get("fingerprint") not in fingerprints:
        raise MismatchError(
            f"'{out}' is there already, trained for '{card.classifier}' with other photos or settings: give another "
            "--out, or delete it."
        )
    return Trained(out, _picture_of(out), card, {}, False)


def _picture_of(out: Path) -> Path:
    return out.with_suffix(".png")


def _fingerprints(photos: Photos, settings: TrainSettings) -> list[str]:
    """Digest what a training's result depends on; the digests of earlier versions follow.

    The number of threads is no longer in it: it decides the order of sums, and so last digits. A training that goes on
    with others is as good, and its figures are those of the network that comes out; a device counts no more.
    """
    door = [] if photos.door.name == DEFAULT_DOOR else [photos.door.digest]
    content = [photos.classifier.digest, [p.sha256 for p in photos.photos], asdict(settings), *door]
    said = json.dumps(content, sort_keys=True)
    older = [] if door else [f"{said[:-1]}, {threads}]" for threads in range(1, MOST_THREADS + 1)]
    return [hashlib.sha256(text.encode()).hexdigest() for text in (said, *older)]
