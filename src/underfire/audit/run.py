"""The driver: planned units - stored units -> executor -> store.

Into a folder the driver writes what the workers return; on an object store each worker writes its own units.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from underfire import registry
from underfire.audit.desk import Desk, Quiet, Watcher
from underfire.audit.folder import default_out, refuse_other_plan, stored_plan
from underfire.core import Executor, UnderfireError, Workplace
from underfire.core.place import Place, Remote
from underfire.executors import process
from underfire.metrics import summary
from underfire.plan import make
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.store import Store


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


def measured_scale(store: Store) -> dict[str, float]:
    """map_l1 up to which a map counts as untouched: the 95th percentile of what JPEG 90 does (method, section 5.5)."""
    return summary.untouched_scale((row["interpreter"], row["jpeg_l1"]) for row in store.rows("scale"))
