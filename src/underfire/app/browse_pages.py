"""The pages that browse an audit: its table, and each photo with all its attacks."""

from __future__ import annotations

import mimetypes
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from underfire.app.browse import OUTCOMES, Query, Shelf
from underfire.app.pages import page, told
from underfire.core import NotFoundError, UnderfireError
from underfire.core.place import Place, below
from underfire.images.overlay import difference, overlay, uri
from underfire.report.gallery import read_map, read_seen

SIDE = 320
"""Longest side of a picture, px."""
MOST = 40
"""Attacks that the page of a photo shows with pictures."""
_NAME = re.compile(r"images/[^/\0]+/[^/\0]+\.(png|jpg|webp)")
COLUMNS = (
    ("image", "photo"),
    ("attack", "attack"),
    ("interpreter", "seen by"),
    ("", "from → to"),
    ("", "outcome"),
    ("confidence", "confidence"),
    ("map_l1", "L1"),
    ("map_iou", "IoU"),
    ("map_rank", "rank"),
    ("linf_levels", "levels"),
    ("passes", "passes"),
    ("seconds", "seconds"),
)
"""Column to sort by -> its heading."""


@dataclass(frozen=True)
class Attacked:
    """One attack on a photo with its pictures; None for a file that is gone."""

    row: dict[str, Any]
    photo: str | None
    overlay: str | None
    change: str | None
    factor: int


class BrowsePages:
    """The routes of the pages.

    Args:
        audit: the folder; None without one.

    Raises:
        UnderfireError: it is no folder of an audit.
    """

    def __init__(self, audit: Place | None) -> None:
        self.shelf = None if audit is None else Shelf(audit)

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route("/browse", told(self.table)),
            Route("/browse/photo", told(self.photo)),
            Route("/browse/state", told(self.state)),
            Route("/browse/file/{name:path}", told(self.file)),
        ]

    @property
    def _shelf(self) -> Shelf:
        if self.shelf is None:
            raise NotFoundError("There is no audit to browse: start the app with one, such as underfire app AUDIT.")
        return self.shelf

    async def table(self, request: Request) -> Response:
        """Show the table."""
        if self.shelf is None:
            return page(request, "no-audit.html.j2")
        query = Query.parse(request.query_params)
        part = await run_in_threadpool(self._shelf.page, query)
        names = {column: self._shelf.distinct(column) for column in ("attack", "interpreter")}
        state = await run_in_threadpool(self._state)
        data: dict[str, Any] = {"part": part, "names": names, "outcomes": OUTCOMES, "columns": COLUMNS, "state": state}
        return page(request, "browse.html.j2", query=query, photo=_photo_address, **data)

    async def state(self, request: Request) -> Response:
        """Say how far the audit is."""
        return JSONResponse(await run_in_threadpool(self._state))

    def _state(self) -> dict[str, Any]:
        rows = len(self._shelf.table())
        return {"rows": rows, "units": self._shelf.units, "planned": self._shelf.planned}

    async def photo(self, request: Request) -> Response:
        """Show a photo with all its attacks."""
        image = request.query_params.get("image", "")
        rows = await run_in_threadpool(self._shelf.photo, image)
        if not rows:
            raise NotFoundError(f"This audit has no photo '{image}'.")
        shown = await run_in_threadpool(self._pictures, rows)
        return page(
            request, "photo.html.j2", image=image, more=len(rows) - len(shown[2]), parts=shown, file=_file_address
        )

    def _pictures(self, rows: list[dict[str, Any]]) -> tuple[str | None, dict[str, str | None], list[Attacked]]:
        """Draw the clean photo, its map under each interpreter, and each attack."""
        out = self._shelf.out
        good = [row for row in rows if row["clean"] is not None]
        before = read_seen(out, good[0], "clean") if good else None
        maps: dict[str, str | None] = {}
        for row in good:
            if row["interpreter"] not in maps:
                maps[row["interpreter"]] = overlay(before, read_map(out, row["clean_map"]))
        return uri(before, 88, SIDE), maps, [self._attacked(row) for row in rows[:MOST]]

    def _attacked(self, row: dict[str, Any]) -> Attacked:
        out = self._shelf.out
        if row["adversarial"] is None:
            return Attacked(row, None, None, None, 1)
        clean, after = read_seen(out, row, "clean"), read_seen(out, row, "adversarial")
        change, factor = (None, 1) if clean is None or after is None else difference(clean, after)
        return Attacked(
            row, uri(after, 88, SIDE), overlay(after, read_map(out, row["adversarial_map"])), change, factor
        )

    async def file(self, request: Request) -> Response:
        """Give a picture of the audit as it lies in its folder."""
        name = request.path_params["name"]
        where = below(self._shelf.out, name) if _NAME.fullmatch(name) else None
        if where is None:
            raise NotFoundError(f"This audit has no picture '{name}'.")
        try:
            content = await run_in_threadpool(where.read_bytes)
        except OSError as e:
            raise UnderfireError(f"Cannot read '{name}' ({e.strerror or e}).") from e
        return Response(content, media_type=mimetypes.guess_type(name)[0])


def _photo_address(image: str) -> str:
    return f"/browse/photo?image={quote(image, safe='')}"


def _file_address(name: str) -> str:
    return f"/browse/file/{quote(name)}"
