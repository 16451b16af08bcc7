"""A small hub on the loopback: as much of the Hugging Face hub's protocol as fetching files needs."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

COMMIT = "1" * 40


class Hub:
    """Repositories of files; what it was asked for; and what it does wrong.

    Args:
        repos: 'owner/name' -> file -> content.
    """

    def __init__(self, repos: dict[str, dict[str, bytes]]) -> None:
        self.repos = repos
        self.asked: list[tuple[str, str]] = []
        self.cut = 0
        """Bytes that every download lacks at its end."""
        self.swap: bytes | None = None
        """What is sent in place of a large file, under its digest."""

    def digest(self, name: str, content: bytes) -> str:
        """SHA-256 of large files, git's SHA-1 of small ones, as the hub has them."""
        if name.endswith((".safetensors", ".bin")):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self, body: bool) -> None:
            path = self.path.partition("?")[0].strip("/").split("/")
            hub.asked.append((self.command, self.path))
            files = hub.repos.get("/".join(path[:2]), {}) if len(path) > 4 and path[2] == "resolve" else {}
            name = "/".join(path[4:])
            if name not in files:
                self.send_response(404)
                known = "/".join(path[:2]) in hub.repos
                self.send_header("X-Error-Code", "EntryNotFound" if known else "RepoNotFound")
                self.send_header("X-Repo-Commit", COMMIT)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            content = files[name]
            large = name.endswith(".safetensors")
            sent = hub.swap if large and hub.swap is not None else content
            self.send_response(200)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", f'"{hub.digest(name, content)}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if body:
                self.wfile.write(sent[: len(sent) - hub.cut] if large else sent)
                self.close_connection = bool(large and hub.cut)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def do_GET(self) -> None:
            self._answer(body=True)

        def log_message(self, *_args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """Serve a hub for the time of a `with` block; the value is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def point(monkeypatch: pytest.MonkeyPatch, address: str, cache: str) -> None:
    """Point the hub's client at an address, as HF_ENDPOINT and HF_HOME do when it is imported."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", cache)
    monkeypatch.setattr(constants, "HF_HUB_ETAG_TIMEOUT", 3)
