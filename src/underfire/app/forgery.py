"""One forgery that somebody asked for on the page: it waits, runs, can be stopped, and keeps what came of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from underfire.app.album import Given
from underfire.app.form import Form
from underfire.app.networks import Networks
from underfire.core import UnderfireError

if TYPE_CHECKING:
    from underfire.app.live import Frame
    from underfire.app.outcome import Forging

State = Literal["waiting", "loading", "running", "judging", "done", "failed", "left"]
SEARCHING = ("waiting", "loading", "running")
"""States in which there is something to stop."""
PATIENCE = 4.0
"""Seconds without anybody who listens after which a search is given up: a page that loads again is back sooner."""


@dataclass
class Forgery:
    """A forgery and its story; the worker writes it, the page's stream reads it.

    Args:
        wish: what is wanted.
        given: the photo.
        networks: who builds classifier and explanations.
        clock: seconds, for tests.
    """

    wish: Form
    given: Given
    networks: Networks
    clock: Callable[[], float] = time.monotonic
    key: str = field(default_factory=lambda: secrets.token_urlsafe(16))
    state: State = "waiting"
    frame: Frame | None = None
    outcome: Forging | None = None
    error: str = ""
    stopping: bool = False
    version: int = 0
    """It counts the changes, so that a stream knows whether there is anything new."""
    listeners: int = 0
    heard: float = field(default=0.0)
    """When somebody listened last."""

    def __post_init__(self) -> None:
        self.heard = self.clock()

    def listen(self, by: int) -> None:
        """Count one listener more or less."""
        self.listeners += by
        self.heard = self.clock()

    @property
    def unwanted(self) -> bool:
        """Whether nobody waits for it any more; the page that asked for it is closed."""
        alone = self.listeners == 0 and self.clock() - self.heard > PATIENCE
        if alone and self.state == "waiting":
            self.move("left")
        return alone or self.state == "left"

    def move(self, state: State) -> None:
        """Go on to another state."""
        self.state = state
        self.version += 1

    def stop(self) -> None:
        """End the search with the best that it has found so far; of one that waits nothing is kept."""
        if self.state in SEARCHING:
            self.stopping = True
        if self.state == "waiting":
            self.move("left")

    def leave(self) -> None:
        """Give it up, and keep nothing."""
        if not self.over:
            self.move("left")

    def show(self, frame: Frame) -> None:
        """Take a frame of the live view."""
        self.frame = frame
        self.version += 1

    def ended(self) -> str:
        """Tell the search whether to end, and how."""
        return "leave" if self.unwanted else "stop" if self.stopping else ""

    def run(self) -> None:
        """Forge the photo; whatever goes wrong is told to the page."""
        from underfire.app.live import Abandoned
        from underfire.app.outcome import forged

        try:
            self.move("loading")
            self.outcome = forged(self)
            self.move("done")
        except Abandoned:
            self.move("left")
        except UnderfireError as e:
            self.fail(str(e))
        except Exception as e:  # the worker goes on with the next one, whatever a network raises
            self.fail(f"This failed with {type(e).__name__}: {e}")

    def fail(self, why: str) -> None:
        """Keep why nothing came of it."""
        self.error = why
        self.move("failed")

    @property
    def over(self) -> bool:
        """Whether nothing more will happen."""
        return self.state in ("done", "failed", "left")

    def told(self, ahead: int) -> dict[str, Any]:
        """Say how it stands, for the page.

        Args:
            ahead: tasks that come before it.
        """
        said: dict[str, Any] = {"state": self.state, "ahead": ahead, "stopping": self.stopping}
        if self.error:
            said["error"] = self.error
        if self.frame is not None:
            said["frame"] = asdict(self.frame)
        return said
