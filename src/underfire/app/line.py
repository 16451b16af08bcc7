"""The line before the one worker: whoever asks for work waits until those before him are done."""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol

from underfire.core import BusyError

LONGEST = 20
"""Tasks that may wait."""
GRACE = 5.0
"""Seconds that the end of the app waits for the task that runs."""


class QueuedTask(Protocol):
    """Work for the worker."""

    def run(self) -> None:
        """Do it; whatever goes wrong is kept in the task."""

    @property
    def unwanted(self) -> bool:
        """Whether nobody waits for it any more."""


class Queue:
    """One worker, a thread, and the tasks that wait for it in order."""

    def __init__(self) -> None:
        self._waiting: deque[QueuedTask] = deque()
        self._change = threading.Condition()
        self._now: QueuedTask | None = None
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="underfire", daemon=True)

    def start(self) -> None:
        """Start the worker."""
        self._thread.start()

    def put(self, task: QueuedTask) -> None:
        """Let a task wait.

        Raises:
            BusyError: too many wait already.
        """
        with self._change:
            if len(self._waiting) >= LONGEST:
                raise BusyError(f"{LONGEST} others wait already: try again when some are done.")
            self._waiting.append(task)
            self._change.notify_all()

    def ahead(self, task: QueuedTask) -> int:
        """Count the tasks that come before a task that waits, with the one that runs."""
        with self._change:
            before = list(self._waiting).index(task) if task in self._waiting else 0
            return before + (self._now is not None and self._now is not task)

    def close(self) -> None:
        """Take no more work, and wait a little for the task that runs."""
        with self._change:
            self._closed = True
            self._waiting.clear()
            self._change.notify_all()
        self._thread.join(GRACE)

    def _work(self) -> None:
        while (task := self._next()) is not None:
            if not task.unwanted:
                task.run()

    def _next(self) -> QueuedTask | None:
        with self._change:
            self._now = None
            while not self._waiting and not self._closed:
                self._change.wait()
            self._now = None if self._closed else self._waiting.popleft()
            return self._now
