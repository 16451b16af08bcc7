"""What all pages share: the templates, the answers to mistakes, and the bounded reading of what a browser sends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache, wraps
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from underfire.core import BusyError, NotFoundError, UnderfireError
from underfire.report.text import count, first_name, number, percent, pretty

HERE = Path(__file__).parent
Answer = Callable[[Request], Awaitable[Response]]


class TooLargeError(UnderfireError):
    """More bytes than a page may send."""


@cache
def _environment() -> Environment:
    loader = FileSystemLoader(HERE / "templates")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters |= {"percent": percent, "number": number, "pretty": pretty, "count": count, "first": _first}
    return made


def _first(name: str | None) -> str:
    return first_name(name or "–")


def fill(template: str, **data: Any) -> str:
    """Fill a template."""
    return _environment().get_template(template).render(**data)


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


async def body(request: Request, most: int, why: str) -> bytes:
    """Read what a browser sends, and no more than ``most`` bytes of it.

    Raises:
        TooLargeError: there is more; ``why`` says so.
    """
    said = request.headers.get("content-length", "")
    if said.isdigit() and int(said) > most:
        raise TooLargeError(why)
    content = bytearray()
    async for part in request.stream():
        content += part
        if len(content) > most:
            raise TooLargeError(why)
    return bytes(content)


async def fields(request: Request) -> Any:
    """Read a small JSON form.

    Raises:
        UnderfireError: it is none.
    """
    import json

    content = await body(request, 64_000, "This form is too large.")
    try:
        return json.loads(content)
    except (ValueError, RecursionError) as e:
        raise UnderfireError("The page sent no form: load it again.") from e
