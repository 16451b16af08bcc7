"""The guard: only this machine's browser, only from the app's own pages, and bounded."""

from __future__ import annotations

import pytest
from starlette.datastructures import Headers

from support.running import Running, asked
from underfire.app.guard import Guard


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
        ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}),
        ("GET", {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "cors"}),
        ("POST", {}),
        ("POST", {"Origin": "null"}),
        ("POST", {"Origin": "http://127.0.0.1:1"}),
        ("POST", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}),
    ],
)
def test_strangers_are_refused(running: Running, method: str, headers: dict[str, str]) -> None:
    path = "/" if method == "GET" else "/photos/demo/chelsea.png"
    assert asked(running, path, method, headers=headers).status == 403


def test_the_apps_own_pages_and_links_are_let_in(running: Running) -> None:
    assert asked(running, "/photos/demo/chelsea.png", "POST", headers={"Origin": running.address}).status == 200
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert asked(running, "/browse", headers=link).status == 200


def test_the_usual_port_is_left_out_by_browsers() -> None:
    usual, other = (Guard(None, port) for port in (80, 8765))  # type: ignore[arg-type]
    mine = Headers({"host": "127.0.0.1", "origin": "http://127.0.0.1"})
    assert usual.refusal("POST", mine) is None
    assert usual.refusal("GET", Headers({"host": "127.0.0.1:80"})) is None
    assert other.refusal("POST", mine) is not None


def test_more_than_a_photo_is_not_read(running: Running) -> None:
    answer = asked(
        running, "/photos?name=big.png", "POST", b"x", {"Origin": running.address, "Content-Length": "41000000"}
    )
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
    answer = asked(running, "/forge", "POST", form, {"Origin": running.address})
    assert answer.status in (400, 404)
    assert said in answer.text
