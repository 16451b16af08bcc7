"""A running app with an audit and an alarm, and a real browser that tells everything that it is asked for."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import torch
import uvicorn

from support.audits import audit_of
from support.e2e import photos
from support.running import Running
from underfire.app.server import Choice, _listening, application

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from underfire.classifiers.base import TorchClassifier

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Compute with the app’s one thread, whatever other tests have left: more of them sum in another order."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory, lite0: TorchClassifier) -> Iterator[Running]:
    from underfire.defenses.calibrate import calibrate

    folder = tmp_path_factory.mktemp("app")
    alarm = folder / "alarm.json"
    calibrate(lite0, str(photos(folder / "benign", 12)), ("cam", "gradcam"), false_alarms=0.2)[0].write(alarm)
    audit = audit_of(folder / "audit", photos=30, units=4, planned=5)
    listening = _listening(0)
    port = int(listening.getsockname()[1])
    app = application(Choice(audit=audit, alarms=(alarm,), threads=1), port)
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield Running(f"http://127.0.0.1:{port}", app.state.forgeries, audit)
    server.should_exit = True
    thread.join(10)
    listening.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    sync = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    if CHROMIUM is None:
        pytest.skip("needs a browser: apt-get install chromium")
    with sync.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@dataclass
class Tab:
    """A page, and what went wrong in it: requests to elsewhere, errors in its console."""

    page: Page
    faults: list[str] = field(default_factory=list)

    def note(self, what: str, good: bool) -> None:
        """Note what is no good."""
        if not good:
            self.faults.append(what)


@pytest.fixture
def tabs(browser: Browser, running: Running) -> Iterator[Any]:
    """Open tabs; after the test nothing may have left the loopback, and no console may hold an error."""
    opened: list[Tab] = []

    def tab(path: str = "/", mistakes: bool = False, **context: Any) -> Page:
        """Open one; ``mistakes``: the app refuses something there, which the browser's console notes."""
        page = browser.new_context(**context).new_page()
        page.set_default_timeout(30_000)
        one = Tab(page)
        home = (running.address, "data:", "blob:")
        known = "the server responded with a status of 4" if mistakes else "\0"
        page.on("request", lambda r: one.note(r.url, r.url.startswith(home)))
        page.on("console", lambda m: one.note(m.text, m.type != "error" or known in m.text))
        page.on("pageerror", lambda e: one.note(str(e), False))
        page.goto(running.address + path)
        opened.append(one)
        return page

    yield tab
    for one in opened:
        one.page.context.close()
    assert [fault for one in opened for fault in one.faults] == []
