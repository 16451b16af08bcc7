"""The CPU threads of a search in somebody's own program.

OpenMP's threads spin while they wait. On a machine that is busy with other work they take the cores from each other,
and a search of two seconds takes minutes. OMP_WAIT_POLICY=passive, which `underfire/__init__` sets, mends that, but
OpenMP reads it when torch is loaded: a notebook that imports torch first never has it. What works then is no more
threads than cores that are free, since such threads hardly wait (benchmarks/notebook_threads.py, docs/notebook.md).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch

import underfire
from underfire.core import UnderfireError

LOOK = 0.1
"""Seconds that the machine is watched for."""


@contextlib.contextmanager
def at_most(threads: int | None) -> Iterator[None]:
    """Compute with so many CPU threads for the time of a `with` block.

    Args:
        threads: the number; None: as many as there are, but where these spin no more than there are free cores.
    """
    if threads is not None and threads < 1:
        raise UnderfireError(f"threads={threads}: give 1 or more.")
    before = torch.get_num_threads()
    wanted = threads or (min(before, free_cores(before)) if underfire.OPENMP_SPINS and before > 1 else before)
    if wanted != before:
        torch.set_num_threads(wanted)
    try:
        yield
    finally:
        if wanted != before:
            torch.set_num_threads(before)


def free_cores(otherwise: int) -> int:
    """Count the cores that nobody uses just now, at least 1; ``otherwise`` where the machine does not tell."""
    before = _times()
    if before is None:
        return otherwise
    time.sleep(LOOK)
    after = _times() or before
    free = sum(
        (idle - idle_before) / max(1, total - total_before)
        for (idle, total), (idle_before, total_before) in zip(after, before, strict=False)
    )
    return max(1, round(free))


def _times() -> list[tuple[int, int]] | None:
    """Read the idle and the whole time of each core; None where the system does not say."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    cores = [list(map(int, line.split()[1:])) for line in lines if line.startswith("cpu") and line[3:4].isdigit()]
    return [(times[3] + times[4], sum(times)) for times in cores]
