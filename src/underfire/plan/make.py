"""Make a plan: every name, class and file is checked before anything is run."""

from __future__ import annotations

import dataclasses
import inspect
import os
import types
import typing
from collections.abc import Iterator
from typing import Any

from underfire import core, registry
from underfire.core import Attack, Cell, Job, TargetMap, UnderfireError
from underfire.core.hashing import digest_of
from underfire.core.place import local
from underfire.images.photos import Folder
from underfire.plan import targets
from underfire.plan.cost import batch_that_fits, by_device, lanes_of
from underfire.plan.device import devices
from underfire.plan.settings import AUTO, Settings
from underfire.plan.units import Plan
from underfire.registry import VICTIMS, Victims

UNIT_IMAGES = {"cpu": 8, "mps": 16, "cuda": 64}
"""Images that share a batch where cost allows: a CPU gains nothing beyond 8 (measured on EfficientNet-Lite0)."""


def make_plan(settings: Settings, victims: Victims = VICTIMS, earlier: Settings | None = None) -> Plan:
    """Fill in the settings, and check every name, class and file before anything is run.

    Args:
        settings: what the user asks for.
        victims: where the classifier and the interpreters are built, or are already.
        earlier: the plan that is in the output folder: what the user leaves open is as there.
    """
    given = {k: getattr(earlier, k) for k in AUTO if earlier is not None and getattr(settings, k) is None}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    settings = _adaptive(settings.placed())
    for name in settings.options:
        if name not in (*settings.interpreter, *settings.attack):
            raise core.unknown("interpreter or attack in this plan", name, (*settings.interpreter, *settings.attack))
    device, here = devices(settings)
    classifier = victims.classifier(settings.classifier, settings.classifier_options, here)
    interpreters = {
        name: victims.interpreter(classifier, name, settings.options.get(name, {})) for name in settings.interpreter
    }
    alarm = victims.alarm(classifier, settings.defense) if settings.defense else None
    alarm_passes = alarm.passes if alarm else 0.0
    registry.maker("executors", settings.executor)
    cells = tuple(_cells(settings))
    map_passes = sum(i.map_passes for i in interpreters.values())
    cell_passes = tuple(
        cell.attack.bound(interpreters[cell.against].step_passes if cell.against else 3.0)
        + (1 + interpreters[cell.against].map_passes if cell.against else len(interpreters) + map_passes)
        + alarm_passes
        for cell in cells
    )
    goal_maps = 2 if settings.target_map.startswith(("class", "image")) else 1
    if settings.batch_size is None and here != device:
        raise UnderfireError(
            f"This machine has no {device} whose memory the batch could be fitted to: give --batch-size, such as 64."
        )
    settings = settings.model_copy(
        update={
            "batch_size": settings.batch_size
            or min(
                int(by_device(UNIT_IMAGES, device)),
                batch_that_fits(
                    classifier, device, settings.workers, max(i.step_passes for i in interpreters.values())
                ),
            ),
            "threads": settings.threads or max(1, (os.cpu_count() or 1) // settings.workers),
            "precision": settings.precision or "fp32",
        }
    )
    lanes = tuple(lanes_of(cells, interpreters, settings.batch_size or 1, device, goal_maps, alarm_passes))
    folder = Folder(settings.images)
    photos = tuple(folder.photos(settings.limit))
    target_map = targets.target_map_of(settings.target_map, classifier, local(folder.root))
    if target_map.digest:  # a file's place, so that plan.yaml can be run from anywhere
        settings = settings.model_copy(update={"target_map": f"{target_map.kind}:{target_map.value}"})
    job = Job(
        source=settings.images,
        classifier=settings.classifier,
        options=settings.classifier_options,
        interpreters=settings.interpreter,
        interpreter_options={k: v for k, v in settings.options.items() if k in interpreters},
        cells=cells,
        preset=settings.preset,
        eps=settings.eps,
        target=targets.class_of(settings.target, classifier),
        target_map=target_map,
        seed=settings.seed,
        threads=settings.threads or 1,
        precision=settings.precision or "fp32",
        device=device,
        defense=alarm.name if alarm else "none",
        defense_file=settings.defense or "",
    )
    names_digest = digest_of([classifier.classes.names, classifier.classes.ids])
    trained = {name: i.digest for name, i in interpreters.items() if i.digest}
    weights_digest = digest_of([classifier.digest, trained]) if trained else classifier.digest
    scale_passes = 2 * map_passes + 1
    digest = alarm.digest if alarm else ""
    return Plan(settings, job, photos, weights_digest, names_digest, cell_passes, lanes, scale_passes, digest)


def _adaptive(settings: Settings) -> Settings:
    """With --adaptive the attacks on explanations are made against the alarm and all of its members too.

    The interpreter 'ensemble' beside a defense is that defense's own.
    """
    if settings.defense is None:
        if settings.adaptive:
            raise UnderfireError("--adaptive attacks a defense: give its file with --defense.")
        return settings
    chosen = settings.interpreter
    if settings.adaptive:
        if not any(getattr(registry.maker("attacks", name), "fools_interpreter", False) for name in settings.attack):
            raise UnderfireError(
                f"--adaptive needs an attack on explanations, such as adv2, beside {', '.join(settings.attack)}."
            )
        chosen = tuple(dict.fromkeys((*settings.interpreter, "ensemble")))
    if "ensemble" not in chosen:
        return settings
    own = {"defense": settings.defense, **settings.options.get("ensemble", {})}
    return settings.model_copy(update={"interpreter": chosen, "options": {**settings.options, "ensemble": own}})


def _cells(settings: Settings) -> Iterator[Cell]:
    drawn = TargetMap(settings.target_map.partition(":")[0]).drawn
    for name in settings.attack:
        maker: Any = registry.maker("attacks", name)
        overrides = {**taken(maker, max_shift=settings.max_shift, drawn=drawn), **settings.options.get(name, {})}
        for against in settings.interpreter if maker.fools_interpreter else (None,):
            try:
                attack: Attack = maker.make(settings.preset, against, settings.eps, **overrides)
            except TypeError as e:
                raise UnderfireError(f"The settings {overrides} do not suit attack '{name}': {e}.") from e
            _check_settings(name, attack)
            yield Cell(attack, against)


def taken(maker: Any, **given: Any) -> dict[str, Any]:
    """Those of an audit's own settings that an attack takes: the ``make`` of its ``maker`` says which."""
    known = inspect.signature(maker.make).parameters
    return {name: value for name, value in given.items() if name in known}


def _check_settings(attack: str, settings: Any) -> None:
    """Raise UnderfireError for a number that is a word, and the like: the search would fail on it much later."""
    if not dataclasses.is_dataclass(settings):
        raise UnderfireError(f"Attack '{attack}' must be a frozen dataclass: its fields go into its results' key.")
    try:
        hints = typing.get_type_hints(type(settings))
    except NameError:  # a third party's types that exist for type checkers only
        return
    for f in dataclasses.fields(settings):
        value, wanted = getattr(settings, f.name), _plain(hints[f.name])
        if dataclasses.is_dataclass(value):
            _check_settings(attack, value)
        elif wanted and (not isinstance(value, wanted) or (isinstance(value, bool) and bool not in wanted)):
            names = " or ".join("none" if kind is types.NoneType else kind.__name__ for kind in wanted)
            raise UnderfireError(f"--set {attack}.{f.name}={value}: '{f.name}' must be {names}.")


def _plain(hint: Any) -> tuple[type, ...]:
    """The types that a value of plain type may have; empty where the hint says more than numbers and words."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    known = all(part in (int, float, bool, str, types.NoneType) for part in parts)
    return tuple(dict.fromkeys((*parts, int) if float in parts else parts)) if known else ()
