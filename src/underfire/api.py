"""The same audit in a few lines of Python: classifier, interpreter and images in, adversarial images out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from underfire import registry
from underfire.core import (
    LEVELS,
    Cell,
    Classifier,
    ClassifierOptions,
    Images,
    Interpreter,
    Job,
    Maps,
    Photo,
    Record,
    TargetMap,
    UnderfireError,
)
from underfire.defenses.ensemble import calibration
from underfire.defenses.ensemble.alarm import EnsembleAlarm
from underfire.images import pixels, targets
from underfire.images.given import as_file, as_shown
from underfire.images.photos import Folder
from underfire.metrics.verdict import MapVerdict, untouched_scale, verdict
from underfire.plan.attacks import attack_of, check_surrogate, taken
from underfire.plan.check import check
from underfire.plan.targets import class_of, target_map_of
from underfire.trial.load import Loaded, load
from underfire.trial.system import System
from underfire.trial.trial import Trial
from underfire.trial.yardstick import measure_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Given: TypeAlias = str | Path | NDArray[np.uint8] | Image.Image


@dataclass(frozen=True)
class Result:
    """What an attack did to the images that could be attacked.

    Args:
        clean: (N, 3, H, W) what the classifier was shown before.
        images: (N, 3, H, W) what it was shown after: read back from 8-bit PNGs.
        clean_maps: (N, h, w) the interpreter's maps of the clean images for their own classes.
        maps: (N, h, w) its maps of the adversarial images for the target classes.
        records: one a given image, in order; those with an ``error`` have no row in the tensors.
        scale: map_l1 up to which a map counts as untouched, by interpreter: of these images alone.
    """

    clean: Images
    images: Images
    clean_maps: Maps
    maps: Maps
    records: list[Record]
    scale: Mapping[str, float]

    @property
    def verdicts(self) -> list[MapVerdict]:
        """One verdict for each record: whether the map counts as untouched, and the image as forged."""
        return [verdict(r.interpreter, r.success, r.map_l1, self.scale) for r in self.records]


def classifier(name: str = "efficientnet-lite0", *, device: str = "cpu", **own: Any) -> Classifier:
    """A classifier by name.

    Args:
        name: as in ``underfire list``; 'timm:NAME' for any of timm's.
        device: where it runs.
        own: weights, input_size, resize, mean, std, classes: as the flags of ``underfire run``.
    """
    return registry.build_classifier(name, ClassifierOptions(**own), device)


def interpreter(name: str, classifier: Classifier, **options: Any) -> Interpreter:
    """An interpreter by name, for a classifier."""
    return registry.build_interpreter(name, classifier, options)


def alarm(path: str | Path, classifier: Classifier | None = None) -> EnsembleAlarm:
    """A deployed alarm, from the file of ``underfire defend calibrate``.

    Args:
        path: the file.
        classifier: the one it was calibrated for; by default underfire's own of that name.
    """
    known = calibration.read(path)
    return EnsembleAlarm(classifier or globals()["classifier"](known.classifier), str(path))


def attack(
    classifier: Classifier,
    interpreter: Interpreter | str,
    images: Given | Sequence[Given] | Images | Sequence[Tensor],
    *,
    attack: str = "adv2",
    preset: str = "fast",
    eps: int = 8,
    target: str | int = "random",
    target_map: str = "benign",
    seed: int = 0,
    **options: Any,
) -> Result:
    """Attack images in this process and judge the result as ``underfire run`` does.

    Args:
        classifier: from `classifier` or `wrap`.
        interpreter: an interpreter or its name.
        images: paths, arrays (H, W, 3) of 8-bit levels or Pillow images, which are resized and cropped as the files
            of photos are; or a tensor (N, 3, H, W) in [0, 1] of the input size, which is taken as it is.
        attack: its name.
        preset: paper, fast or thorough.
        eps: L∞ budget in levels of 255.
        target: 'random', 'least-likely', or a class: index, WordNet id or name.
        target_map: the map to be shown: benign, class:NAME|random, image:PATH|random, shape:circle|box or file:PNG.
        seed: of the random targets.
        options: settings of the attack in place of the preset's, such as ``steps=20``.
    """
    if not 1 <= eps <= LEVELS:
        raise UnderfireError(f"eps={eps}: the budget is 1 to {LEVELS} whole levels of {LEVELS}.")
    device = str(getattr(classifier, "device", "cpu"))
    check(classifier, device)
    judge = globals()["interpreter"](interpreter, classifier) if isinstance(interpreter, str) else interpreter
    wanted = target_map_of(target_map, classifier)
    cell = _cell(attack, preset, judge, eps, wanted, options)
    loaded = _loaded(images, classifier)
    system = System(classifier, {judge.name: judge}, device)
    asked = {"preset": preset, "eps": eps, "target": class_of(str(target), classifier), "seed": seed}
    job = _job(system, cell, target_map=wanted, **asked)
    trial = Trial(system, job, "notebook", loaded, _references(wanted, seed, loaded, classifier))
    trial.run()
    scale = untouched_scale((row.interpreter, row.jpeg_l1) for row in measure_scale(system, loaded))
    return _result(trial, judge.name, device, scale)


def _cell(
    attack: str, preset: str, judge: Interpreter, eps: int, wanted: TargetMap, options: Mapping[str, Any]
) -> Cell:
    maker: Any = registry.maker("attacks", attack)
    against = judge.name if maker.fools_interpreter else None
    check_surrogate(attack, options, [judge])
    return Cell(attack_of(attack, preset, against, eps, taken(maker, drawn=wanted.drawn), options), against)


def _job(system: System, cell: Cell, **asked: Any) -> Job:
    """What a plan would say."""
    return Job(
        source="",
        classifier=system.classifier.name,
        options=ClassifierOptions(),
        interpreters=tuple(system.interpreters),
        interpreter_options={},
        cells=(cell,),
        threads=torch.get_num_threads(),
        precision="fp32",
        device=system.device,
        **asked,
    )


def _loaded(given: Any, classifier: Classifier) -> Loaded:
    """What was given, as the classifier is shown it."""
    single = isinstance(given, str | Path | Image.Image) or (isinstance(given, np.ndarray) and given.ndim <= 3)
    images = [given] if single else given
    if not len(images):
        raise UnderfireError("There are no images to attack: give paths, arrays or a tensor.")
    if not isinstance(images, Tensor) and all(isinstance(one, Tensor) for one in images):
        images = _stacked(images)
    if isinstance(images, Tensor):
        levels = as_shown(images, classifier.preprocess.input_size, classifier.name)
        photos = tuple(_photo(f"image-{i}.png", pixels.encode_png(one)) for i, one in enumerate(levels))
        return Loaded(photos, 0, tuple(range(len(photos))), levels, {})
    files = [_file(i, one) for i, one in enumerate(images)]
    contents = {_photo(*file): file[1] for file in files}
    return load([_photo(*file) for file in files], contents.__getitem__, classifier.preprocess)


def _stacked(images: Sequence[Tensor]) -> Tensor:
    shapes = {tuple(one.shape) for one in images}
    if len(shapes) > 1:
        raise UnderfireError(f"Tensors of several shapes, {sorted(shapes)}: give them all in the input size.")
    return torch.stack(tuple(images)) if len(min(shapes)) == 3 else torch.cat(tuple(images))


def _file(i: int, one: Any) -> tuple[str, bytes]:
    if isinstance(one, str | Path):
        return str(one), Folder(str(one)).bytes(Path(one).name)
    return f"image-{i}.png", as_file(one, f"images[{i}]")


def _photo(path: str, content: bytes) -> Photo:
    return Photo(path, hashlib.sha256(content).hexdigest())


def _references(wanted: TargetMap, seed: int, loaded: Loaded, classifier: Classifier) -> Loaded | None:
    """The photos whose maps are wanted, at the places of those that want them; None where none are."""
    if wanted.kind != "image":
        return None
    if wanted.value != "random":
        photo, content = Photo(str(wanted.value), wanted.digest), Path(str(wanted.value)).read_bytes()
        return load([photo] * len(loaded.given), lambda _: content, classifier.preprocess)
    places = {photo: n for n, photo in enumerate(loaded.photos)}
    drawn = [targets.draw_photo(seed, p, list(places)) if p in places else p for p in loaded.given]
    shown = [places[drawn[row]] for row in loaded.rows]
    return Loaded(tuple(drawn), loaded.first, loaded.rows, loaded.levels[shown], loaded.errors)


def _result(trial: Trial, name: str, device: str, scale: Mapping[str, float]) -> Result:
    ((forged, judged),) = trial.seen
    if not len(judged.clean):
        raise UnderfireError(f"None of the images could be attacked: {trial.records[0].error}")
    return Result(
        clean=judged.clean.x,
        images=pixels.to_tensor(forged.levels).to(device),
        clean_maps=judged.clean.goals[name].benign.float(),
        maps=judged.maps.float(),
        records=trial.records,
        scale=scale,
    )
