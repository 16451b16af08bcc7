"""The run of an audit: planned units that are not in the store go to the executor; each worker stores its own."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from underfire import registry
from underfire.audit.desk import Desk
from underfire.audit.folder import default_out, refuse_images_in, refuse_other_plan, stored_plan, write_yardsticks
from underfire.audit.insight import look, photo_of
from underfire.audit.speed import plan_of
from underfire.core import Executor, Listener, Quiet, UnderfireError, Workplace
from underfire.core.insight import Insight
from underfire.core.place import Place, Remote
from underfire.executors import process
from underfire.plan.check import check
from underfire.plan.device import devices
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.registry import VICTIMS
from underfire.store import Results, Store, open_results
from underfire.store.insight import FILE, dumped

OWN_PLAN = "plan-as-written.yaml"
"""Name that a plan gets which lay in the output folder before anything was run."""


@dataclass(frozen=True)
class Audit:
    """A finished audit.

    Args:
        out: its output folder.
        plan: its plan.
    """

    out: Place
    plan: Plan

    @property
    def results(self) -> Results:
        """Its measurements, and the verdicts on them."""
        return open_results(self.out)


def run(
    settings: Settings,
    out: Place | None = None,
    listener: Listener | None = None,
    plan: Plan | None = None,
    executor: Executor | None = None,
) -> Audit:
    """Run what is missing of an audit, and nothing twice.

    Example:
        ``underfire.run(underfire.Settings(images="photos")).results.rows()``

    Args:
        settings: what to audit.
        out: the output folder, or a URL that fsspec knows; by default a folder that is named after the settings.
        listener: hears how it goes on.
        plan: the plan of these settings, where it has been made already.
        executor: workers that others have too; by default the plan's own.

    Raises:
        UnderfireError: a mistake of the user's, or ``out`` holds another plan's results.
    """
    out = out or default_out(settings)
    refuse_images_in(out, settings.images)
    stored = stored_plan(out)
    plan = plan or plan_of(settings, stored)
    refuse_other_plan(out, stored, plan)
    name = _checked(plan)
    seen = None if (out / FILE).is_file() else _seen(plan)
    if executor is None and _apart(plan):
        VICTIMS.clear()  # the workers have their own victims
    with Store(out).open() as store, crew_of(plan, out, executor) as crew:
        stored = stored_plan(out)  # another run may have written it since
        refuse_other_plan(out, stored, plan)
        if stored is None:
            if (out / "plan.yaml").is_file():  # the user's own words, which the filled-in plan takes the place of
                store.write(OWN_PLAN, (out / "plan.yaml").read_bytes())
            write_yardsticks(store, plan)
            store.write("plan.yaml", plan.dump().encode())
        desk = Desk(store, crew, listener or Quiet(), name)
        if seen is not None:
            store.write(FILE, dumped(seen))
        for sentence in [*plan.left_out, *_blunt(plan, seen)]:
            desk.listener.note(sentence)
        desk.do(plan.all_units)
    return Audit(out, plan)


def _checked(plan: Plan) -> str:
    """Check the classifier, and return its own name."""
    process.prepare(plan.job.threads)
    classifier = VICTIMS.classifier(plan.job.classifier, plan.job.options, devices(plan.settings)[1])
    device = str(getattr(classifier, "device", plan.job.device))
    VICTIMS.about(classifier, "checked", {}, lambda: check(classifier, device))
    return classifier.name


def _seen(plan: Plan) -> Insight:
    """Look at the classifier, which has been checked, and at the interpreters of the plan."""
    job, settings = plan.job, plan.settings
    classifier = VICTIMS.classifier(job.classifier, job.options, devices(settings)[1])
    photo = None
    with contextlib.suppress(UnderfireError):  # a photo that cannot be read is an error of its own, later
        photo = photo_of(settings.images, classifier)
    shown = {"photo": photo and (photo[0], hashlib.sha256(photo[1].tobytes()).hexdigest()), "names": job.interpreters}
    return VICTIMS.about(
        classifier,
        "seen",
        {**shown, "options": job.interpreter_options},
        lambda: look(classifier, photo, job.interpreters, job.interpreter_options, checked=True),
    )


def _blunt(plan: Plan, seen: Insight | None) -> list[str]:
    """Say before the search what cannot be smoothed, where an attack needs it."""
    needs = any(cell.against == "grad" for cell in plan.job.cells)
    return [seen.sharp] if seen is not None and seen.sharp and needs else []


@contextlib.contextmanager
def crew_of(plan: Plan, out: Place, executor: Executor | None = None) -> Iterator[Executor]:
    """Lend the executor of a plan, and end its workers; one that is given is lent as it is, and left alone.

    Args:
        plan: the plan.
        out: the output folder, where the workers write.
        executor: one that others have too.

    Raises:
        UnderfireError: several processes, and an ``out`` that only one can see.
    """
    settings = plan.settings
    if executor is not None:
        yield executor
        return
    if _apart(plan) and isinstance(out, Remote) and out.url.startswith("memory:"):
        raise UnderfireError(f"'{out}' lies in the memory of one process: give --workers 1, or another --out.")
    workplace = Workplace(settings.workers, plan.job.threads, plan.job.device, settings.address, settings.gpus)
    with contextlib.closing(registry.maker("executors", settings.executor)(workplace)) as own:
        yield own


def _apart(plan: Plan) -> bool:
    """Say whether the workers are processes of their own."""
    return plan.settings.executor != "local" or plan.settings.workers > 1
