"""The guard: only this machine's browser, only from the app's own pages, and bounded."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from app.conftest import Running


@dataclass
class Answered:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    text: str


def asked(running: Running, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answered:
    """Send a request as it is."""
    connection = http.client.HTTPConnection(running.address.partition("://")[2], timeout=20)
    with contextlib.closing(connection):
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        with connection.getresponse() as answer:
            return Answered(answer.status, answer.headers, answer.read().decode("utf-8", "replace"))


def test_a_page_says_what_it_may_load(running: Running) -> None:
    answer = asked(running, "/")
    assert answer.status == 200
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("GET", {"Host": "evil.example:80"}),
        ("GET", {"Host": "127.0.0.1:1"}),
        ("GET", {"Origin": "http://evil.example"}),
        ("GET", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"}),
        ("GET", {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"}),
        ("POST", {}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Origin": "http://127.0.0.1:1"}),
        ("POST", {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}),
    ],
)
def test_strangers_are_refused(running: Running, method: str, headers: dict[str, str]) -> None:
    path = "/" if method == "GET" else "/photos/demo/chelsea.png"
    assert asked(running, path, method, **headers).status == 403


def test_the_apps_own_pages_and_links_are_let_in(running: Running) -> None:
    assert asked(running, "/photos/demo/chelsea.png", "POST", Origin=running.address).status == 200
    link = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert asked(running, "/browse", **link).status == 200


def test_more_than_a_photo_is_not_read(running: Running) -> None:
    answer = asked(running, "/photos?name=big.png", "POST", b"x", Origin=running.address, Content_Length="41000000")
    assert answer.status == 413
    assert "'big.png' has more than 40 MB" in answer.text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/browse/file/plan.yaml", 404),
        ("/browse/file/images/../plan.yaml", 404),
        ("/browse/file/images/..%2F..%2Fsecret/x.png", 404),
        ("/forge/nobody", 404),
        ("/forge/nobody/file", 404),
        ("/photos/nobody", 404),
        ("/photos/demo/..%2Fsecret", 404),
        ("/classifier?name=hf:somebody/else", 400),
        ("/static/../server.py", 404),
    ],
)
def test_nothing_else_is_given_away(running: Running, path: str, status: int) -> None:
    assert asked(running, path).status == status


@pytest.mark.parametrize(
    ("form", "said"),
    [
        (b"no json", "sent no form"),
        (b"[]", "sent no form"),
        (b"{}", "The photo: field required"),
        (b'{"photo": "x", "classifier": "c", "interpreter": "cam", "eps": 0}', "greater than or equal to 1"),
        (b'{"photo": "x", "classifier": "c", "interpreter": "cam", "more": 1}', "not permitted"),
        (b'{"photo": "x", "classifier": "c", "interpreter": "cam"}', "give it again"),
    ],
)
def test_a_bad_form_is_told(running: Running, form: bytes, said: str) -> None:
    answer = asked(running, "/forge", "POST", form, Origin=running.address)
    assert answer.status in (400, 404)
    assert said in answer.text
