"""Make a plan: every name, class and file is checked before anything is run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from underfire import registry
from underfire.core import Cell, Classifier, Defense, Interpreter, Job, TargetMap, UnderfireError, unknown
from underfire.core.hashing import digest_of
from underfire.core.place import local
from underfire.images.photos import Folder
from underfire.plan.attacks import cells_of
from underfire.plan.cost import FIRST_ORDER, batch_that_fits, by_device, lanes_of
from underfire.plan.device import devices
from underfire.plan.settings import AUTO, Settings
from underfire.plan.targets import class_of, target_map_of
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

    Raises:
        UnderfireError: a name, class, file or setting that does not exist or does not fit.

    Example:
        ``make_plan(Settings.parse({"images": "demo"})).rows``
    """
    settings = _as_before(settings, earlier)
    settings = _adaptive(settings.placed())
    named = (*settings.interpreter, *settings.attack)
    for part in settings.options:
        if part not in named:
            raise unknown("interpreter or attack in this plan", part, named)
    device, here = devices(settings)
    planned = _planned(settings, victims, here)
    registry.maker("executors", settings.executor)
    cells = tuple(cells_of(settings))
    settings = _filled(settings, planned, device, here)
    alarm_passes = planned.alarm.passes if planned.alarm else 0.0
    goal_maps = 2 if settings.target_map.startswith(("class", "image")) else 1
    lanes = lanes_of(cells, planned.interpreters, settings.batch_size or 1, device, goal_maps, alarm_passes)
    folder = Folder(settings.images)
    photos = tuple(folder.photos(settings.limit))
    target_map = target_map_of(settings.target_map, planned.classifier, local(folder.root))
    if target_map.digest:  # a file's place, so that plan.yaml can be run from anywhere
        settings = settings.model_copy(update={"target_map": f"{target_map.kind}:{target_map.value}"})
    return Plan(
        settings,
        _job(settings, planned, cells, target_map, device),
        photos,
        planned.weights_digest,
        digest_of([planned.classifier.classes.names, planned.classifier.classes.ids]),
        tuple(planned.passes(cell) for cell in cells),
        tuple(lanes),
        2 * planned.map_passes + 1,
        planned.alarm.digest if planned.alarm else "",
        _shown(planned.classifier),
    )


def _shown(classifier: Classifier) -> dict[str, Any]:
    policy = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(classifier.preprocess).items()}
    entry = getattr(classifier, "entry", "")
    return {"input": policy, **({"weights_entry": entry} if entry else {})}


@dataclass(frozen=True)
class PlannedVictim:
    """The classifier of a plan, its interpreters by name, and the alarm beside it."""

    classifier: Classifier
    interpreters: Mapping[str, Interpreter]
    alarm: Defense | None

    @property
    def map_passes(self) -> float:
        """F of one map of every interpreter."""
        return sum(i.map_passes for i in self.interpreters.values())

    @property
    def weights_digest(self) -> str:
        """Of the classifier's weights, and of the interpreters' where they have any."""
        trained = {name: i.digest for name, i in self.interpreters.items() if i.digest}
        return digest_of([self.classifier.digest, trained]) if trained else self.classifier.digest

    def passes(self, cell: Cell) -> float:
        """F of an image at most: the search of a cell, and its judgements."""
        alarm = self.alarm.passes if self.alarm else 0.0
        if cell.against is None:
            return cell.attack.bound(FIRST_ORDER) + len(self.interpreters) + self.map_passes + alarm
        interpreter = self.interpreters[cell.against]
        return cell.attack.bound(interpreter.step_passes) + 1 + interpreter.map_passes + alarm


def _planned(settings: Settings, victims: Victims, device: str) -> PlannedVictim:
    classifier = victims.classifier(settings.classifier, settings.classifier_options, device)
    interpreters = {
        name: victims.interpreter(classifier, name, settings.options.get(name, {})) for name in settings.interpreter
    }
    alarm = victims.alarm(classifier, settings.defense) if settings.defense else None
    return PlannedVictim(classifier, interpreters, alarm)


def _as_before(settings: Settings, earlier: Settings | None) -> Settings:
    """Take from the plan that is there what the user leaves open."""
    if earlier is None:
        return settings
    there = {k: getattr(earlier, k) for k in AUTO if getattr(settings, k) is None}
    return settings.model_copy(update={k: v for k, v in there.items() if v is not None})


def _filled(settings: Settings, planned: PlannedVictim, device: str, here: str) -> Settings:
    """Fill in what is left open: batch size, threads and precision."""
    if settings.batch_size is None and here != device:
        raise UnderfireError(
            f"This machine has no {device} whose memory the batch could be fitted to: give --batch-size, such as 64."
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
    settings: Settings, planned: PlannedVictim, cells: tuple[Cell, ...], target_map: TargetMap, device: str
) -> Job:
    return Job(
        source=settings.images,
        classifier=settings.classifier,
        options=settings.classifier_options,
        interpreters=settings.interpreter,
        interpreter_options={k: v for k, v in settings.options.items() if k in planned.interpreters},
        cells=cells,
        preset=settings.preset,
        eps=settings.eps,
        target=class_of(settings.target, planned.classifier),
        target_map=target_map,
        seed=settings.seed,
        threads=settings.threads or 1,
        precision=settings.precision or "fp32",
        device=device,
        defense=planned.alarm.name if planned.alarm else "none",
        defense_file=settings.defense or "",
    )


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
