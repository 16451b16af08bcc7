"""Forge: run an attack on a batch and save what it found as 8-bit PNGs inside the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from underfire.core import COLUMNS, Cell, Found, UnderfireError
from underfire.trial.goal import Levels


@dataclass(frozen=True)
class Forged:
    """One adversarial image as read back from its PNG."""

    levels: Levels
    file: str
    linf: int
    steps: int
    passes: float
    extras: Mapping[str, float]


def out_of_memory(e: BaseException) -> bool:
    """Whether an exception means that memory ran out; PyTorch's allocator for the CPU has no exception of its own."""
    known = isinstance(e, (MemoryError, torch.OutOfMemoryError))
    return known or (isinstance(e, RuntimeError) and "DefaultCPUAllocator: can't allocate memory" in str(e))


def _check_extras(cell: Cell, found: Found) -> None:
    unknown = [name for name in found.extras if name not in COLUMNS]
    if unknown:
        raise UnderfireError(f"Attack '{cell.attack.name}' returned '{unknown[0]}', which is no column of a record.")
