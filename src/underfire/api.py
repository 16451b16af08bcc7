"""The library's front: an audit in a few lines of Python, from classifier, interpreter and images to a result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

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
from underfire.doors.platforms import habits
from underfire.executors.process import prepare
from underfire.images import pixels, targets
from underfire.images.photos import DEMO
from underfire.images.saving import check_format
from underfire.metrics.verdict import MapVerdict, Ruler, verdict
from underfire.plan.attacks import attack_of, check_surrogate, is_searched, taken
from underfire.plan.check import check
from underfire.plan.files import FILE, INPUT, refuse_unable
from underfire.plan.settings import Settings
from underfire.plan.targets import class_of, target_map_of
from underfire.plan.values import is_smallest
from underfire.trial.given import load_given
from underfire.trial.load import Loaded, load
from underfire.trial.rulers import packaged_here, rulers_here
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
        images: (N, 3, H, W) the adversarial images in [0, 1]: what the classifier is shown of the files below.
        clean_maps: (N, h, w) maps in [0, 1] of the clean images for their own classes.
        maps: (N, h, w) maps in [0, 1] of the adversarial images for the target classes.
        records: one for each given image, in order; those with an ``error`` have no row in the tensors.
        rulers: interpreter -> what its maps are judged with (`trial.rulers`); empty where that is not calibrated.
        files: (N,) the adversarial pictures as files: of whole photos where these were forged, else PNGs of the input.
    """

    clean: Images
    images: Images
    clean_maps: Maps
    maps: Maps
    records: list[Record]
    rulers: Mapping[str, Ruler]
    files: tuple[bytes, ...] = ()

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
    eps: int | str = 8,
    target: str | int = "random",
    target_map: str = "benign",
    seed: int = 0,
    at: Literal["file", "input"] | None = None,
    save_as: str = "png",
    through: str = "",
    **options: Any,
) -> Result:
    """Attack images in this process, and judge the results as ``underfire run`` does.

    Example:
        ``underfire.attack(underfire.classifier(), "cam", ["photo.jpg"], eps=4).images``

    Args:
        classifier: from `classifier` or `wrap`.
        interpreter: an interpreter, or its name.
        images: paths, arrays (H, W, 3) of 8-bit levels or Pillow images, which go through the classifier's front door;
            or a tensor (N, 3, H, W) in [0, 1] of the input size, which is taken as it is.
        attack: name of the attack.
        preset: paper, fast or thorough.
        eps: L∞ budget in whole levels of 255, or 'smallest' or 'smallest:MAX': the smallest that forges each image. An
            attack that bends takes ``max_shift`` likewise.
        target: 'random', 'least-likely', or a class: index, WordNet id or name.
        target_map: as --target-map of ``underfire run``: benign, class:NAME, image:PATH, shape:circle, file:PNG, …
        seed: seed of the random targets.
        at: 'file' forges the files of photos, in their own pixels; 'input' forges what the classifier makes of them. By
            default files are forged, and of a tensor the tensor.
        save_as: how forged files are saved, as --save-as of ``underfire run``.
        through: what platforms will do to them, as --through.
        options: settings of the attack in place of the preset's, such as ``steps=20``.

    Raises:
        UnderfireError: a mistake in the arguments, or no image could be attacked.
    """
    by_name = isinstance(interpreter, str)
    wish = Wish(attack, preset, searched(eps=eps), target, target_map, seed, options, by_name, at, save_as, through)
    prepare(torch.get_num_threads())
    device = str(getattr(classifier, "device", "cpu"))
    check(classifier, device)
    judge = registry.build_interpreter(interpreter, classifier, {}) if isinstance(interpreter, str) else interpreter
    return _run(System(classifier, {judge.name: judge}, device), images, wish)


def searched(**budget: Any) -> Any:
    """Read a budget that may be 'smallest'; others are left to whoever takes them."""
    ((name, value),) = budget.items()
    return getattr(Settings.parse({"images": DEMO, name: value}), name) if isinstance(value, str) else value


@dataclass(frozen=True)
class Wish:
    """The arguments of `attack` that say what the attack shall do."""

    attack: str
    preset: str
    eps: Any
    target: str | int
    target_map: str
    seed: int
    options: Mapping[str, Any]
    by_name: bool = True  # so the interpreter has its default settings
    at: Literal["file", "input"] | None = None
    save_as: str = "png"
    through: str = ""

    def __post_init__(self) -> None:
        check_format(self.save_as)
        habits(self.through)
        if self.at not in (None, FILE, INPUT):
            raise UnderfireError(f"at='{self.at}': give 'file' or 'input'.")
        if not 1 <= self.eps <= LEVELS:
            raise UnderfireError(f"eps={self.eps}: the budget must be a whole number of levels, from 1 to {LEVELS}.")


def _run(system: System, images: Any, wish: Wish) -> Result:
    classifier, (judge,) = system.classifier, system.interpreters.values()
    wanted = target_map_of(wish.target_map, classifier)
    cell = _cell(wish, judge, wanted)
    loaded = load_given(images, system, None if wish.at == INPUT else wish.save_as)
    if wish.at == FILE and loaded.rows and not loaded.files:
        raise UnderfireError("at='file': a tensor is no file. Give paths, arrays or Pillow images, or at='input'.")
    if loaded.files:
        refuse_unable(cell)
    job = _job(system, cell, wish, wanted, FILE if loaded.files else INPUT)
    if cell.smallest and cell.against:
        job = replace(job, rulers=packaged_here(system, judge, wish.by_name))
    trial = Trial(system, job, "notebook", loaded, _references(wanted, wish.seed, loaded, system))
    trial.run()
    return _result(trial, judge, system, rulers_here(system, judge, trial, wish.by_name))


def _cell(wish: Wish, judge: Interpreter, wanted: TargetMap) -> Cell:
    maker: Any = registry.maker("attacks", wish.attack)
    against = judge.name if maker.fools_interpreter else None
    check_surrogate(wish.attack, wish.options, [judge])
    own, options = taken(maker, drawn=wanted.drawn), dict(wish.options)
    shift = searched(max_shift=options["max_shift"]) if "max_shift" in options else 0.0
    if is_smallest(shift):
        options["max_shift"] = float(shift)
    made = attack_of(wish.attack, wish.preset, against, int(wish.eps), own, options)
    return Cell(made, against, is_searched(made, wish.eps, shift))


def _job(system: System, cell: Cell, wish: Wish, wanted: TargetMap, at: str) -> Job:
    return Job(
        source="",
        classifier=system.classifier.name,
        options=ClassifierOptions(),
        interpreters=tuple(system.interpreters),
        interpreter_options={},
        cells=(cell,),
        preset=wish.preset,
        eps=int(wish.eps),
        target=class_of(str(wish.target), system.classifier),
        target_map=wanted,
        seed=wish.seed,
        threads=torch.get_num_threads(),
        precision="fp32",
        device=system.device,
        at=at,
        save_as=wish.save_as,
        through=wish.through if at == FILE else "",
    )


def _references(wanted: TargetMap, seed: int, loaded: Loaded, system: System) -> Loaded | None:
    """Load the photos whose maps are the target maps, in the rows of the photos that want them; None without any."""
    if wanted.kind != "image":
        return None
    if wanted.value != "random":
        photo, content = Photo(str(wanted.value), wanted.digest), Path(str(wanted.value)).read_bytes()
        return load([photo] * len(loaded.given), lambda _: content, system.door, system.classifier.preprocess)
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
        files=forged.files,
    )
