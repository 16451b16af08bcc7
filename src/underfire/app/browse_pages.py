"""The pages that browse: the audits of a study, the table of an audit, and each photo with all its attacks."""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from underfire.app.browse import OUTCOMES, Query, Shelf
from underfire.app.pages import page, told
from underfire.app.shelves import ListedAudit, Shelves
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
        audit: the folder of an audit or of a study; None without one.

    Raises:
        UnderfireError: it is neither.
    """

    def __init__(self, audit: Place | None) -> None:
        self.shelves = None if audit is None else Shelves(audit)

    def routes(self) -> list[Route]:
        """List the routes."""
        return [
            Route("/browse", told(self.browse)),
            Route("/browse/photo", told(self.photo)),
            Route("/browse/state", told(self.state)),
            Route("/browse/file/{name:path}", told(self.file)),
        ]

    def warm(self) -> None:
        """Read what there is, so that the first page need not; raises UnderfireError where that fails."""
        if self.shelves is not None:
            self.shelves.audits() if self.shelves.is_study else self.shelves.shelf("").table()

    @property
    def _shelves(self) -> Shelves:
        if self.shelves is None:
            raise NotFoundError("There is no audit to browse: start the app with one, such as underfire app AUDIT.")
        return self.shelves

    async def _shelf(self, request: Request) -> Shelf:
        return await run_in_threadpool(self._shelves.shelf, request.query_params.get("audit", ""))

    async def browse(self, request: Request) -> Response:
        """Show the table of an audit, or the audits of a study."""
        if self.shelves is None:
            return page(request, "no-audit.html.j2")
        query = Query.parse(request.query_params)
        if self.shelves.is_study and not query.audit:
            audits = await run_in_threadpool(self.shelves.audits)
            return page(request, "study.html.j2", audits=audits, state=_state_of(audits), address=_audit_address)
        shelf = await self._shelf(request)
        data = await run_in_threadpool(_table, shelf, query)
        return page(request, "browse.html.j2", query=query, study=self.shelves.is_study, photo=_photo_address, **data)

    async def state(self, request: Request) -> Response:
        """Say how far the audit or the study is."""
        if self._shelves.is_study and not request.query_params.get("audit"):
            return JSONResponse(_state_of(await run_in_threadpool(self._shelves.audits)))
        shelf = await self._shelf(request)
        return JSONResponse(await run_in_threadpool(shelf.state))

    async def photo(self, request: Request) -> Response:
        """Show a photo with all its attacks."""
        image, audit = request.query_params.get("image", ""), request.query_params.get("audit", "")
        shelf = await self._shelf(request)
        rows = await run_in_threadpool(shelf.photo, image)
        if not rows:
            raise NotFoundError(f"This audit has no photo '{image}'.")
        shown = await run_in_threadpool(_pictures, shelf.out, rows)
        data: dict[str, Any] = {"image": image, "query": Query(audit), "more": len(rows) - len(shown[2])}
        return page(request, "photo.html.j2", parts=shown, file=_file_address, **data)

    async def file(self, request: Request) -> Response:
        """Give a picture of the audit as it lies in its folder."""
        name = request.path_params["name"]
        shelf = await self._shelf(request)
        where = below(shelf.out, name) if _NAME.fullmatch(name) else None
        if where is None:
            raise NotFoundError(f"This audit has no picture '{name}'.")
        try:
            content = await run_in_threadpool(where.read_bytes)
        except OSError as e:
            raise UnderfireError(f"Cannot read '{name}' ({e.strerror or e}).") from e
        return Response(content, media_type=mimetypes.guess_type(name)[0])


def _table(shelf: Shelf, query: Query) -> dict[str, Any]:
    """Find what the page of the table shows; all of it reads files, or many rows."""
    part = shelf.page(query)
    names = {column: shelf.distinct(column) for column in ("attack", "interpreter")}
    return {"part": part, "names": names, "outcomes": OUTCOMES, "columns": COLUMNS, "state": shelf.state()}


def _state_of(audits: Sequence[ListedAudit]) -> dict[str, int]:
    """Say how far a study is: its judgements, and its audits that are finished."""
    over = sum(one.over for one in audits)
    return {"rows": sum(one.rows for one in audits), "units": over, "planned": len(audits)}


def _pictures(out: Place, rows: list[dict[str, Any]]) -> tuple[str | None, dict[str, str | None], list[Attacked]]:
    """Draw the clean photo, its map under each interpreter, and each attack."""
    good = [row for row in rows if row["clean"] is not None]
    before = read_seen(out, good[0], "clean") if good else None
    maps: dict[str, str | None] = {}
    for row in good:
        if row["interpreter"] not in maps:
            maps[row["interpreter"]] = overlay(before, read_map(out, row["clean_map"]))
    return uri(before, 88, SIDE), maps, [_attacked(out, row) for row in rows[:MOST]]


def _attacked(out: Place, row: dict[str, Any]) -> Attacked:
    if row["adversarial"] is None:
        return Attacked(row, None, None, None, 1)
    clean, after = read_seen(out, row, "clean"), read_seen(out, row, "adversarial")
    change, factor = (None, 1) if clean is None or after is None else difference(clean, after)
    return Attacked(row, uri(after, 88, SIDE), overlay(after, read_map(out, row["adversarial_map"])), change, factor)


def _audit_address(folder: str) -> str:
    return f"/browse?{urlencode({'audit': folder})}"


def _photo_address(image: str, query: Query) -> str:
    return f"/browse/photo?{urlencode({**_of(query), 'image': image})}"


def _file_address(name: str, query: Query) -> str:
    of = urlencode(_of(query))
    return f"/browse/file/{quote(name)}" + (f"?{of}" if of else "")


def _of(query: Query) -> dict[str, str]:
    return {"audit": query.audit} if query.audit else {}
