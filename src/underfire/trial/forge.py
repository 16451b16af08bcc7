"""Forge: run an attack on a batch, save what it found, and hold it against its budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from underfire.core import COLUMNS, Cell, Found, Goal, ImageErrors, Job, PerImage, UnderfireError, Victim, hashing
from underfire.core.precision import precision_against, searching
from underfire.trial.alarms import Alarms
from underfire.trial.batch import Batch
from underfire.trial.load import Levels
from underfire.trial.saved import FileFacts, Saved, chosen, entrance_of, nothing, save_files, save_inputs
from underfire.trial.system import System


@dataclass(frozen=True)
class Forged:
    """N adversarial images as read back from their files.

    Args:
        clean: the photos that they were made of; its errors say why others were not.
        saved: the files, and what the classifier is shown of them.
        steps: (N,) steps of the search.
        passes: (N,) F of the search with all its own checks.
        extras: further columns of the record, (N,) each.
        alarms: what the defense says of the images; None without one.
    """

    clean: Batch
    saved: Saved
    steps: Tensor
    passes: PerImage
    extras: Mapping[str, PerImage] = field(default_factory=dict)
    alarms: Alarms | None = None

    @property
    def files(self) -> tuple[bytes, ...]:
        """(N,) the files."""
        return self.saved.files

    @property
    def levels(self) -> Levels:
        """(N, H, W, 3) what the classifier is shown of them."""
        return self.saved.levels

    @property
    def linf(self) -> PerImage:
        """(N,) largest change of a pixel, in levels of 255."""
        return self.saved.linf

    @property
    def facts(self) -> tuple[FileFacts, ...]:
        """(N,) what is known of forged files; empty where inputs were forged."""
        return self.saved.facts

    def without(self, errors: Mapping[int, str]) -> Forged:
        """Set aside the images of ``errors`` (by place in the unit), as `Batch.without`."""
        clean, keep = self.clean.without(errors), self.clean.outside(errors)
        if bool(keep.all()):
            return replace(self, clean=clean)
        return Forged(
            clean,
            chosen(self.saved, keep.nonzero()[:, 0].tolist()),
            self.steps[keep],
            self.passes[keep],
            {column: values[keep] for column, values in self.extras.items()},
            self.alarms and self.alarms.select(keep),
        )


def forge(system: System, job: Job, cell: Cell, batch: Batch) -> Forged:
    """Forge adversarial images; those that the attack cannot work on are set aside."""
    able = batch if cell.against is None else batch.without(batch.goals[cell.against].errors)
    while len(able):
        try:
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


def _attacked(system: System, job: Job, cell: Cell, able: Batch) -> Forged:
    against = () if cell.against is None else (system.interpreters[cell.against],)
    goal = goal_of(job, able, () if cell.against is None else (cell.against,))
    seeds = [hashing.seed_of(job.seed, photo, cell.attack.name) for photo in able.photos]
    x = able.x.clone()  # an attack may write into it
    entrance = entrance_of(system, job, able, cell.attack.name)
    lanes = () if entrance is None else tuple(entrance.lanes)
    with (
        torch.enable_grad(),  # whatever is around an audit in somebody's own program
        torch.autocast(x.device.type, enabled=False),
        searching(precision_against(job.precision, cell.against)),
        system.classifier.meter.counting(len(able)) as spent,
    ):
        found = cell.attack.run(Victim(system.classifier, against, entrance, system.watcher), x, goal, seeds)
    _check_extras(cell, found)
    _check_finite(cell, found)
    saved = save_files(system, cell, able, found, lanes) if lanes else save_inputs(cell, able, found)
    _check_budget(cell, saved.linf)
    extras = {column: values.detach().cpu() for column, values in found.extras.items()}
    return Forged(able, saved, found.steps.cpu(), spent.passes, extras)


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
