"""Units on this machine: in this process, or in as many processes as asked."""

from __future__ import annotations

import collections
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.process import BaseProcess

from underfire.core import Outcome, UnderfireError, Unit
from underfire.registry import register

TRIES = 3


@register("executors", "local")
class Local:
    """One process, or a pool of them.

    Args:
        workers: 1 works in this process.
    """

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers

    def map(self, fn: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Iterator[Outcome]:
        """Outcomes as they finish."""
        return map(fn, units) if self.workers == 1 else self._pooled(fn, units)

    def _pooled(self, fn: Callable[[Unit], Outcome], units: Iterator[Unit]) -> Iterator[Outcome]:
        """A window of units in flight: two a worker, so that none waits and a million units take no memory."""
        tries: collections.Counter[str] = collections.Counter()
        waiting = units
        while True:
            lost: list[Unit] = []
            pool = self._pool()
            try:
                yield from self._window(pool, fn, waiting, lost)
            finally:
                _stop(pool)
            if not lost:
                return
            # A process died (out of memory, killed): its pool is gone, and with it every unit in flight.
            tries.update(unit.name for unit in lost)
            if max(tries.values()) >= TRIES:
                raise UnderfireError(
                    f"A worker process died {TRIES} times on the same images ({lost[0].photos[0].path} …), most likely "
                    "out of memory. What is finished is kept: run again with a smaller --batch-size or fewer --workers."
                )
            waiting = itertools.chain(lost, waiting)

    def _window(
        self, pool: ProcessPoolExecutor, fn: Callable[[Unit], Outcome], units: Iterator[Unit], lost: list[Unit]
    ) -> Iterator[Outcome]:
        flying: dict[Future[Outcome], Unit] = {}

        def submit(n: int) -> None:
            for unit in itertools.islice(units, n):
                try:
                    flying[pool.submit(fn, unit)] = unit
                except BrokenProcessPool:
                    lost.append(unit)
                    raise

        try:
            submit(2 * self.workers)
            while flying:
                for future in wait(flying, return_when=FIRST_COMPLETED).done:
                    yield future.result()
                    del flying[future]
                    submit(1)
        except BrokenProcessPool:
            lost += flying.values()

    def _pool(self) -> ProcessPoolExecutor:
        # spawn: forking a process with OpenMP threads hangs
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start_worker)


def _start_worker() -> None:
    """A worker leaves Ctrl-C to the driver, and ends when the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _stop(pool: ProcessPoolExecutor) -> None:
    processes = list((pool._processes or {}).values())
    pool.shutdown(wait=False, cancel_futures=True)
    for process in processes:
        process.terminate()
    for process in processes:
        process.join()
