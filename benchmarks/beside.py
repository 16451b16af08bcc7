"""A snippet timed in a process of its own, which OpenMP needs to read its settings anew, and programs beside it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping


def told(snippet: str, words: list[str], openmp: Mapping[str, str], limit: float) -> float:
    """Run a snippet without the OpenMP settings that this process has, and return the number that it prints last."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_"))} | dict(openmp)
    command = [sys.executable, "-c", snippet, *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit, check=True)
    return float(done.stdout.split()[-1])


@contextlib.contextmanager
def busy(n: int) -> Iterator[None]:
    """Let ``n`` programs compute for the time of a `with` block."""
    beside = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(n)]
    try:
        yield
    finally:
        for one in beside:
            one.kill()
