"""The page that forges, in a real browser, on the real network."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image

from underfire.app import forgery
from underfire.images.pixels import forged_note

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from support.running import Running
    from underfire.classifiers.base import TorchClassifier

SHIFTS = """() => { window.shifted = 0; new PerformanceObserver((list) => { for (const one of list.getEntries())
if (!one.hadRecentInput && !document.querySelector("#came")) window.shifted += one.value; }
).observe({ type: "layout-shift", buffered: false }) }"""
"""Counts what shifts until the result has come, which is another page."""


def ready(page: Page, demo: str = "chelsea.png", **fields: str) -> None:
    """Choose a demo photo and fill in the form."""
    page.locator("#interpreter option").nth(3).wait_for(state="attached")
    page.get_by_label(f"Demo photo {demo.split('.', maxsplit=1)[0]}").click()
    page.locator("#go:enabled").wait_for()
    for name, value in fields.items():
        if name == "preset":
            page.select_option(f"#{name}", value)
        else:
            page.fill(f"#{name}", value)


def test_the_demo_photo_is_forged_by_keyboard_alone(tabs: Any, running: Running, lite0: TorchClassifier) -> None:
    page = tabs()
    ready(page, target="espresso (967)")
    page.locator("#more-eyes summary").press("Enter")
    page.locator("#others input[value=inputxgrad]").press("Space")
    page.evaluate(SHIFTS)
    page.locator("#go").press("Enter")
    page.locator("#live").wait_for(state="visible")
    assert page.locator(".bars .wanted .name").inner_text() == "espresso (wanted)"
    assert page.locator(".bars .own .name").inner_text() == "tiger cat (the photo’s own)"
    page.locator("#map").wait_for(state="visible")
    page.locator("#status:text-is('Judging the saved file…'), #came").first.wait_for()
    assert page.evaluate("window.shifted") < 0.001
    page.locator("#came").wait_for()
    assert page.locator("#came .tag").inner_text() == "forged"
    assert page.locator(".onlookers li").count() == 1
    with page.expect_download() as taken:
        page.get_by_text("Download the forged file").click()
    content = Path(taken.value.path()).read_bytes()
    assert taken.value.suggested_filename == "chelsea-forged.png"
    assert forged_note(content) == "adv2 against cam"
    assert hashlib.sha256(content).hexdigest()[:16] in page.locator(".numbers").inner_text()
    _is_what_python_makes(page.locator(".recipes code").first.inner_text(), content)
    slider = page.get_by_label("Where the photo before ends")
    slider.press("ArrowRight")
    assert page.locator("[data-compare] .frame").first.evaluate("e => e.style.getPropertyValue('--cut')") == "51%"
    page.reload()
    page.locator("#came").wait_for()
    assert page.locator("#live").is_visible()


def _is_what_python_makes(recipe: str, content: bytes) -> None:
    """Run the Python of the page."""
    known: dict[str, Any] = {}
    lines = [line for line in recipe.splitlines() if not line.startswith("result.")]
    exec("\n".join(lines), known)
    assert known["result"].files[0] == content


def test_a_search_is_stopped_in_the_middle(tabs: Any) -> None:
    page = tabs()
    ready(page, preset="paper")
    page.locator("#go").click()
    page.locator("#step:text-matches('^[2-9]|[0-9]{2,} of 1600')").wait_for()
    page.locator("#stop").click()
    page.locator("#came").wait_for()
    assert "was stopped at step" in page.locator("#outcome").inner_text()
    page.locator("#go:enabled").wait_for()


def test_closing_the_page_stops_the_search(tabs: Any, running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forgery, "PATIENCE", 0.3)
    page, second = tabs(), tabs()
    for one in (page, second):
        ready(one, preset="paper")
        one.locator("#go").click()
        one.locator("#status:text-matches('Searching|1 other is before')").wait_for()
    first, waits = list(running.forgeries.values())[-2:]
    assert "1 other is before this one" in second.locator("#status").inner_text()
    page.close()
    second.locator("#status:text-is('Searching…')").wait_for()
    assert (first.state, waits.state) == ("left", "running")
    second.locator("#stop").click()
    second.locator("#came").wait_for()


def test_what_is_no_photo_is_told(tabs: Any, tmp_path: Path, running: Running) -> None:
    page = tabs(mistakes=True)
    (tmp_path / "text.png").write_text("hello")
    page.set_input_files("#file", tmp_path / "text.png")
    said = page.locator("#mistake")
    said.wait_for()
    assert said.inner_text() == "'text.png' is no image that can be read: replace or remove it."
    assert page.locator("#go").is_disabled()
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(50_000_000)
    page.set_input_files("#file", tmp_path / "huge.png")
    page.locator("#mistake:text-matches('more than 40 MB')").wait_for()
    Image.new("1", (20_000, 20_000)).save(tmp_path / "bomb.png")
    page.set_input_files("#file", tmp_path / "bomb.png")
    page.locator("#mistake:text-matches('decompression bomb')").wait_for()
    assert page.locator("#go").is_disabled()
