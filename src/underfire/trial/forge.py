"""Forge: run an attack on a batch and save what it found as 8-bit PNGs inside the budget.

Nothing here trusts an attack: what it returns is rounded, encoded, decoded and held against its budget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from underfire.core import COLUMNS, Cell, Found, Goal, ImageErrors, Job, PerImage, UnderfireError, Victim, hashing
from underfire.images import pixels
from underfire.images.formats import decode_png
from underfire.trial.alarms import Alarms
from underfire.trial.batch import Batch, picked
from underfire.trial.load import Levels
from underfire.trial.system import System


@dataclass(frozen=True)
class Forged:
    """N adversarial images as read back from their PNGs.

    Args:
        clean: the photos that they were made of; its errors say why others were not.
        png: (N,) the files.
        levels: (N, H, W, C) pixels.
        linf: (N,) largest change of a pixel, in levels of 255.
        steps: (N,) steps of the search.
        passes: (N,) F of the search with all its own checks.
        extras: further columns of the record, (N,) each.
        alarms: what the defense says of the images; None without one.
    """

    clean: Batch
    png: tuple[bytes, ...]
    levels: Levels
    linf: PerImage
    steps: Tensor
    passes: PerImage
    extras: Mapping[str, PerImage] = field(default_factory=dict)
    alarms: Alarms | None = None

    def without(self, errors: Mapping[int, str]) -> Forged:
        """Set aside the images of ``errors`` (by place in the unit), as `Batch.without`."""
        clean, keep = self.clean.without(errors), self.clean.outside(errors)
        if bool(keep.all()):
            return replace(self, clean=clean)
        return Forged(
            clean,
            picked(self.png, keep),
            self.levels[keep.numpy()],
            self.linf[keep],
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
    nothing = torch.zeros(0, dtype=torch.float64)
    return Forged(able, (), able.levels, nothing, nothing, nothing)


def _attacked(system: System, job: Job, cell: Cell, able: Batch) -> Forged:
    against = () if cell.against is None else (system.interpreters[cell.against],)
    goal = goal_of(job, able, () if cell.against is None else (cell.against,))
    seeds = [hashing.seed_of(job.seed, photo, cell.attack.name) for photo in able.photos]
    x = able.x.clone()  # an attack may write into it
    with (
        torch.enable_grad(),  # whatever is around an audit in somebody's own program
        torch.autocast(x.device.type, torch.bfloat16, enabled=job.precision == "bf16"),
        system.classifier.meter.counting(len(able)) as spent,
    ):
        found = cell.attack.run(Victim(system.classifier, against), x, goal, seeds)
    _check_extras(cell, found)
    _check_finite(cell, found)
    note = f"{cell.attack.name} against {cell.against or 'the prediction'}"
    png = tuple(pixels.encode_png(levels, note) for levels in pixels.to_levels(found.images))
    levels = np.stack([decode_png(one, able.levels.shape[-1]) for one in png])
    linf = torch.tensor([pixels.linf_levels(*pair) for pair in zip(levels, able.levels, strict=True)])
    _check_budget(cell, linf)
    extras = {column: values.detach().cpu() for column, values in found.extras.items()}
    return Forged(able, png, levels, linf, found.steps.cpu(), spent.passes, extras)


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
