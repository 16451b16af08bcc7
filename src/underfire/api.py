"""The library's front: an audit in a few lines of Python, from classifier, interpreter and images to a result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import torch
from PIL import Image
from torch import Tensor

from underfire import registry
from underfire.core import Classifier, ClassifierOptions, Images, Interpreter, UnderfireError
from underfire.core.watch import Watcher
from underfire.defenses import calibration
from underfire.defenses.alarm import Alarm
from underfire.executors.process import prepare
from underfire.notebook.attacking import Wish, run_wish, searched
from underfire.notebook.result import Result
from underfire.notebook.threads import at_most
from underfire.plan.check import check
from underfire.trial.system import System

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Given: TypeAlias = str | Path | NDArray[np.uint8] | Image.Image | tuple[str, bytes]
    Pictures: TypeAlias = Given | Sequence[Given] | Images | Sequence[Tensor]


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


def alarm(path: str | Path, classifier: Classifier | None = None) -> Alarm:
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
    return Alarm(named, str(path))


@overload
def attack(classifier: Classifier, interpreter: Interpreter | str, images: Pictures, **settings: Any) -> Result: ...
@overload
def attack(
    classifier: Classifier, interpreter: Sequence[Interpreter | str], images: Pictures, **settings: Any
) -> dict[str, Result]: ...
def attack(
    classifier: Classifier,
    interpreter: Interpreter | str | Sequence[Interpreter | str],
    images: Pictures,
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
    progress: bool | Watcher | None = None,
    threads: int | None = None,
    precision: str = "fp32",
    **options: Any,
) -> Result | dict[str, Result]:
    """Attack images in this process, and judge the results as ``underfire run`` does.

    Example:
        ``underfire.attack(underfire.classifier(), "cam", "photo.jpg", eps=4).images``

    Args:
        classifier: from `classifier` or `wrap`.
        interpreter: an interpreter, or its name; or several, each of which is attacked by itself.
        images: a path, a folder, 'demo', an array (H, W, 3) of 8-bit levels or a Pillow image, or several of them or of
            (name, content of the file), which go through the classifier's front door; or a tensor (N, 3, H, W) in
            [0, 1] of the input size, which is taken as it is. Many are attacked in batches that fit the memory.
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
        progress: whether to show a bar, by default where somebody looks on; or a watcher of one's own.
        threads: CPU threads while it attacks; by default those of torch, or one where torch came before underfire and
            the machine is busy (`notebook.threads`).
        precision: of the search, as --precision of ``underfire run`` but for 'auto': 'bf16-fp32-last' is the fast one
            (docs/speed.md). The judge is always float32.
        options: settings of the attack in place of the preset's, such as ``steps=20``.

    Returns:
        A result; of several interpreters a dictionary, by their names.

    Raises:
        UnderfireError: a mistake in the arguments, or no image could be attacked.
    """
    single = isinstance(interpreter, str) or not isinstance(interpreter, Sequence)
    several: Sequence[Interpreter | str] = [interpreter] if single else interpreter  # type: ignore[assignment,list-item]
    budget = searched(eps=eps)
    wish = Wish(
        attack, preset, budget, target, target_map, seed, options, True, at, save_as, through, progress, precision
    )
    found: dict[str, Result] = {}
    with at_most(threads):
        prepare(torch.get_num_threads())
        device = str(getattr(classifier, "device", "cpu"))
        check(classifier, device)
        for one in several:
            by_name = isinstance(one, str)
            judge = registry.build_interpreter(one, classifier, {}) if isinstance(one, str) else one
            if judge.name in found:
                raise UnderfireError(f"Two interpreters are called '{judge.name}': attack them one by one.")
            found[judge.name] = run_wish(
                System(classifier, {judge.name: judge}, device), images, replace(wish, by_name=by_name)
            )
    if not found:
        raise UnderfireError("There is no interpreter to attack: give one, or its name.")
    return next(iter(found.values())) if single else found
