"""The making of a plan: every name, class and file is checked before anything is run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from underfire import registry
from underfire.core import Cell, Classifier, Defense, Interpreter, Job, TargetMap, UnderfireError, unknown
from underfire.core.hashing import digest_of
from underfire.core.place import local
from underfire.core.precision import FULL, named_in
from underfire.heads import kind_of
from underfire.images.photos import Folder
from underfire.metrics.verdict import Ruler
from underfire.plan.attacks import cells_of
from underfire.plan.cost import (
    FIRST_ORDER,
    UNIT_IMAGES,
    UNIT_PASSES,
    Lane,
    batch_that_fits,
    bound_of,
    by_device,
    lanes_of,
)
from underfire.plan.device import devices
from underfire.plan.files import check_files
from underfire.plan.settings import AUTO, Settings
from underfire.plan.targets import refuse_own, target_map_of, targets_of
from underfire.plan.units import Plan
from underfire.plan.yardsticks import rulers_of, yardsticks_of
from underfire.registry import VICTIMS, Victims


def make_plan(settings: Settings, victims: Victims = VICTIMS, earlier: Settings | None = None) -> Plan:
    """Fill in the settings, and check every name, class and file before anything is run.

    Example:
        ``make_plan(Settings.parse({"images": "demo"})).rows``

    Args:
        settings: what the user asks for.
        victims: the cache that builds the classifier and the interpreters.
        earlier: the plan in the output folder, if there is one: it fills in what the user leaves open.

    Raises:
        UnderfireError: a name, class, file or setting that does not exist or does not fit.
    """
    settings = _adaptive(_as_before(settings, earlier).with_absolute_paths())
    _refuse_unnamed_options(settings)
    device, here = devices(settings)
    planned = _planned(settings, victims, here)
    registry.maker("executors", settings.executor)
    cells = tuple(cells_of(settings))
    notes = tuple(check_files(settings, cells))
    refuse_own(targets_of(settings.target, planned.classifier), settings.attack)
    for name in named_in(settings.precision or FULL):
        registry.maker("interpreters", name)  # a name with a mistake would have no precision of its own
    settings = _filled(settings, planned, device, here)
    folder = Folder(settings.images, settings.limits)
    folder.refuse_results()
    photos = tuple(folder.photos(settings.limit))
    target_map = target_map_of(settings.target_map, planned.classifier, local(folder.root))
    if target_map.digest:  # its absolute path, so that plan.yaml can be run from any folder
        settings = settings.model_copy(update={"target_map": f"{target_map.kind}:{target_map.value}"})
    unit_passes = _unit_passes(earlier, device)
    yardsticks = yardsticks_of(settings.yardstick or (), planned.classifier, planned.interpreters, settings.options)
    return Plan(
        settings=settings,
        job=_job(settings, planned, cells, target_map, device, rulers_of(cells, yardsticks)),
        photos=photos,
        weights_digest=planned.weights_digest,
        classes_digest=digest_of([planned.classifier.classes.names, planned.classifier.classes.ids]),
        cell_passes=tuple(planned.passes(cell) for cell in cells),
        lanes=tuple(_lanes(settings, planned, cells, unit_passes)),
        scale_passes=2 * planned.map_passes + 1,
        defense_digest=planned.alarm.digest if planned.alarm else "",
        left_out=(*folder.left_out, *notes),
        targets=targets_of(settings.target, planned.classifier),
        shown=_shown(planned.classifier),
        yardsticks=yardsticks,
        unit_passes=unit_passes,
    )


def _unit_passes(earlier: Settings | None, device: str) -> float:
    """Give the F that a unit costs at most: as the audit was begun with, so that it goes on on any kind of device."""
    begun = earlier.resolved.get("unit_passes") if earlier is not None else None
    return begun if isinstance(begun, int) and begun > 0 else by_device(UNIT_PASSES, device)


def _shown(classifier: Classifier) -> dict[str, Any]:
    policy = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(classifier.preprocess).items()}
    if policy["width"] is None:
        del policy["width"]
    said = {"weights_entry": getattr(classifier, "entry", ""), "notes": list(getattr(classifier, "notes", ()))}
    said["door"] = "" if getattr(classifier, "door", None) is None else registry.door_of(classifier).name
    return {"input": policy, "head": kind_of(classifier), **{name: value for name, value in said.items() if value}}


@dataclass(frozen=True)
class PlannedVictim:
    """The classifier of a plan, its interpreters by name, and the alarm beside it."""

    classifier: Classifier
    interpreters: Mapping[str, Interpreter]
    alarm: Defense | None

    @property
    def alarm_passes(self) -> float:
        """F of asking the alarm about one image; 0 without one."""
        return self.alarm.passes if self.alarm else 0.0

    @property
    def map_passes(self) -> float:
        """F of one map of each interpreter together."""
        return sum(i.map_passes for i in self.interpreters.values())

    @property
    def weights_digest(self) -> str:
        """Digest of the classifier's weights, of the interpreters' own, and of a front door, where there are any."""
        trained = {name: i.digest for name, i in self.interpreters.items() if i.digest}
        door = getattr(self.classifier, "door", None)
        beside = [part for part in (trained, door and door.digest) if part]
        return digest_of([self.classifier.digest, *beside]) if beside else self.classifier.digest

    def passes(self, cell: Cell) -> float:
        """Estimate the most F that an image costs in a cell: the search and its judgements."""
        if cell.against is None:
            return bound_of(cell, FIRST_ORDER) + len(self.interpreters) + self.map_passes + self.alarm_passes
        interpreter = self.interpreters[cell.against]
        return bound_of(cell, interpreter.step_passes) + 1 + interpreter.map_passes + self.alarm_passes


def _refuse_unnamed_options(settings: Settings) -> None:
    """Raise UnderfireError for options of an interpreter or attack that the plan does not have."""
    named = (*settings.interpreter, *settings.attack)
    for part in settings.options:
        if part not in named:
            raise unknown("interpreter or attack in this plan", part, named)


def _lanes(settings: Settings, planned: PlannedVictim, cells: tuple[Cell, ...], unit_passes: float) -> Iterator[Lane]:
    goal_maps = 2 if settings.target_map.startswith(("class", "image")) else 1
    batch_size = settings.batch_size or 1
    return lanes_of(cells, planned.interpreters, batch_size, unit_passes, goal_maps, planned.alarm_passes)


def _planned(settings: Settings, victims: Victims, device: str) -> PlannedVictim:
    classifier = victims.classifier(settings.classifier, settings.classifier_options, device)
    interpreters = {
        name: victims.interpreter(classifier, name, settings.options.get(name, {})) for name in settings.interpreter
    }
    alarm = victims.alarm(classifier, settings.defense) if settings.defense else None
    return PlannedVictim(classifier, interpreters, alarm)


def _as_before(settings: Settings, earlier: Settings | None) -> Settings:
    """Fill in what the user leaves open from the earlier plan."""
    if earlier is None:
        return settings
    there = {k: getattr(earlier, k) for k in AUTO if getattr(settings, k) is None}
    return settings.model_copy(update={k: v for k, v in there.items() if v is not None})


def _filled(settings: Settings, planned: PlannedVictim, device: str, here: str) -> Settings:
    """Fill in what is left open: batch size, threads and precision."""
    if settings.batch_size is None and here != device:
        raise UnderfireError(
            f"The workers compute on {device}, and this machine has none to see how large a batch its memory holds: "
            "give --batch-size, such as 64."
        )
    batch_size = settings.batch_size
    if batch_size is None:
        step_passes = max(i.step_passes for i in planned.interpreters.values())
        fits = batch_that_fits(planned.classifier, device, settings.workers, step_passes)
        batch_size = min(int(by_device(UNIT_IMAGES, device)), fits)
    threads = settings.threads or max(1, (os.cpu_count() or 1) // settings.workers)
    precision = settings.precision or "fp32"
    return settings.model_copy(update={"batch_size": batch_size, "threads": threads, "precision": precision})


def _job(
    settings: Settings,
    planned: PlannedVictim,
    cells: tuple[Cell, ...],
    target_map: TargetMap,
    device: str,
    rulers: Mapping[str, Ruler],
) -> Job:
    return Job(
        source=settings.images,
        classifier=settings.classifier,
        options=settings.classifier_options,
        interpreters=settings.interpreter,
        interpreter_options={k: v for k, v in settings.options.items() if k in planned.interpreters},
        cells=cells,
        preset=settings.preset,
        eps=int(settings.eps),
        target=targets_of(settings.target, planned.classifier)[0],
        target_map=target_map,
        seed=settings.seed,
        threads=settings.threads or 1,
        precision=settings.precision or "fp32",
        device=device,
        defense=planned.alarm.name if planned.alarm else "none",
        defense_file=settings.defense or "",
        limits=settings.limits,
        at=settings.at,
        save_as=settings.save_as or "png",
        through=settings.through or "",
        rulers=rulers,
    )


def _adaptive(settings: Settings) -> Settings:
    """Add the interpreter 'ensemble' for --adaptive: attacks on it attack the alarm and all of its members.

    Beside a defense the interpreter 'ensemble' is that of the defense.
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
    if not registry.compares(settings.defense) and "members" not in own:  # then the maps under attack are the plan's
        own["members"] = [name for name in chosen if name != "ensemble"]
    return settings.model_copy(update={"interpreter": chosen, "options": {**settings.options, "ensemble": own}})
