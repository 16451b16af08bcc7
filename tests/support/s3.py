"""A real S3 server on this machine (moto's, over HTTP), which can be told to be out of order for some requests.

Run as a script it serves; `server()` starts that in a process of its own.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from typing import Any
from unittest import mock

BUCKET = "audits"
KEYS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}


class Moody:
    """A WSGI application before another: PUT /moody/N makes the next N requests fail with 503."""

    def __init__(self, app: Any) -> None:
        self.app, self.bad = app, 0

    def __call__(self, environ: Any, start: Any) -> Any:
        path: str = environ["PATH_INFO"]
        if path.startswith("/moody/"):
            self.bad = int(path.removeprefix("/moody/"))
            start("200 OK", [])
            return [b""]
        if self.bad > 0:
            self.bad -= 1
            start("503 Service Unavailable", [("Content-Type", "text/plain")])
            return [b"out of order"]
        return self.app(environ, start)


def serve() -> None:
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    made = make_server("127.0.0.1", 0, Moody(DomainDispatcherApplication(create_backend_app)), threaded=True)
    print(made.server_port, flush=True)
    made.serve_forever()


@contextlib.contextmanager
def server() -> Iterator[str]:
    """The server's address; inside, the environment says so to every S3 library."""
    command = [sys.executable, __file__]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        address = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with mock.patch.dict(os.environ, {**KEYS, "AWS_ENDPOINT_URL": address}):
            import s3fs

            s3fs.S3FileSystem().mkdir(BUCKET)
            yield address
            s3fs.S3FileSystem.clear_instance_cache()
        process.kill()


def out_of_order(address: str, requests: int) -> None:
    """The server's next requests fail."""
    with urllib.request.urlopen(f"{address}/moody/{requests}", timeout=10):
        pass


if __name__ == "__main__":
    serve()
