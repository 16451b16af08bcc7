"""The audits of a study, planned: what is missing of each, and what that costs at most."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from underfire.audit.folder import refuse_other_plan, stored_plan
from underfire.audit.speed import ChosenSpeed, choose, open_in, with_speed
from underfire.core import UnderfireError
from underfire.executors import process
from underfire.plan.device import devices
from underfire.plan.make import make_plan
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.registry import VICTIMS
from underfire.store import Store
from underfire.study.agenda import Agenda, StudyAudit
from underfire.study.plan import audits_in


@dataclass(frozen=True)
class PlannedAudit:
    """An audit of a study, planned, and what is missing of it.

    Args:
        audit: as the agenda has it.
        plan: filled in.
        passes: F that are missing, at most.
        seconds_a_pass: what one F takes, with all workers that have a unit to work on.
    """

    audit: StudyAudit
    plan: Plan
    passes: float
    seconds_a_pass: float

    @property
    def seconds(self) -> float:
        """What is missing takes at most."""
        return self.passes * self.seconds_a_pass


def plan_audits(agenda: Agenda, out: Path) -> list[PlannedAudit]:
    """Plan every audit, and count what is missing of it in the study's folder ``out``.

    Raises:
        UnderfireError: a mistake of a plan, or ``out`` holds another study or another plan's results.
    """
    _refuse_another(agenda, out)
    seconds: dict[int, float] = {}
    found = []
    for audit, stored, plan in zip(agenda.audits, *_plans(agenda, out), strict=True):
        folder = out / audit.folder
        refuse_other_plan(folder, stored, plan, f"underfire study '{out}'")
        if audit.subject not in seconds:
            size = plan.settings.batch_size or 1
            classifier = VICTIMS.classifier(plan.job.classifier, plan.job.options, devices(plan.settings)[1])
            seconds[audit.subject] = process.seconds_a_pass(classifier, size, plan.job.device, plan.job.threads)
        costs = _missing(plan, Store(folder), agenda.subjects[audit.subject].map_passes)
        busy = max(1, min(plan.settings.workers, len(costs)))
        found.append(PlannedAudit(audit, plan, sum(costs), seconds[audit.subject] / busy))
    return found


def _plans(agenda: Agenda, out: Path) -> tuple[list[Settings | None], list[Plan]]:
    """Read the plans that are there, and make all of them; the audits of a classifier share one choice of what is open.

    It is made once for all of them; a study that goes on takes the precision of the plans that are there.
    """
    stored = [stored_plan(out / audit.folder) for audit in agenda.audits]
    plans = [make_plan(audit.settings, VICTIMS, there) for audit, there in zip(agenda.audits, stored, strict=True)]
    for subject in range(len(agenda.subjects)):
        own = [i for i, audit in enumerate(agenda.audits) if audit.subject == subject]
        left = {i: found for i in own if (found := open_in(agenda.audits[i].settings, stored[i]))}
        before = [(agenda.audits[i].settings, there) for i in own if (there := stored[i])]
        precisions = [there.precision for _, there in before if there.precision is not None]
        sizes = [there.batch_size for asked, there in before if asked.batch_size is None and there.batch_size]
        if not left:
            continue
        choice = (
            ChosenSpeed(min(precisions), min(sizes, default=None))  # the rerun's batches of one were asked for
            if precisions
            else choose([plans[i] for i in left], frozenset.union(*left.values()))
        )
        for i, names in left.items():
            plans[i] = with_speed(plans[i], choice.only(names))
    return stored, plans


def _refuse_another(agenda: Agenda, out: Path) -> None:
    """Refuse a study that leaves out audits that its folder holds; it may add some."""
    now = {audit.folder for audit in agenda.audits}
    gone = [folder for folder in audits_in(out) if folder not in now]
    if gone:
        some = ", ".join(gone[:3]) + (" …" if len(gone) > 3 else "")
        raise UnderfireError(
            f"'{out}' holds a study with {some}, which this one leaves out: give another --out, or go on with "
            f"'underfire study {out}'."
        )


def _missing(plan: Plan, store: Store, map_passes: Mapping[str, float]) -> list[float]:
    """F at most of each unit that is not done."""
    cost = {lane.interpreters: lane.passes for lane in plan.lanes}
    done, scale = store.done("records"), store.done("scale")
    costs = [cost[unit.job.interpreters] * len(unit.photos) for unit in plan.units() if unit.name not in done]
    for unit in plan.scale_units():
        if unit.name not in scale:  # the clean map, and that of the JPEG
            costs.append((1 + 2 * sum(map_passes[i] for i in unit.job.interpreters)) * len(unit.photos))
    return costs
