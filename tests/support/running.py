"""An app that runs in this process, and a request to it as it is."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from underfire.app.forgery import Forgery


@dataclass
class Running:
    """An app that runs in this process, and where."""

    address: str
    forgeries: dict[str, Forgery]
    audit: Path


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


def asked(
    running: Running,
    path: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
) -> Answered:
    """Send a request as it is."""
    connection = http.client.HTTPConnection(running.address.partition("://")[2], timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, headers or {})
        with connection.getresponse() as answer:
            return Answered(answer.status, dict(answer.headers), answer.read().decode("utf-8", "replace"))
