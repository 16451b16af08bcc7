"""The guard before every page: only this machine's own browser, and only from the app's own pages.

A page of somebody else's can make a browser send requests to 127.0.0.1, and a name of somebody else's can be made to
mean 127.0.0.1 (DNS rebinding). So the name in the request must be one of this machine's, and what changes anything must
come from a page of the app.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAMES = ("127.0.0.1", "localhost", "[::1]")
"""Names by which a browser on this machine calls it."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""What a page may load: the app's own files, and nothing from anywhere else."""
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(self), microphone=(), geolocation=()",
    "cache-control": "no-store",
}
SAFE = ("GET", "HEAD")
"""Methods that change nothing."""


class Guard:
    """ASGI middleware that refuses strangers, and says in each answer what its page may do.

    Args:
        app: what is guarded.
        port: the port that it listens on; None for any, in tests.
    """

    def __init__(self, app: ASGIApp, port: int | None) -> None:
        self.app = app
        usual = NAMES if port == 80 else ()  # browsers leave http's own port out
        self.hosts = None if port is None else {*usual, *(f"{name}:{port}" for name in NAMES)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        why = self.refusal(scope["method"], Headers(scope=scope))

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self.app if why is None else PlainTextResponse(why, 403)
        await answer(scope, receive, sent)

    def refusal(self, method: str, headers: Headers) -> str | None:
        """Tell why a request is refused; None where it is not."""
        host = headers.get("host", "")
        if host not in (self.hosts or {host}) or (self.hosts is None and _name(host) not in NAMES):
            return f"'{host}' is not this machine: open the address that underfire app printed."
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return "This request comes from a page of another site."
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_visit(method, headers):
            return "This request comes from a page of another site."
        if method not in SAFE and origin is None:
            return "This request does not say which page it comes from."
        return None


def _is_visit(method: str, headers: Headers) -> bool:
    """Tell whether somebody follows a link to a page of the app, which shows it to him alone."""
    return (
        method in SAFE and headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
    )


def _name(host: str) -> str:
    return host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
