"""The look at a classifier before anything is attacked: what it is, what fits it, and what would go wrong."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from underfire import registry
from underfire.core import FAILURES, Classifier, Images, Interpreter, Preprocess, UnderfireError
from underfire.core.insight import GridFacts, Insight, MapFacts, TwinFacts
from underfire.core.naming import DEMO
from underfire.images import overlay, pixels
from underfire.images.photos import Folder
from underfire.interpreters.smooth import twin_of
from underfire.plan.check import answers, check
from underfire.registry.parts import DEFAULT_DOOR
from underfire.trial.saved import rounded

CHEAP = 10
"""Passes up to which a map is timed by making it; else by the time of a pass."""
NAMED = 5
"""Class names that are kept."""
OWN_CODE = ("hf", "function")
"""Doors that are somebody else's code."""
FITTED = {
    "crop": "resized to {resize} px on its shorter side",
    "squash": "resized to {resize} px on both sides",
    "pad": "resized to {resize} px on its longer side, with a border in the colour of the mean",
}
"""How a door fits a photo."""
SLOPES = ("black", "white", "photo")
Pixels = Any


def look(
    classifier: Classifier,
    photo: tuple[str, Pixels] | None = None,
    names: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    checked: bool = False,
) -> Insight:
    """Look at a classifier.

    Args:
        classifier: any classifier.
        photo: name and 8-bit levels (H, W, 3) of a photo as the classifier is shown it; by default one of the demo.
        names: interpreters to try; by default all.
        options: their settings, by name.
        checked: it has passed `check` before.

    Raises:
        UnderfireError: the photo cannot be read, or an interpreter's name is not known.
    """
    start = time.perf_counter()
    module: Any = getattr(classifier, "module", None)
    name, levels = photo or photo_of(DEMO, classifier)
    device = str(getattr(classifier, "device", "cpu"))
    x = _images(levels).to(device)
    with classifier.meter.aside():
        problem = "" if checked else _said(lambda: check(classifier, device))
        twin, sharp = (None, "") if problem else _twin(classifier, x)
        slopes, twice, alone = (dict.fromkeys(SLOPES), None, None) if problem else answers(classifier, x)
        layers = () if problem else tuple(grids(classifier, x[-1:]))
    return Insight(
        name=classifier.name,
        architecture=type(module).__name__ if module is not None else type(classifier).__name__,
        parameters=sum(p.numel() for p in module.parameters()) if isinstance(module, nn.Module) else 0,
        outputs=len(classifier.classes),
        head=problem or _head(classifier),
        taken_off=getattr(classifier, "taken_off", ""),
        classes=classifier.classes.names[:NAMED],
        classes_from=_classes_from(classifier),
        steps=tuple(steps(classifier.preprocess, registry.door_of(classifier).name)),
        device=device,
        twin=twin,
        sharp=sharp,
        gradients=dict(zip(SLOPES, slopes.values(), strict=True)),
        twice=twice,
        alone=alone,
        problem=problem,
        layers=layers,
        maps=() if problem else tuple(_maps(classifier, x[-1:], names, options or {})),
        photo=name,
        picture=overlay.uri(levels) or "",
        seconds=time.perf_counter() - start,
    )


def inspect(classifier: Classifier, *, interpreter: Sequence[str] | None = None) -> Insight:
    """Say how underfire understands a classifier: head, input policy, smoothed twin, interpreters that fit.

    Example:
        ``underfire.inspect(underfire.wrap(my_module)).to_dict()``

    Args:
        classifier: from `classifier` or `wrap`.
        interpreter: names of the interpreters to try; by default all.
    """
    return look(classifier, names=interpreter)


def photo_of(source: str, classifier: Classifier) -> tuple[str, Pixels]:
    """Read the first photo of a folder as a classifier is shown it, through its front door.

    Raises:
        UnderfireError: there is none, or it cannot be read.
    """
    folder = Folder(source)
    (first,) = folder.photos(1)
    return first.path, rounded(registry.door_of(classifier).open(folder.bytes(first.path), first.path))


def steps(policy: Preprocess, door: str = DEFAULT_DOOR) -> Iterator[str]:
    """Say step by step how a photo becomes the network's input.

    Args:
        policy: the sizes of its input.
        door: name of its front door.
    """
    kind, _, words = door.partition(":")
    own, size = kind in OWN_CODE, f"{policy.size[0]} × {policy.size[1]}"
    yield f"decoded, turned upright, made {'RGB' if policy.channels == 3 else 'grey'}; transparency becomes white"
    if own or kind not in registry.names("doors"):
        yield f"brought to {size} px by the door '{door}', which is asked as it is"
    else:
        fit = next((how for word, how in FITTED.items() if word in words.split(",")), FITTED["crop"])
        yield fit.format(resize=policy.resize) + f", {policy.interpolation}, by the door '{door}'"
        yield f"cropped to the middle {size} px, rounded to 8 bits, divided by 255"
    mean, std = (" ".join(f"{v:.4g}" for v in values) for values in (policy.mean, policy.std))
    yield f"minus mean {mean}, divided by std {std}" + (", by colour" if policy.channels == 3 else "")


def _images(levels: Pixels) -> Images:
    """Make the images (3, 3, H, W): black, white, the photo."""
    photo = pixels.to_tensor([levels])[0]
    return torch.stack([torch.zeros_like(photo), torch.ones_like(photo), photo])


def _said(ask: Callable[[], object]) -> str:
    try:
        ask()
    except UnderfireError as e:
        return str(e)
    return ""


def _head(classifier: Classifier) -> str:
    found: Any = getattr(classifier, "found_head", None)
    if found is None:
        return "not looked for"
    try:
        head = found()
    except UnderfireError as e:
        return str(e)
    c, h, w = head.shape
    made = f" of {head.where}" if head.where else ""
    return f"the logits are a linear function of the average of {c} maps of {h} × {w}{made}"


def _classes_from(classifier: Classifier) -> str:
    return str(getattr(classifier, "classes_from", "")) or "the classifier does not say where its names are from"


def _twin(classifier: Classifier, x: Images) -> tuple[TwinFacts | None, str]:
    try:
        twin = twin_of(classifier, x)
    except UnderfireError as e:
        return None, str(e)
    found = twin.found
    if lost := [name for name, value in found.items() if not math.isfinite(value)]:
        return None, f"The numbers of the smoothed twin of '{classifier.name}' are not finite: {', '.join(lost)}."
    return TwinFacts(len(twin.spreads), found["logits"], found["gradient"], found["second"]), ""


def grids(classifier: Classifier, x: Images) -> Iterator[GridFacts]:
    """Yield the layers whose outputs are maps, one for each change of shape: the last layer of each."""
    module: Any = getattr(classifier, "module", None)
    if not isinstance(module, nn.Module):
        return
    seen: dict[tuple[int, ...], tuple[str, Tensor]] = {}
    names = {part: name for name, part in module.named_modules() if name}

    def note(part: nn.Module, _args: object, out: object) -> None:
        if isinstance(out, Tensor) and out.dim() == 4 and max(out.shape[2:]) > 1:
            before = seen.pop(tuple(out.shape[1:]), None)
            same = before is not None and before[1] is out  # a block returns what its last layer has made
            seen[tuple(out.shape[1:])] = before if same and before else (names[part], out)

    hooks = [part.register_forward_hook(note) for part in names if not isinstance(part, torch.jit.ScriptModule)]
    try:
        with torch.no_grad():
            classifier.logits(x)
    finally:
        for hook in hooks:
            hook.remove()
    main: dict[int, GridFacts] = {}
    for shape, (name, _) in seen.items():
        main[max(1, round(x.shape[-1] / shape[-1]))] = GridFacts(name, shape, round(x.shape[-1] / shape[-1]))
    yield from (main[stride] for stride in sorted(main))


def _maps(
    classifier: Classifier, x: Images, names: Sequence[str] | None, options: Mapping[str, Mapping[str, Any]]
) -> Iterator[MapFacts]:
    with torch.no_grad():
        start = time.perf_counter()
        y = classifier.logits(x).argmax(1)
        second = time.perf_counter() - start
    parts = [name for name in registry.names("interpreters") if not registry.of_library("interpreters", name)]
    for name in names or parts:
        try:
            interpreter = registry.build_interpreter(name, classifier, options.get(name, {}))
        except UnderfireError as e:
            if name not in registry.names("interpreters"):
                raise
            yield MapFacts(name, str(e))
            continue
        yield _timed(interpreter, classifier, x, y, second)


def _timed(interpreter: Interpreter, classifier: Classifier, x: Images, y: Tensor, second: float) -> MapFacts:
    if interpreter.map_passes > CHEAP:
        return MapFacts(interpreter.name, "", interpreter.map_passes, interpreter.map_passes * second)
    start = time.perf_counter()
    try:
        with classifier.meter.counting(1) as spent:
            interpreter.explain(x, y)
    except (UnderfireError, *FAILURES) as e:
        return MapFacts(interpreter.name, str(e).partition("\n")[0] or type(e).__name__)
    return MapFacts(interpreter.name, "", float(spent.passes[0]), time.perf_counter() - start, measured=True)
