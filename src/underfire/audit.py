"""The driver: planned units - stored units -> executor -> store.

Into a folder the driver writes what the workers return; on an object store each worker writes its own units.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import platform
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from underfire import made_with, registry, trial
from underfire.core import Executor, Outcome, UnderfireError, Unit, Workplace
from underfire.core.hashing import digest_of
from underfire.core.place import Place, Remote, place, slug
from underfire.executors import process
from underfire.metrics import summary
from underfire.plan import make
from underfire.plan import settings as planning
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.store import FAILED, Store

DEFAULT_OUT = "underfire-out"
ROUNDS = 3
"""So often parts that are found damaged are done again before the disk is blamed."""


class Watcher(Protocol):
    """Who is told how an audit goes on."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage of ``total`` images starts, ``done`` of them finished in an earlier run."""

    def advance(self, outcome: Outcome) -> None:
        """A unit is finished and stored, or failed."""

    def note(self, text: str) -> None:
        """Something that the user should know."""


class Quiet:
    """Tells nobody."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Ignored."""

    def advance(self, outcome: Outcome) -> None:
        """Ignored."""

    def note(self, text: str) -> None:
        """Ignored."""


@dataclass(frozen=True)
class Audit:
    """A finished audit: where its results are."""

    out: Place
    plan: Plan

    @property
    def store(self) -> Store:
        """Its records, maps and pictures."""
        return Store(self.out)


def run(settings: Settings, out: Place | None = None, watcher: Watcher | None = None) -> Audit:
    """Run what is missing of an audit, and nothing twice.

    Args:
        settings: what to audit.
        out: the output folder, or a URL that fsspec knows; by default a folder that the settings name.
        watcher: who is told.

    Raises:
        UnderfireError: a mistake of the user's, or another plan's results in ``out``.
    """
    from underfire.plan.check import check  # noqa: PLC0415 (registers nothing; needs torch)

    watcher = watcher or Quiet()
    out = out or default_out(settings)
    stored = stored_plan(out)
    plan, classifier = make.make_plan(settings, stored)
    process.prepare(plan.job.threads)
    check(classifier, str(getattr(classifier, "device", plan.job.device)))
    name = classifier.name
    del classifier  # the workers have their own
    refuse_other_plan(out, stored, plan)
    with Store(out).open() as store, contextlib.closing(executor_of(plan, out)) as executor:
        stored = stored_plan(out)  # whoever came first may have written it since
        refuse_other_plan(out, stored, plan)
        if stored is None:
            store.write("plan.yaml", plan.dump().encode())
        desk = Desk(store, executor, watcher, name)
        desk.stage("scale", plan.scale_units)
        scale = measured_scale(store)
        desk.stage("records", lambda: plan.units(scale))
    return Audit(out, plan)


def executor_of(plan: Plan, out: Place) -> Executor:
    """Who works on a plan's units; to be closed."""
    settings = plan.settings
    apart = settings.executor != "local" or settings.workers > 1
    if apart and isinstance(out, Remote) and out.url.startswith("memory:"):
        raise UnderfireError(f"'{out}' lies in the memory of one process: give --workers 1, or another --out.")
    workplace = Workplace(settings.workers, plan.job.threads, plan.job.device, settings.address, settings.gpus)
    executor: Executor = registry.maker("executors", settings.executor)(workplace)
    return executor


def default_out(settings: Settings) -> Place:
    """A folder that the settings as given name, so that the same command goes on where it stopped."""
    given = settings.model_dump(mode="json", exclude={"workers", "device", "executor", "address", "gpus", "resolved"})
    name = place(settings.images).stem or "images"
    return Path(DEFAULT_OUT) / f"{slug(name)}-{digest_of(given)[:8]}"


def stored_plan(out: Place) -> Settings | None:
    """The plan in an output folder; None where nothing has been run yet.

    Raises:
        UnderfireError: a folder with other things in it.
    """
    if (out / "plan.yaml").is_file():
        return planning.read(out / "plan.yaml")
    if out.is_dir() and any(not path.name.startswith(".") for path in out.iterdir() if path.name not in _OURS):
        raise UnderfireError(
            f"'{out}' holds files that underfire did not write, and no plan.yaml: give a new folder with --out."
        )
    return None


_OURS = frozenset({"records", "scale", "transfer", "failed", "images"})
"""A run killed before its plan was written leaves these."""


def refuse_other_plan(out: Place, stored: Settings | None, plan: Plan, go_on: str = "") -> None:
    """Raise UnderfireError if ``out`` belongs to another plan, showing the difference and the two ways out.

    ``go_on`` is the command that goes on with what is there, where it is not ``underfire run``.
    """
    if stored is None or stored.resolved.get("plan_digest") == plan.digest:
        return
    there = planning.key_settings(stored)
    now = plan.key_settings()
    changed = [f"{k}: {_word(there[k])} there, {_word(now[k])} now" for k in now if there.get(k) != now[k]]
    n_there = stored.resolved.get("photos")
    for what, value, found in (
        ("photos", plan.photos_digest, f"other files ({n_there} there, {len(plan.photos)} now)"),
        ("weights", plan.weights_digest, "another network or other weights"),
        ("classes", plan.classes_digest, "other class names"),
        ("defense", plan.defense_digest, "another defense, or one calibrated anew"),
        ("target_map", plan.job.target_map.key, f"{stored.target_map} there, {plan.settings.target_map} now"),
    ):
        if stored.resolved.get(f"{what}_digest") != value:
            changed.append(f"{what}: {found}")
    go_on = go_on or f"underfire run '{out / 'plan.yaml'}'"
    difference = "; ".join(changed) or "the presets of this version differ from the version that wrote it"
    raise UnderfireError(
        f"'{out}' holds the results of another plan ({difference}). Give a new folder with --out, or go on with the "
        f"plan that is there: {go_on}."
    )


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@dataclass(frozen=True)
class Desk:
    """Where outcomes come in: what is missing goes out to the executor, what comes back is stored and told."""

    store: Store
    executor: Executor
    watcher: Watcher
    classifier: str
    work: Callable[[Unit], Outcome] | None = None
    """What a worker does with a unit; by default `do_unit`."""

    def stage(self, stage: str, units: Callable[[], Iterator[Unit]]) -> None:
        """Do what is missing of a stage, then read it all again and redo what is damaged."""
        for _ in range(ROUNDS):
            self._missing(stage, units)
            damaged = self.store.damaged(stage)
            if not damaged:
                return
            parts = "damaged part" if len(damaged) == 1 else "damaged parts"
            self.watcher.note(f"{len(damaged)} {parts} in {stage}, done again: {', '.join(damaged[:3])}")
            for unit in damaged:
                self.store.discard(stage, unit)
        raise UnderfireError(
            f"Parts in '{self.store.root}' are damaged again after they were written {ROUNDS} times: the disk or the "
            "store that holds it cannot be trusted. Give another --out."
        )

    def _missing(self, stage: str, units: Callable[[], Iterator[Unit]]) -> None:
        done = self.store.done(stage)
        total = finished = 0
        for unit in units():
            total += _rows(unit)
            finished += _rows(unit) * (unit.name in done)
        self.watcher.begin(stage, total, finished)
        missing = (unit for unit in units() if unit.name not in done)
        first = next(missing, None)
        if first is None:
            return
        failed = self.store.done(FAILED)
        work = self.work or functools.partial(do_unit, self.store)
        with contextlib.closing(_outcomes(self.executor, work, itertools.chain([first], missing))) as outcomes:
            for outcome in outcomes:
                self.store.check()
                self._take(outcome, failed)
                self.watcher.advance(outcome)

    def _take(self, outcome: Outcome, failed: set[str]) -> None:
        """Store what came of a unit, unless its worker did; ``failed`` are those that an earlier run gave up."""
        unit = outcome.unit
        if outcome.error is not None:
            if unit.stage == "scale":  # what 'untouched' means must not depend on which worker had a bad day
                raise UnderfireError(f"The clean maps of '{unit.photos[0].path}' … cannot be measured: {outcome.error}")
            outcome.rows = trial.failed_rows(unit, self.classifier, outcome.error)
            self.store.put(FAILED, unit.name, outcome.rows, {}, provenance(outcome))
            return
        if not self.store.remote:
            self.store.put(unit.stage, unit.name, outcome.rows, outcome.files, outcome.meta)
        if unit.name in failed:
            self.store.discard(FAILED, unit.name)


def _rows(unit: Unit) -> int:
    """Judgements of a unit."""
    return len(unit.made) or len(unit.photos) * max(1, unit.job.rows)


def do_unit(store: Store, unit: Unit) -> Outcome:
    """What a worker does: the trial, and on an object store the writing too."""
    outcome = trial.run_unit(unit)
    outcome.meta = provenance(outcome)
    if store.remote:
        store.put(unit.stage, unit.name, outcome.rows, outcome.files, outcome.meta)
        outcome.files = {}
    return outcome


def _outcomes(executor: Executor, work: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Generator[Outcome]:
    """What an executor gives; closing it, when the disk is full or on Ctrl-C, stops the executor's workers at once."""
    yield from executor.map(work, units)


def provenance(outcome: Outcome) -> dict[str, str]:
    """What belongs to the part and not to the results."""
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "hardware": made_with.hardware(outcome.unit.job.device),
        "machine": platform.machine(),
        "seconds": f"{outcome.seconds:.3f}",
        "underfire_version": made_with.underfire(),
        "torch": version("torch"),
        "timm": version("timm"),
    }


def measured_scale(store: Store) -> dict[str, float]:
    """map_l1 up to which a map counts as untouched: the 95th percentile of what JPEG 90 does (method, section 5.5)."""
    return summary.untouched_scale((row["interpreter"], row["jpeg_l1"]) for row in store.rows("scale"))
