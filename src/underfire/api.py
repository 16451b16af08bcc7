"""The library's front: an audit in a few lines of Python, from classifier, interpreter and images to a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from underfire.executors.process import prepare
from underfire.images import pixels, targets
from underfire.metrics.verdict import MapVerdict, Ruler, verdict
from underfire.plan.attacks import attack_of, check_surrogate, taken
from underfire.plan.check import check
from underfire.plan.targets import class_of, target_map_of
from underfire.trial.given import load_given
from underfire.trial.load import Loaded, load
from underfire.trial.rulers import rulers_here
from underfire.trial.system import System
from underfire.trial.trial import Trial

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Given: TypeAlias = str | Path | NDArray[np.uint8] | Image.Image


@dataclass(frozen=True)
class Result:
    """The result of `attack`; the tensors have a row for each image that could be attacked.

    Example:
        ``result = underfire.attack(classifier, "cam", ["photo.jpg"]); result.verdicts[0].forged``

    Args:
        clean: (N, 3, H, W) the clean images in [0, 1].
        images: (N, 3, H, W) the adversarial images in [0, 1], read back from 8-bit PNGs.
        clean_maps: (N, h, w) maps in [0, 1] of the clean images for their own classes.
        maps: (N, h, w) maps in [0, 1] of the adversarial images for the target classes.
        records: one for each given image, in order; those with an ``error`` have no row in the tensors.
        rulers: interpreter -> what its maps are judged with (`trial.rulers`); empty where that is not calibrated.
    """

    clean: Images
    images: Images
    clean_maps: Maps
    maps: Maps
    records: list[Record]
    rulers: Mapping[str, Ruler]

    @property
    def verdicts(self) -> list[MapVerdict]:
        """The verdict on each record: whether the map is untouched, and the image forged (method, section 5.5)."""
        return [verdict(asdict(record), self.rulers) for record in self.records]


def classifier(name: str = "efficientnet-lite0", *, device: str = "cpu", **own: Any) -> Classifier:
    """Build a classifier by name.

    Example:
        ``underfire.classifier("timm:convnext_tiny", device="cuda")``

    Args:
        name: as in ``underfire list``; 'timm:NAME' for any network of timm.
        device: where it computes: 'cpu', 'cuda' or 'mps'.
        own: weights, input_size, resize, mean, std, classes, as the flags of ``underfire run``.

    Raises:
        UnderfireError: an unknown name, or weights that do not fit.
    """
    return registry.build_classifier(name, ClassifierOptions(**own), device)


def interpreter(name: str, classifier: Classifier, **options: Any) -> Interpreter:
    """Build an interpreter by name, for a classifier.

    Example:
        ``underfire.interpreter("mask", classifier, steps=100).explain(x, y)``

    Args:
        name: as in ``underfire list``.
        classifier: the classifier that it explains.
        options: its settings, as ``--set NAME.KEY=VALUE`` of ``underfire run``.

    Raises:
        UnderfireError: an unknown name or setting, or a classifier that it cannot explain.
    """
    return registry.build_interpreter(name, classifier, options)


def alarm(path: str | Path, classifier: Classifier | None = None) -> EnsembleAlarm:
    """Load an alarm from a file of ``underfire defend calibrate``.

    Example:
        ``underfire.alarm("alarm.json").check("photo.jpg").alarm``

    Args:
        path: the file.
        classifier: the classifier that it was calibrated for; by default underfire's own of that name.

    Raises:
        UnderfireError: there is no such file, or it is for another classifier.
    """
    named = classifier or registry.build_classifier(calibration.read(path).classifier, ClassifierOptions(), "cpu")
    return EnsembleAlarm(named, str(path))


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
    """Attack images in this process, and judge the results as ``underfire run`` does.

    Example:
        ``underfire.attack(underfire.classifier(), "cam", ["photo.jpg"], eps=4).images``

    Args:
        classifier: from `classifier` or `wrap`.
        interpreter: an interpreter, or its name.
        images: paths, arrays (H, W, 3) of 8-bit levels or Pillow images, which are resized and cropped as photos are;
            or a tensor (N, 3, H, W) in [0, 1] of the input size, which is taken as it is.
        attack: name of the attack.
        preset: paper, fast or thorough.
        eps: L∞ budget in whole levels of 255.
        target: 'random', 'least-likely', or a class: index, WordNet id or name.
        target_map: as --target-map of ``underfire run``: benign, class:NAME, image:PATH, shape:circle, file:PNG, …
        seed: seed of the random targets.
        options: settings of the attack in place of the preset's, such as ``steps=20``.

    Raises:
        UnderfireError: a mistake in the arguments, or no image could be attacked.
    """
    wish = Wish(attack, preset, eps, target, target_map, seed, options, isinstance(interpreter, str))
    prepare(torch.get_num_threads())
    device = str(getattr(classifier, "device", "cpu"))
    check(classifier, device)
    judge = registry.build_interpreter(interpreter, classifier, {}) if isinstance(interpreter, str) else interpreter
    return _run(System(classifier, {judge.name: judge}, device), images, wish)


@dataclass(frozen=True)
class Wish:
    """The arguments of `attack` that say what the attack shall do."""

    attack: str
    preset: str
    eps: int
    target: str | int
    target_map: str
    seed: int
    options: Mapping[str, Any]
    by_name: bool = True  # so the interpreter has its default settings

    def __post_init__(self) -> None:
        if not 1 <= self.eps <= LEVELS:
            raise UnderfireError(f"eps={self.eps}: the budget must be a whole number of levels, from 1 to {LEVELS}.")


def _run(system: System, images: Any, wish: Wish) -> Result:
    classifier, (judge,) = system.classifier, system.interpreters.values()
    wanted = target_map_of(wish.target_map, classifier)
    cell = _cell(wish, judge, wanted)
    loaded = load_given(images, classifier)
    job = _job(system, cell, wish, wanted)
    trial = Trial(system, job, "notebook", loaded, _references(wanted, wish.seed, loaded, classifier))
    trial.run()
    return _result(trial, judge, system, rulers_here(system, judge, trial, wish.by_name))


def _cell(wish: Wish, judge: Interpreter, wanted: TargetMap) -> Cell:
    maker: Any = registry.maker("attacks", wish.attack)
    against = judge.name if maker.fools_interpreter else None
    check_surrogate(wish.attack, wish.options, [judge])
    own = taken(maker, drawn=wanted.drawn)
    return Cell(attack_of(wish.attack, wish.preset, against, wish.eps, own, wish.options), against)


def _job(system: System, cell: Cell, wish: Wish, wanted: TargetMap) -> Job:
    return Job(
        source="",
        classifier=system.classifier.name,
        options=ClassifierOptions(),
        interpreters=tuple(system.interpreters),
        interpreter_options={},
        cells=(cell,),
        preset=wish.preset,
        eps=wish.eps,
        target=class_of(str(wish.target), system.classifier),
        target_map=wanted,
        seed=wish.seed,
        threads=torch.get_num_threads(),
        precision="fp32",
        device=system.device,
    )


def _references(wanted: TargetMap, seed: int, loaded: Loaded, classifier: Classifier) -> Loaded | None:
    """Load the photos whose maps are the target maps, in the rows of the photos that want them; None without any."""
    if wanted.kind != "image":
        return None
    if wanted.value != "random":
        photo, content = Photo(str(wanted.value), wanted.digest), Path(str(wanted.value)).read_bytes()
        return load([photo] * len(loaded.given), lambda _: content, classifier.preprocess)
    index = {photo: n for n, photo in enumerate(loaded.photos)}
    drawn = [targets.draw_photo(seed, p, list(index)) if p in index else p for p in loaded.given]
    shown = [index[drawn[row]] for row in loaded.rows]
    return Loaded(tuple(drawn), loaded.first, loaded.rows, loaded.levels[shown], loaded.errors)


def _result(trial: Trial, judge: Interpreter, system: System, rulers: Mapping[str, Ruler]) -> Result:
    ((forged, judged),) = trial.seen
    if not len(judged.clean):
        raise UnderfireError(f"None of the images could be attacked: {trial.records[0].error}")
    return Result(
        clean=judged.clean.x,
        images=pixels.to_tensor(forged.levels).to(system.device),
        clean_maps=judged.clean.goals[judge.name].benign.float(),
        maps=judged.maps.float(),
        records=trial.records,
        rulers=rulers,
    )
