"""Run an audit: planned units without those in the store go to the executor; each worker stores its own."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from underfire import registry
from underfire.audit.desk import Desk, Listener, Quiet
from underfire.audit.folder import default_out, refuse_other_plan, stored_plan
from underfire.core import Executor, UnderfireError, Workplace
from underfire.core.place import Place, Remote
from underfire.executors import process
from underfire.plan.check import check
from underfire.plan.device import devices
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.registry import VICTIMS
from underfire.store import Results, Store, open_results


@dataclass(frozen=True)
class Audit:
    """A finished audit: where its results are."""

    out: Place
    plan: Plan

    @property
    def results(self) -> Results:
        """What was measured, and the verdicts on it."""
        return open_results(self.out)


def run(settings: Settings, out: Place | None = None, listener: Listener | None = None) -> Audit:
    """Run what is missing of an audit, and nothing twice.

    Args:
        settings: what to audit.
        out: the output folder, or a URL that fsspec knows; by default a folder that the settings name.
        listener: who is told how it goes on.

    Raises:
        UnderfireError: a mistake of the user's, or another plan's results in ``out``.
    """
    out = out or default_out(settings)
    stored = stored_plan(out)
    plan = make_plan(settings, VICTIMS, stored)
    refuse_other_plan(out, stored, plan)
    name = _checked(plan)
    with Store(out).open() as store, contextlib.closing(executor_of(plan, out)) as executor:
        stored = stored_plan(out)  # whoever came first may have written it since
        refuse_other_plan(out, stored, plan)
        if stored is None:
            store.write("plan.yaml", plan.dump().encode())
        desk = Desk(store, executor, listener or Quiet(), name)
        for sentence in plan.left_out:
            desk.listener.note(sentence)
        desk.do(plan.all_units)
    return Audit(out, plan)


def _checked(plan: Plan) -> str:
    """Refuse a classifier whose numbers would mean nothing; returns its own name."""
    process.prepare(plan.job.threads)
    classifier = VICTIMS.classifier(plan.job.classifier, plan.job.options, devices(plan.settings)[1])
    check(classifier, str(getattr(classifier, "device", plan.job.device)))
    if plan.settings.workers > 1 or plan.settings.executor != "local":
        VICTIMS.clear()  # the workers have their own
    return classifier.name


def executor_of(plan: Plan, out: Place) -> Executor:
    """Who works on a plan's units; to be closed."""
    settings = plan.settings
    apart = settings.executor != "local" or settings.workers > 1
    if apart and isinstance(out, Remote) and out.url.startswith("memory:"):
        raise UnderfireError(f"'{out}' lies in the memory of one process: give --workers 1, or another --out.")
    workplace = Workplace(settings.workers, plan.job.threads, plan.job.device, settings.address, settings.gpus)
    executor: Executor = registry.maker("executors", settings.executor)(workplace)
    return executor
