"""What a browser sends, read in bounds: so much at a time from one request, and so much from all of them together."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from starlette.requests import Request

from underfire.core import BusyError, UnderfireError

TOGETHER = 200_000_000
"""Bytes of all requests that are being worked on: of photos as large as they may be, five."""
AT_ONCE = 32
"""Requests with something to read that are being worked on: fewer than there are threads to answer others with."""


BUSY = "Too many files are being sent at once: wait until some are done, and send this one again."


class TooLargeError(UnderfireError):
    """More bytes than a page may send."""


@dataclass
class Hold:
    """What is held of all requests together; the event loop alone counts here, so it needs no lock."""

    bytes: int = 0
    requests: int = 0

    def take(self, more: int) -> None:
        """Make room for so many bytes.

        Raises:
            BusyError: others hold too much.
        """
        if self.bytes + more > TOGETHER:
            raise BusyError(BUSY)
        self.bytes += more

    def enter(self) -> None:
        """Count a request that has come.

        Raises:
            BusyError: there are too many.
        """
        if self.requests >= AT_ONCE:
            raise BusyError(BUSY)
        self.requests += 1


@contextlib.asynccontextmanager
async def sent(request: Request, most: int, why: str) -> AsyncIterator[bytes]:
    """Read what a browser sends, and count it as held until the ``with`` block ends.

    Args:
        request: with a body.
        most: bytes that it may have.
        why: what is said where there are more.

    Raises:
        TooLargeError: it has more.
        BusyError: others are sending too much already.
    """
    hold: Hold = request.app.state.hold
    own = 0
    hold.enter()
    try:
        said = request.headers.get("content-length", "")
        if said.isdigit() and int(said) > most:
            raise TooLargeError(why)
        content = bytearray()
        async for part in request.stream():
            if len(content) + len(part) > most:
                raise TooLargeError(why)
            hold.take(len(part))
            own += len(part)
            content += part
        whole = bytes(content)
        del content  # or it would be held twice
        yield whole
    finally:
        hold.bytes -= own
        hold.requests -= 1
