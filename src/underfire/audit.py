"""The driver: planned units - stored units -> executor -> store."""

from __future__ import annotations

import contextlib
import itertools
import platform
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from underfire import metrics, registry, system, trial
from underfire import plan as planning
from underfire.clean import slug
from underfire.core import Executor, Outcome, UnderfireError, Unit
from underfire.plan import Plan, Settings
from underfire.store import Store

DEFAULT_OUT = "underfire-out"


class Watcher(Protocol):
    """Who is told how an audit goes on."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """A stage of ``total`` images starts, ``done`` of them finished in an earlier run."""

    def advance(self, outcome: Outcome) -> None:
        """A unit is finished and stored."""


class Quiet:
    """Tells nobody."""

    def begin(self, stage: str, total: int, done: int) -> None:
        """Ignored."""

    def advance(self, outcome: Outcome) -> None:
        """Ignored."""


@dataclass(frozen=True)
class Audit:
    """A finished audit: where its results are."""

    out: Path
    plan: Plan

    @property
    def store(self) -> Store:
        """Its records, maps and pictures."""
        return Store(self.out)


def run(settings: Settings, out: Path | None = None, watcher: Watcher | None = None) -> Audit:
    """Run what is missing of an audit, and nothing twice.

    Args:
        settings: what to audit.
        out: the output folder; by default one that the settings name.
        watcher: who is told.

    Raises:
        UnderfireError: a mistake of the user's, or another plan's results in ``out``.
    """
    from underfire.classifiers.check import check  # noqa: PLC0415 (registers nothing; needs torch)

    watcher = watcher or Quiet()
    out = out or default_out(settings)
    stored = stored_plan(out)
    plan, classifier = planning.make_plan(settings, stored)
    system.prepare(plan.job.threads)
    check(classifier, plan.job.device)
    refuse_other_plan(out, stored, plan)
    executor: Executor = registry.maker("executors", plan.settings.executor)(workers=plan.settings.workers)
    with Store(out).open() as store:
        if stored is None:
            store.write("plan.yaml", plan.dump().encode())
        stage(store, executor, plan.scale_units, "scale", watcher)
        scale = measured_scale(store)
        stage(store, executor, lambda: plan.units(scale), "records", watcher)
    return Audit(out, plan)


def default_out(settings: Settings) -> Path:
    """A folder that the settings as given name, so that the same command goes on where it stopped."""
    given = settings.model_dump(mode="json", exclude={"workers", "device", "executor", "resolved"})
    name = Path(settings.images).stem or "images"
    return Path(DEFAULT_OUT) / f"{slug(name)}-{planning._digest(given)[:8]}"


def stored_plan(out: Path) -> Settings | None:
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


_OURS = frozenset({"records", "scale", "transfer", "images"})  # a run killed before its plan was written leaves these


def refuse_other_plan(out: Path, stored: Settings | None, plan: Plan) -> None:
    """Raise UnderfireError if ``out`` belongs to another plan, showing the difference and the two ways out."""
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
        ("target_map", plan.job.target_map.key, f"{stored.target_map} there, {plan.settings.target_map} now"),
    ):
        if stored.resolved.get(f"{what}_digest") != value:
            changed.append(f"{what}: {found}")
    difference = "; ".join(changed) or "the presets of this version differ from the version that wrote it"
    raise UnderfireError(
        f"'{out}' holds the results of another plan ({difference}). Give a new folder with --out, or go on with the "
        f"plan that is there: underfire run '{out / 'plan.yaml'}'."
    )


def _word(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def stage(store: Store, executor: Executor, units: Callable[[], Iterator[Unit]], name: str, watcher: Watcher) -> None:
    """Do what is missing of a stage of a store that is open."""
    done = store.done(name)
    finished = sum(len(unit.photos) for unit in units() if unit.name in done)
    watcher.begin(name, sum(len(unit.photos) for unit in units()), finished)
    missing = (unit for unit in units() if unit.name not in done)
    first = next(missing, None)
    if first is None:
        return
    with contextlib.closing(_outcomes(executor, itertools.chain([first], missing))) as outcomes:
        for outcome in outcomes:
            store.put(name, outcome.unit.name, outcome.rows, outcome.files, _provenance(outcome))
            watcher.advance(outcome)


def _outcomes(executor: Executor, units: Iterator[Unit]) -> Generator[Outcome]:
    """What an executor gives; closing it, when the disk is full or on Ctrl-C, stops the executor's workers at once."""
    yield from executor.map(trial.run_unit, units)


def _provenance(outcome: Outcome) -> dict[str, str]:
    """What belongs to the part and not to the results."""
    return {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "machine": platform.machine(),
        "seconds": f"{outcome.seconds:.3f}",
        "underfire_version": version("underfire"),
        "torch": version("torch"),
        "timm": version("timm"),
    }


def measured_scale(store: Store) -> dict[str, float]:
    """map_l1 up to which a map counts as untouched: the 95th percentile of what JPEG 90 does (method, section 5.5)."""
    return metrics.untouched_scale((row["interpreter"], row["jpeg_l1"]) for row in store.rows("scale"))
