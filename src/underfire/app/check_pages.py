"""The page that checks a file against an alarm."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from underfire.app.album import LIMITS, Given, clean_name, too_large
from underfire.app.checking import Answer, Checking
from underfire.app.line import Queue
from underfire.app.networks import Networks
from underfire.app.pages import fill, page, told
from underfire.app.uploads import sent
from underfire.core import NotFoundError, UnderfireError, UnsuitableError
from underfire.core.naming import as_flags

LARGEST_ALARM = 4_000_000
"""Bytes of an alarm's file at most; one of a thousand photos has a tenth of that."""
MOST_ALARMS = 20


@dataclass(frozen=True)
class Known:
    """An alarm that the page offers: its file, and what is said of it."""

    path: Path
    said: str
    classifier: str


class CheckPages:
    """The routes of the page.

    Args:
        networks: the classifiers.
        line: where checks wait.
        alarms: files of alarms from the command line.

    Raises:
        UnderfireError: a file is no alarm.
    """

    def __init__(self, networks: Networks, line: Queue, alarms: Sequence[Path]) -> None:
        self.networks, self.line = networks, line
        self.alarms: dict[str, Known] = {}
        for path in alarms:
            self._know(path, path.name, own=True)
        self._own = tempfile.TemporaryDirectory(prefix="underfire-")

    def _know(self, path: Path, name: str, own: bool) -> str:
        """Read an alarm's file, and return what the page calls it.

        Raises:
            UnderfireError: it is no alarm, or it was given on the page and names files: those would be read here.
        """
        from underfire.defenses import calibration

        known = calibration.read(path)
        if known.files and not own:
            raise UnsuitableError(
                f"'{name}' names a file of its own machine ({', '.join(known.files)}), and the page reads none that an "
                "upload names: start the app with --defense FILE."
            )
        key = f"{len(self.alarms) + 1} {name}"
        self.alarms[key] = Known(path, f"{name}: {', '.join(known.names)} on {known.classifier}", known.classifier)
        return key

    def close(self) -> None:
        """Delete the alarms that were given on the page."""
        self._own.cleanup()

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route("/check", told(self.form)),
            Route("/check", told(self.check), methods=["POST"]),
            Route("/alarms", told(self.give), methods=["POST"]),
        ]

    async def form(self, request: Request) -> Response:
        """Show the page."""
        return page(request, "check.html.j2", alarms=self.alarms)

    async def give(self, request: Request) -> Response:
        """Take the file of an alarm."""
        name = clean_name(request.query_params.get("name", "alarm.json"))
        if len(self.alarms) >= MOST_ALARMS:
            raise UnderfireError(f"{MOST_ALARMS} alarms are here already: start the app again.")
        path = Path(tempfile.mkdtemp(dir=self._own.name)) / "alarm.json"
        async with sent(request, LARGEST_ALARM, f"'{name}' is too large for the file of an alarm.") as content:
            path.write_bytes(content)
        try:
            key = await run_in_threadpool(self._know, path, name, False)
        except UnderfireError as e:
            path.unlink()
            raise UnderfireError(str(e).replace(str(path), name)) from e
        return JSONResponse({"alarm": key, "said": self.alarms[key].said})

    async def check(self, request: Request) -> Response:
        """Check a file: it is the body; its name and the alarm are in the address."""
        name = clean_name(request.query_params.get("name", "photo"))
        key = request.query_params.get("alarm", "")
        if key not in self.alarms:
            raise NotFoundError("Choose an alarm first.")
        async with sent(request, LIMITS.bytes, too_large(name)) as content:
            task = Checking(Given("", name, content, b""), self.alarms[key].path, self.networks)
            self.line.put(task)
            answer = await run_in_threadpool(task.wait)
        return HTMLResponse(self._answered(answer, name, key))

    def _answered(self, answer: Answer, name: str, key: str) -> str:
        words = [
            "underfire",
            "check",
            name,
            "--defense",
            key.partition(" ")[2],
            *as_flags(vars(self.networks.options_of(self.alarms[key].classifier))),
        ]
        command = shlex.join(words)
        return fill("checked.html.j2", answer=answer, v=answer.verdict, name=name, command=command)
