"""What the terminal shows of a plan before it is run. It imports no torch by itself."""

from __future__ import annotations

from rich.table import Table

from underfire.audit.folder import stored_plan
from underfire.cli.progress import console, say
from underfire.cli.show import duration
from underfire.core import HEADS
from underfire.core.naming import short_name
from underfire.core.place import Place
from underfire.plan.cost import Lane
from underfire.plan.settings import Settings
from underfire.plan.units import Plan
from underfire.plan.values import is_smallest
from underfire.report.text import count, number
from underfire.store import Store


def show_plan(settings: Settings, out: Place) -> None:
    """Print the tasks, passes and time of a run; the passes are timed for a second."""
    from underfire.audit.speed import plan_of
    from underfire.executors.process import seconds_a_pass
    from underfire.plan.device import devices
    from underfire.registry import VICTIMS

    plan = plan_of(settings, stored_plan(out))
    classifier = VICTIMS.classifier(plan.job.classifier, plan.job.options, devices(plan.settings)[1])
    s, job = plan.settings, plan.job
    scale = sum(plan.scale_passes * len(unit.photos) for unit in plan.scale_units()) / max(1, len(job.interpreters))
    console.print(_tasks(plan, scale))
    for sentence in plan.left_out:
        say(sentence)
    say(_front_door(plan))
    say(_speed(plan))
    units = list(plan.units())
    done = Store(out).done("records")
    missing = [unit for unit in units if unit.name not in done]
    say(
        f"{count(len(units), 'unit')}: {'; '.join(_lane(plan, lane) for lane in plan.lanes)}; "
        f"{count(s.workers, 'worker')} of {count(job.threads, 'thread')} on {job.device}; "
        f"{count(len(units) - len(missing), 'unit')} done in '{out}'."
    )
    cost = {lane.interpreters: lane.passes for lane in plan.lanes}
    left = scale + sum(cost[unit.job.interpreters] * len(unit.photos) for unit in missing)
    seconds = seconds_a_pass(classifier, s.batch_size or 1, job.device, job.threads)
    say(
        f"At {number(1 / seconds)} passes/s this takes {duration(seconds * left / s.workers)} at most; images that are "
        "done early cost less."
    )


def _front_door(plan: Plan) -> str:
    """Say how a photo becomes the classifier's input, and which weights of their file are used."""
    to, (mean, std) = (
        plan.shown["input"],
        (" ".join(f"{value:.4g}" for value in plan.shown["input"][key]) for key in ("mean", "std")),
    )
    entry = f" Weights: '{plan.shown['weights_entry']}' of their file." if "weights_entry" in plan.shown else ""
    door = f" Door: {plan.shown['door']}." if "door" in plan.shown else ""
    centre = f"{to['input_size']}×{to['width']}" if "width" in to else f"{to['input_size']}"
    grey = ", as grey" if len(to["mean"]) == 1 else ""
    return " ".join(
        (
            f"Photos{grey}: shorter side to {to['resize']} px ({to['interpolation']}), centre of {centre} px, mean "
            f"{mean}, std {std}.{door}{entry} Forged: the {plan.job.at}.",
            f"Outputs: {HEADS[plan.shown['head']]}.",
            *plan.shown.get("notes", ()),
        )
    )


def _budget(s: Settings) -> str:
    """Say the budget, or the largest where the smallest that forges is searched."""
    return f"the smallest ε up to {int(s.eps)}/255" if is_smallest(s.eps) else f"ε = {s.eps}/255"


def _tasks(plan: Plan, scale: float) -> Table:
    """Make the table of tasks; ``scale`` is the passes of the clean maps."""
    s, photos = plan.settings, len(plan.photos)
    table = Table(title=f"{count(photos, 'photo')}, {short_name(s.classifier)}, {_budget(s)}, preset {s.preset}")
    table.add_column("task")
    for name in ("images", "passes at most"):
        table.add_column(name, justify="right")
    for cell, passes in zip(plan.job.cells, plan.cell_passes, strict=True):
        name = f"{cell.attack.name} on {cell.against}" if cell.against else cell.attack.name
        table.add_row(name, str(plan.attacked), number(passes * plan.attacked))
    table.add_row(
        "all of it, clean maps included", str(plan.attacked), number(plan.image_passes * plan.attacked + scale)
    )
    return table


def _lane(plan: Plan, lane: Lane) -> str:
    """Say what the units of a lane hold and cost."""
    most = max(len(unit.photos) for unit in plan.units() if unit.job.interpreters == lane.interpreters)
    return f"{'+'.join(lane.interpreters)} up to {count(most, 'image')} and {number(lane.passes * most)} passes each"


def _speed(plan: Plan) -> str:
    """The precision of the search and the batch size, and why they are that."""
    facts = plan.shown.get("speed", {})
    why = facts.get("why", "")
    batch = f" Batch size {facts['batch']}." if "batch" in facts else ""
    return f"Search in {plan.job.precision}{f' ({why})' if why else ''}, judged in fp32.{batch}"
