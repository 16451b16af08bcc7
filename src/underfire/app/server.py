"""The server: all pages behind the guard, on this machine alone."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles

from underfire.app.browse_pages import BrowsePages
from underfire.app.check_pages import CheckPages
from underfire.app.forge_pages import ForgePages
from underfire.app.guard import Guard
from underfire.app.line import GRACE, Queue
from underfire.app.networks import Networks
from underfire.app.pages import HERE
from underfire.app.uploads import Hold
from underfire.core import BusyError, ClassifierOptions, UnderfireError
from underfire.core.place import Place

ADDRESS = "127.0.0.1"
PORTS = range(8765, 8785)
"""Ports that are tried where none is given."""


@dataclass(frozen=True)
class Choice:
    """What the command line says of the app.

    Args:
        audit: folder of an audit or a study to browse; None without one.
        classifier: name of the classifier that the page offers first.
        options: its weights and sizes.
        device: where it computes.
        alarms: files of alarms.
        threads: CPU threads; None: as many as there are cores.
    """

    audit: Place | None = None
    classifier: str = "efficientnet-lite0"
    options: ClassifierOptions = field(default_factory=ClassifierOptions)
    device: str = "auto"
    alarms: tuple[Path, ...] = ()
    threads: int | None = None


def application(choice: Choice, port: int | None) -> Starlette:
    """Put the pages together.

    Args:
        choice: what the command line says.
        port: the port that it will listen on; None for any.

    Raises:
        UnderfireError: the folder is neither audit nor study, or a file no alarm.
    """
    networks, line = Networks(choice.classifier, choice.options, choice.device), Queue()
    forge = ForgePages(networks, line)
    check = CheckPages(networks, line, choice.alarms)
    browse = BrowsePages(choice.audit)

    @contextlib.asynccontextmanager
    async def life(app: Starlette) -> AsyncIterator[None]:
        line.start()
        warm = Thread(target=_warm, args=(networks, browse, choice.threads), daemon=True)
        warm.start()
        yield
        forge.close()
        line.close()
        check.close()
        warm.join(GRACE)

    static = Mount("/static", StaticFiles(directory=HERE / "static"))
    made = Starlette(
        routes=[*forge.routes(), *check.routes(), *browse.routes(), static],
        middleware=[Middleware(Guard, port=port)],
        lifespan=life,
    )
    made.state.audit = choice.audit
    made.state.hold = Hold()
    made.state.forgeries = forge.forgeries
    return made


def _warm(networks: Networks, browse: BrowsePages, threads: int | None) -> None:
    """Read the audit, and load torch and the first classifier, while somebody looks for a photo."""
    from underfire.executors.process import prepare

    prepare(threads or os.cpu_count() or 1)
    with contextlib.suppress(UnderfireError):  # the pages tell it when they are asked for it
        browse.warm()
    with contextlib.suppress(UnderfireError):
        networks.fits(networks.own)


def serve(choice: Choice, port: int | None, ready: Callable[[str], None]) -> None:
    """Serve the pages until Ctrl-C.

    Args:
        choice: what the command line says.
        port: where to listen; None: the first free one of `PORTS`.
        ready: is told the address.

    Raises:
        UnderfireError: the port is taken, the folder is neither audit nor study, or a file no alarm.
    """
    listening = _listening(port)
    chosen = int(listening.getsockname()[1])
    app = application(choice, chosen)
    config = uvicorn.Config(app, log_level="critical", access_log=False, timeout_graceful_shutdown=1)
    ready(f"http://{ADDRESS}:{chosen}/")
    uvicorn.Server(config).run(sockets=[listening])


def _listening(port: int | None) -> socket.socket:
    """Open the first free port.

    Raises:
        BusyError: there is none.
        UnderfireError: the system does not let this user have the port.
    """
    for one in PORTS if port is None else (port,):
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((ADDRESS, one))
            made.listen(64)
        except PermissionError as e:
            made.close()
            raise UnderfireError(f"--port {one} needs more rights than you have: give one from 1024 on.") from e
        except OSError:
            made.close()
            continue
        return made
    what = f"Port {port} is" if port is not None else f"Ports {PORTS[0]} to {PORTS[-1]} are"
    raise BusyError(f"{what} taken: give another one with --port.")
