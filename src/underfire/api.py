"""The same audit in a few lines of Python: classifier, interpreter and images in, adversarial images out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from underfire import registry
from underfire.core import (
    LEVELS,
    Attack,
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
from underfire.images.photos import Folder
from underfire.interpreters.checked import explain
from underfire.metrics.verdict import MapVerdict, untouched_scale, verdict
from underfire.plan.attacks import taken
from underfire.plan.check import check
from underfire.plan.targets import class_of, target_map_of
from underfire.trial.system import System
from underfire.trial.unit import Trial
from underfire.trial.yardstick import measure_scale

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
    images: Sequence[str | Path | NDArray[np.uint8]] | Images,
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
        images: paths, arrays (H, W, 3) of 8-bit levels, or a tensor (N, 3, H, W) in [0, 1] of the input size.
        attack: its name.
        preset: paper, fast or thorough.
        eps: L∞ budget in levels of 255.
        target: 'random', 'least-likely', or a class: index, WordNet id or name.
        target_map: the map to be shown: benign, class:NAME|random, image:PATH|random, shape:circle|box or file:PNG.
        seed: of the random targets.
        options: settings of the attack in place of the preset's, such as ``steps=20``.
    """
    if not len(images):
        raise UnderfireError("There are no images to attack: give paths, arrays or a tensor.")
    if not 1 <= eps <= LEVELS:
        raise UnderfireError(f"eps={eps}: the budget is 1 to {LEVELS} whole levels of {LEVELS}.")
    device = str(getattr(classifier, "device", "cpu"))
    check(classifier, device)
    judge = globals()["interpreter"](interpreter, classifier) if isinstance(interpreter, str) else interpreter
    maker: Any = registry.maker("attacks", attack)
    against = judge.name if maker.fools_interpreter else None
    wanted = target_map_of(target_map, classifier)
    made: Attack = maker.make(preset, against, eps, **taken(maker, drawn=wanted.drawn), **options)
    photos, levels, errors = _read(images, classifier)
    system = System(classifier, {judge.name: judge}, device)
    jpeg = measure_scale(system, photos, levels, errors)
    job = Job(
        source="",
        classifier=classifier.name,
        options=ClassifierOptions(),
        interpreters=(judge.name,),
        interpreter_options={},
        cells=(Cell(made, against),),
        preset=preset,
        eps=eps,
        target=class_of(str(target), classifier),
        target_map=wanted,
        seed=seed,
        threads=torch.get_num_threads(),
        precision="fp32",
        device=device,
    )
    partners = _partners(wanted, seed, photos, levels, classifier)
    trial = Trial(system, job, "notebook", photos, levels, errors, partners)
    trial.run()
    scale = untouched_scale((row.interpreter, row.jpeg_l1) for row in jpeg)
    return _result(trial, judge, attack, against, device, scale)


def _partners(
    wanted: TargetMap,
    seed: int,
    photos: Sequence[Photo],
    levels: Mapping[int, NDArray[np.uint8]],
    classifier: Classifier,
) -> dict[int, tuple[Photo, NDArray[np.uint8]]]:
    """The photos whose maps are wanted, by row."""
    if wanted.kind != "image":
        return {}
    if wanted.value != "random":
        path = Path(str(wanted.value))
        one = pixels.load(path.read_bytes(), path.name, classifier.preprocess)
        return {i: (Photo(str(path), wanted.digest), one) for i in levels}
    known = {photos[i]: pixels_of for i, pixels_of in levels.items()}
    drawn = {i: targets.draw_photo(seed, photos[i], list(known)) for i in levels}
    return {i: (photo, known[photo]) for i, photo in drawn.items()}


def _result(
    trial: Trial, judge: Interpreter, attack: str, against: str | None, device: str, scale: Mapping[str, float]
) -> Result:
    good = [i for i, record in enumerate(trial.records) if record.error is None]
    forged = trial.forged.get((attack, against), {})
    clean = [c for c in trial.clean if c.row in good]
    if not clean:
        raise UnderfireError(f"None of the images could be attacked: {trial.records[0].error}")
    x_hat = pixels.to_tensor([forged[i] for i in good]).to(device)
    target = torch.tensor([c.target for c in clean], device=device)
    found, _ = explain(judge, x_hat, target)
    return Result(
        clean=torch.stack([c.x for c in clean]),
        images=x_hat,
        clean_maps=torch.stack([c.maps[judge.name] for c in clean]).float(),
        maps=torch.stack([found[n] for n in range(len(clean))]).float(),
        records=trial.records,
        scale=scale,
    )


def _read(
    given: Sequence[str | Path | NDArray[np.uint8]] | Images, classifier: Classifier
) -> tuple[list[Photo], Mapping[int, NDArray[np.uint8]], dict[int, str]]:
    if isinstance(given, torch.Tensor):
        size = classifier.preprocess.input_size
        if (
            given.dim() != 4
            or given.shape[1:] != (3, size, size)
            or not 0 <= float(given.min()) <= float(given.max()) <= 1
        ):
            raise UnderfireError(
                f"Images of shape {tuple(given.shape)}: '{classifier.name}' takes (N, 3, {size}, {size}) in [0, 1]."
            )
        given = list(pixels.to_levels(given))
    photos, levels, errors = [], {}, {}
    for i, one in enumerate(given):
        if isinstance(one, np.ndarray):
            path, content = f"image-{i}.png", pixels.encode_png(one)
        else:
            path = str(one)
            content = Folder(path).bytes(Path(path).name)
        photos.append(Photo(path, hashlib.sha256(content).hexdigest()))
        try:
            levels[i] = pixels.load(content, path, classifier.preprocess)
        except UnderfireError as e:
            errors[i] = str(e)
    return photos, levels, errors
