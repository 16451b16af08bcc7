"""What browsers send: so much from one request, so much from all together, and a port that one may not have."""

from __future__ import annotations

import asyncio
import socket
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.testclient import TestClient

from underfire.app import uploads
from underfire.app.forge_pages import ForgePages
from underfire.app.line import Queue
from underfire.app.networks import Networks
from underfire.app.server import _listening
from underfire.app.uploads import Hold, TooLargeError, sent
from underfire.core import BusyError, ClassifierOptions, UnderfireError


class State:
    def __init__(self, hold: Hold) -> None:
        self.state = self
        self.hold = hold


def request(hold: Hold, *parts: bytes) -> Request:
    left = list(parts)

    async def receive() -> Any:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return Request({"type": "http", "method": "POST", "headers": [], "app": State(hold)}, receive)


def test_what_all_hold_together_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "TOGETHER", 10)
    hold = Hold()

    async def story() -> None:
        async with sent(request(hold, b"abc", b"defg"), 8, "too large") as first:
            assert (first, hold.bytes, hold.requests) == (b"abcdefg", 7, 1)
            with pytest.raises(BusyError, match="at once"):
                async with sent(request(hold, b"ab", b"cd"), 8, "too large"):
                    pass
            assert (hold.bytes, hold.requests) == (7, 1)
        with pytest.raises(TooLargeError, match="too large"):
            async with sent(request(hold, b"abcd", b"efghi"), 8, "too large"):
                pass
        assert hold == Hold()
        async with sent(request(hold, b"ab", b"cd"), 8, "too large") as again:
            assert again == b"abcd"

    with ThreadPoolExecutor(1) as apart:  # the browser's tests leave a loop behind in this thread
        apart.submit(asyncio.run, story()).result()


def test_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE", 0)
    app = Starlette(routes=ForgePages(Networks("net", ClassifierOptions(), "cpu"), Queue()).routes())
    app.state.hold = Hold()
    answer = TestClient(app).post("/photos?name=a.png", content=b"x")
    assert (answer.status_code, "at once" in answer.json()["error"]) == (503, True)


def test_one_too_many_does_not_disturb_those_that_are_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "AT_ONCE", 1)
    hold = Hold(requests=1)
    with pytest.raises(BusyError, match="at once"):
        hold.enter()
    hold.take(5)
    assert (hold.bytes, hold.requests) == (5, 1)


def test_a_port_that_needs_rights_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: socket.socket, address: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UnderfireError, match=r"--port 80 needs more rights than you have: give one from 1024 on\."):
        _listening(80)
