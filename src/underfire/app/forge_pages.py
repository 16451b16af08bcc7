"""The page that forges: photos come in, a forgery is started, watched, stopped and taken home."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from underfire.app.album import LIMITS, Album, clean_name, too_large
from underfire.app.forgery import Forgery
from underfire.app.form import ATTACKS, FORMATS, PRESETS, Form
from underfire.app.line import Queue
from underfire.app.networks import Networks
from underfire.app.pages import fields, fill, page, told
from underfire.app.uploads import sent
from underfire.core import NotFoundError
from underfire.images.photos import DEMO_PHOTOS
from underfire.report.text import pretty

if TYPE_CHECKING:
    from underfire.app.outcome import Forging

KEPT = 20
"""Forgeries that are kept; the oldest that is over goes when another one comes."""
PACE = 0.1
"""Seconds from one look at a forgery to the next, for its page."""
HEARTBEAT = 15.0
"""Seconds without anything new after which the stream sends a sign of life."""
TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


class ForgePages:
    """The routes of the page.

    Args:
        networks: the classifiers.
        line: where forgeries wait.
    """

    def __init__(self, networks: Networks, line: Queue) -> None:
        self.networks, self.line = networks, line
        self.album = Album()
        self.forgeries: dict[str, Forgery] = {}

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route("/", told(self.form)),
            Route("/forge/{key}", told(self.form)),
            Route("/photos", told(self.give), methods=["POST"]),
            Route("/photos/demo/{name}", told(self.demo), methods=["POST"]),
            Route("/photos/demo/{name}", told(self.demo_picture)),
            Route("/photos/{key}", told(self.photo)),
            Route("/classifier", told(self.classifier)),
            Route("/forge", told(self.forge), methods=["POST"]),
            Route("/forge/{key}/events", told(self.events)),
            Route("/forge/{key}/stop", told(self.stop), methods=["POST"]),
            Route("/forge/{key}/outcome", told(self.outcome)),
            Route("/forge/{key}/file", told(self.file)),
            Route("/forge/{key}/picture/{name}", told(self.picture)),
        ]

    def close(self) -> None:
        """Give up all searches: the app ends."""
        for forgery in self.forgeries.values():
            forgery.leave()

    # -- photos

    async def give(self, request: Request) -> Response:
        """Take a photo: its file is the body, its name is in the address."""
        name = clean_name(request.query_params.get("name", "photo"))
        async with sent(request, LIMITS.bytes, too_large(name)) as content:
            given = await run_in_threadpool(self.album.add, name, content)
        return JSONResponse({"photo": given.key, "name": given.name})

    async def demo(self, request: Request) -> Response:
        """Take a demo photo."""
        given = await run_in_threadpool(self.album.demo, request.path_params["name"])
        return JSONResponse({"photo": given.key, "name": given.name})

    async def demo_picture(self, request: Request) -> Response:
        """Show a demo photo."""
        given = await run_in_threadpool(Album().demo, request.path_params["name"])
        return Response(given.small, media_type="image/jpeg")

    async def photo(self, request: Request) -> Response:
        """Show a photo that was given."""
        return Response(self.album[request.path_params["key"]].small, media_type="image/jpeg")

    # -- the form

    async def form(self, request: Request) -> Response:
        """Show the page; of a forgery, with what has come of it so far."""
        key = request.path_params.get("key")
        forgery = None if key is None else self._found(key)
        choices: dict[str, Any] = {"attacks": ATTACKS, "presets": PRESETS, "formats": FORMATS, "demos": DEMO_PHOTOS}
        return page(request, "forge.html.j2", forgery=forgery, networks=self.networks, **choices)

    async def classifier(self, request: Request) -> Response:
        """Say what a classifier knows, and which explanations fit it."""
        name = request.query_params.get("name", self.networks.own)
        fits = await run_in_threadpool(self.networks.fits, name)
        known = await run_in_threadpool(self.networks.classes, name)
        shown = [
            {
                "name": f.name,
                "label": pretty(f.name),
                "said": f.said,
                "problem": f.problem,
                "dear": f.dear,
                "attacked": f.attacked,
            }
            for f in fits
        ]
        return JSONResponse({"classes": list(known.values()), "interpreters": shown})

    # -- a forgery

    async def forge(self, request: Request) -> Response:
        """Start a forgery."""
        wish = Form.parse(await fields(request))
        forgery = Forgery(wish, self.album[wish.photo], self.networks)
        self.line.put(forgery)
        self._keep(forgery)
        return JSONResponse({"forgery": forgery.key})

    def _keep(self, forgery: Forgery) -> None:
        self.forgeries[forgery.key] = forgery
        over = [key for key, one in self.forgeries.items() if one.over]
        for key in over[: max(0, len(self.forgeries) - KEPT)]:
            del self.forgeries[key]

    def _found(self, key: str) -> Forgery:
        if key not in self.forgeries:
            raise NotFoundError("This forgery is not here any more: the app forgets all of them when it ends.")
        return self.forgeries[key]

    async def events(self, request: Request) -> Response:
        """Tell a page how its forgery goes on, as server-sent events."""
        stream = self._told(self._found(request.path_params["key"]))
        return StreamingResponse(stream, media_type="text/event-stream")

    async def _told(self, forgery: Forgery) -> AsyncIterator[str]:
        last: tuple[int, int] | None = None
        silent = 0.0
        forgery.listen(1)
        try:
            while True:
                now = (forgery.version, self.line.ahead(forgery))
                if now != last or silent >= HEARTBEAT:
                    last, silent = now, 0.0
                    yield f"data: {json.dumps(forgery.told(now[1]))}\n\n"
                if forgery.over:
                    return
                await asyncio.sleep(PACE)
                silent += PACE
        finally:
            forgery.listen(-1)

    async def stop(self, request: Request) -> Response:
        """End a search with what it has."""
        self._found(request.path_params["key"]).stop()
        return JSONResponse({})

    def _made(self, request: Request) -> Forging:
        forgery = self._found(request.path_params["key"])
        if forgery.outcome is None:
            raise NotFoundError("Nothing has come of this forgery yet.")
        return forgery.outcome

    async def outcome(self, request: Request) -> Response:
        """Show what came of it, as a part of the page."""
        made, forgery = self._made(request), self._found(request.path_params["key"])
        return HTMLResponse(await run_in_threadpool(self._outcome, made, forgery))

    def _outcome(self, made: Forging, forgery: Forgery) -> str:
        from underfire.app import numbers, recipe

        options = self.networks.options_of(forgery.wish.classifier)
        same = (forgery.wish, forgery.given.name, made.record.target_class or 0, options)
        return fill(
            "outcome.html.j2",
            forgery=forgery,
            made=made,
            numbers=list(numbers.numbers(made)),
            verdict=numbers.verdict_of(made),
            python=recipe.python(*same),
            command=recipe.command(*same),
        )

    async def file(self, request: Request) -> Response:
        """Give the forged file."""
        made, forgery = self._made(request), self._found(request.path_params["key"])
        stem = forgery.given.name.rpartition(".")[0] or forgery.given.name
        name = quote(f"{stem}-forged{made.suffix}")
        headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}"}
        return Response(made.file, media_type=TYPES[made.suffix], headers=headers)

    async def picture(self, request: Request) -> Response:
        """Give one of the pictures of before and after."""
        made, name = self._made(request), request.path_params["name"]
        pictures = dict(made.pictures)
        for one in made.onlookers:
            pictures |= {f"{one.name}-before": one.before, f"{one.name}-after": one.after}
        if not pictures.get(name):
            raise NotFoundError(f"There is no picture '{name}'.")
        return Response(pictures[name], media_type="image/jpeg")
