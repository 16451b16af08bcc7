"""Forge: run an attack on a batch, save what it found, and hold it against its budget."""

from __future__ import annotations

from typing import Any

import torch

from underfire.core import (
    COLUMNS,
    Cell,
    Found,
    Goal,
    ImageErrors,
    Job,
    PerImage,
    Resume,
    UnderfireError,
    Victim,
    hashing,
)
from underfire.core.precision import precision_against, searching
from underfire.trial.batch import Batch
from underfire.trial.forged import Forged
from underfire.trial.saved import entrance_of, nothing, save_files, save_inputs
from underfire.trial.smallest import smallest
from underfire.trial.system import System


def forge(system: System, job: Job, cell: Cell, batch: Batch) -> Forged:
    """Forge adversarial images; those that the attack cannot work on are set aside."""
    able = batch if cell.against is None else batch.without(batch.goals[cell.against].errors)
    while len(able):
        try:
            if cell.smallest:
                return smallest(system, job, cell, able, _attacked)
            return _attacked(system, job, cell, able)
        except ImageErrors as e:
            if not e.by_row:
                raise
            able = able.without(able.told(e.by_row))
        except UnderfireError:
            raise
        except Exception as e:  # a third party's attack may raise anything; the other attacks go on
            if out_of_memory(e):  # says more of the machine than of these images: the unit is tried again
                raise
            why = f"'{cell.attack.name}' failed: {type(e).__name__}: {e}"
            able = able.without(dict.fromkeys(able.rows, why))
    none = torch.zeros(0, dtype=torch.float64)
    return Forged(able, nothing(able.levels), none, none)


def _attacked(system: System, job: Job, cell: Cell, able: Batch, resume: Resume | None = None) -> Forged:
    against = () if cell.against is None else (system.interpreters[cell.against],)
    goal = goal_of(job, able, () if cell.against is None else (cell.against,))
    seeds = [hashing.seed_of(job.seed, photo, cell.attack.name) for photo in able.photos]
    x = able.x.clone()  # an attack may write into it
    entrance = entrance_of(system, job, able, cell.attack.name)
    lanes = () if entrance is None else tuple(entrance.lanes)
    more: dict[str, Any] = {} if resume is None else {"resume": resume}  # which other packages' attacks do not know
    with (
        torch.enable_grad(),  # whatever is around an audit in somebody's own program
        torch.autocast(x.device.type, enabled=False),
        searching(precision_against(job.precision, cell.against)),
        system.classifier.meter.counting(len(able)) as spent,
    ):
        found = cell.attack.run(Victim(system.classifier, against, entrance, system.watcher), x, goal, seeds, **more)
    _check_extras(cell, found)
    _check_finite(cell, found)
    saved = save_files(system, cell, able, found, lanes) if lanes else save_inputs(cell, able, found)
    _check_budget(cell, saved.linf)
    extras = {column: values.detach().cpu() for column, values in found.extras.items()}
    return Forged(able, saved, found.steps.cpu(), spent.passes, extras, resume=found.resume)


def goal_of(job: Job, able: Batch, against: tuple[str, ...]) -> Goal:
    """What an attack against these interpreters is told to reach."""
    reference = able.reference
    if reference is not None and not bool(able.outside(reference.errors).all()):
        reference = None
    return Goal(
        able.target,
        able.source,
        {name: able.goals[name].wanted.to(able.x) for name in against},
        None if reference is None else (reference.x, reference.y),
        job.target_map.drawn,
    )


def _check_extras(cell: Cell, found: Found) -> None:
    unknown = [name for name in found.extras if name not in COLUMNS]
    if unknown:
        raise UnderfireError(f"Attack '{cell.attack.name}' returned '{unknown[0]}', which is no column of a record.")


def _check_finite(cell: Cell, found: Found) -> None:
    """Raise ImageErrors for pixels and columns that are not finite: rounding would make some level of them."""
    seen = {"pixels": found.images, **found.extras}
    bad = {name: ~of.detach().isfinite().flatten(1).all(1) for name, of in ((n, t[:, None]) for n, t in seen.items())}
    why = {n: name for name, rows in bad.items() for n in rows.nonzero()[:, 0].tolist()}
    if why:
        raise ImageErrors({n: f"'{cell.attack.name}' returned {name} that are not finite." for n, name in why.items()})


def _check_budget(cell: Cell, linf: PerImage) -> None:
    eps, name = cell.attack.eps, cell.attack.name
    over = {n: change for n, change in enumerate(linf.tolist()) if eps is not None and change > eps}
    if over:
        raise ImageErrors({n: f"{name} left its budget: {change} of {eps} levels." for n, change in over.items()})


def out_of_memory(e: BaseException) -> bool:
    """Whether an exception means that memory ran out; PyTorch's allocator for the CPU has no exception of its own."""
    known = isinstance(e, (MemoryError, torch.OutOfMemoryError))
    return known or (isinstance(e, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(e))
