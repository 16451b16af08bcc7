"""What all pages share: the templates, the answers to mistakes, and the reading of a form."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from underfire.app.uploads import TooLargeError, sent
from underfire.core import BusyError, NotFoundError, UnderfireError
from underfire.report.html import environment

HERE = Path(__file__).parent
Answer = Callable[[Request], Awaitable[Response]]


def fill(template: str, **data: Any) -> str:
    """Fill a template."""
    return environment(HERE / "templates").get_template(template).render(**data)


def page(request: Request, template: str, status: int = 200, **data: Any) -> HTMLResponse:
    """Answer with a page."""
    audit = request.app.state.audit
    return HTMLResponse(fill(template, here=request.url.path, audit=audit, **data), status)


def told(answer: Answer) -> Answer:
    """Turn a mistake into a sentence: as JSON for a script, as a page for a person (a decorator)."""

    @wraps(answer)
    async def filled(request: Request) -> Response:
        try:
            return await answer(request)
        except UnderfireError as e:
            status = status_of(e)
            if request.headers.get("sec-fetch-mode") == "navigate":
                return page(request, "mistake.html.j2", status, said=str(e))
            return JSONResponse({"error": str(e)}, status)

    return filled


def status_of(e: UnderfireError) -> int:
    """Choose the status of a mistake."""
    kinds = ((TooLargeError, 413), (NotFoundError, 404), (BusyError, 503))
    return next((status for kind, status in kinds if isinstance(e, kind)), 400)


async def fields(request: Request) -> Any:
    """Read a small JSON form.

    Raises:
        UnderfireError: it is none.
    """
    import json

    async with sent(request, 64_000, "This form is too large.") as content:
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as e:
            raise UnderfireError("The page sent no form: load it again.") from e
